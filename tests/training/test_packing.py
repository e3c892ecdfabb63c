"""A pack holds every row whole, and a model reads each row in it as if it were alone."""

import pytest

from tunewise.training.masks import IGNORED, TrainRow
from tunewise.training.packing import common_stem, pack, rows_per_pass, rows_within, tensors


def row(prompt: str, answer: str) -> TrainRow:
    return TrainRow(prompt, tuple(map(ord, prompt)), tuple(map(ord, answer)))


GROUPS = {
    "shared beginning": [row("abcde", "XY"), row("abcfgh", "Z"), row("abq", "XYZ")],
    "nothing shared": [row("abc", "X"), row("bcd", "Y")],
    "the same prompt twice": [row("abc", "XY"), row("abc", "Z")],
    "one prompt inside another": [row("abc", "X"), row("abcde", "Y")],
    "one row": [row("abc", "XY")],
    "prompts of one token": [row("a", "X"), row("a", "Y")],
}


@pytest.mark.parametrize("rows", GROUPS.values(), ids=GROUPS.keys())
def test_stem_is_the_common_beginning_short_of_any_prompts_last_token(rows):
    prompts = [r.prompt for r in rows]
    shared = max(
        n for n in range(9) if len({prompt[:n] for prompt in prompts}) == 1 and n <= min(map(len, prompts))
    )
    assert common_stem(rows) == min(shared, min(len(r.prompt) for r in rows) - 1)


@pytest.mark.parametrize("rows", GROUPS.values(), ids=GROUPS.keys())
def test_stem_and_segment_give_back_every_row(rows):
    packed = pack(rows)
    for number, one in enumerate(rows, start=1):
        places = [place for place, segment in enumerate(packed.segments) if segment in (0, number)]
        assert tuple(packed.ids[place] for place in places) == one.ids
        assert [packed.positions[place] for place in places] == list(range(len(one)))


@pytest.mark.parametrize("rows", GROUPS.values(), ids=GROUPS.keys())
def test_each_target_is_predicted_from_the_place_before_it_in_its_row(rows):
    packed = pack(rows)
    assert packed.targets == [token for one in rows for token in one.answer]
    assert len(set(packed.kept)) == len(packed.kept)
    wanted = [
        (number, place)
        for number, one in enumerate(rows, start=1)
        for place in range(len(one.prompt) - 1, len(one) - 1)
    ]
    assert [(packed.segments[p], packed.positions[p]) for p in packed.kept] == wanted


def test_no_rows_share_nothing():
    assert common_stem([]) == 0


def test_a_model_reads_each_row_of_a_pack_as_if_it_were_alone(tiny, rows):
    import torch

    from tunewise.models.weights import load_model
    from tunewise.training.trust import answer_logits

    model = load_model(tiny)
    given = tensors(rows[:5])
    given = {name: value for name, value in given.items() if name not in ("labels", "shift_labels")}
    with torch.no_grad():
        logits = model(**given, use_cache=False).logits[0]
    alone = torch.cat([answer_logits(model, one) for one in rows[:5]])
    together = logits[: len(alone)]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", GROUPS.values(), ids=GROUPS.keys())
def test_a_token_sees_itself_and_what_comes_before_it_in_its_own_row(rows):
    packed, given = pack(rows), tensors(rows)
    mask = given["attention_mask"][0, 0]
    assert mask.shape == (64, 64)
    for query in range(64):
        seen = set(mask[query].nonzero().flatten().tolist())
        if query >= len(packed.ids):
            assert seen == {query}
            continue
        own = (0, packed.segments[query])
        assert seen == {place for place in range(query + 1) if packed.segments[place] in own}


def test_what_fills_up_a_pack_carries_no_loss():
    given = tensors(GROUPS["shared beginning"])
    assert given["input_ids"].shape == given["position_ids"].shape == (1, 64)
    assert given["labels"].tolist() == given["shift_labels"].tolist()
    assert given["labels"][0].tolist() == [ord(letter) for letter in "XYZXYZ"] + [IGNORED] * 10
    assert len(given["logits_to_keep"]) == 16


SHAPE = {"width": 64, "layers": 4, "parameters": 10**6, "vocabulary": 100}


def test_a_long_common_beginning_is_read_as_seldom_as_possible():
    rows = [row("s" * 200 + chr(97 + n), "X") for n in range(8)]
    assert rows_per_pass(rows, 8, **SHAPE) == 8


def test_long_rows_with_nothing_in_common_are_not_packed():
    rows = [row(chr(97 + n) * 3000, "X") for n in range(8)]
    assert rows_per_pass(rows, 8, **SHAPE) == 1


def test_rows_per_pass_divides_the_batch_and_keeps_logits_small():
    rows = [row("s" * 9 + chr(97 + n), "X" * 600) for n in range(6)]
    assert 6 % rows_per_pass(rows, 6, **SHAPE) == 0
    # 600 answer tokens * 4 bytes * 110,000 = 264 MB for one row: two pass 512 MiB
    assert rows_per_pass(rows, 6, **{**SHAPE, "parameters": 10**9, "vocabulary": 110_000}) == 2
    assert rows_per_pass(rows, 6, **{**SHAPE, "vocabulary": 10**9}) == 1


def test_rows_of_a_pass_without_a_mask_are_as_many_of_the_batch_as_its_tokens_hold():
    # 100 shared tokens and 101 of their own each: four rows take 504 tokens, eight 908, sixteen 1,716
    rows = [row("s" * 100 + chr(97 + n) * 100, "X") for n in range(16)]
    assert [rows_within(rows, batch) for batch in (4, 8, 16, 6)] == [4, 8, 8, 6]
    assert rows_within([row("s" * 3000, "X")], 8) == 1
