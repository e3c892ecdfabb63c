"""Stable parts: near-duplicates and groups stay together, appended rows never move certification rows."""

import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise.data import Example, Message, example_key, read_examples
from tunewise.errors import DataError
from tunewise.near import near_to, normalised, shingles
from tunewise.splits import Parts, certification_order, parts_from_files, split_examples
from tunewise.task import Split

HALF = Split(train=0.3, selection=0.2, certification=0.5)


def example(
    text: str, output: str = "x", group: str | None = None, line: int = 1, system: str = ""
) -> Example:
    turns = (*([Message("system", system)] if system else []), Message("user", text))
    return Example(
        example_key(turns, [output]), turns, (output,), group=group, source="rows.jsonl", line=line
    )


def unlike(count: int, groups: int = 0, start: int = 0) -> list[Example]:
    """Rows that share no word; with ``groups`` each belongs to one of that many groups."""
    return [
        example(f"a{n} b{n} c{n} d{n}", group=f"g{n % groups}" if groups else None, line=n + 1)
        for n in range(start, start + count)
    ]


def part_of(parts: Parts) -> dict[str, str]:
    names = ("train", "selection", "certification")
    return {row.key: name for name in names for row in getattr(parts, name)}


def jaccard(one: str, other: str) -> float:
    """The definition, by hand: shared word 3-grams over all word 3-grams, the whole text below 3 words."""

    def grams(text: str) -> set[str]:
        words = re.findall(r"\w+", text.lower())
        return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


# Texts of few words over a small alphabet, so that near-duplicates of every degree come up.
texts = st.lists(st.sampled_from("abcd"), min_size=1, max_size=14).map(" ".join)


@given(st.lists(texts, min_size=1, max_size=30), st.lists(texts, min_size=1, max_size=30))
def test_near_pairs_are_exactly_those_of_the_definition(some: list[str], others: list[str]) -> None:
    found = near_to(*([shingles(normalised(text)) for text in many] for many in (some, others)))
    for text, (numbers, similar) in zip(some, found, strict=True):
        right = {n: jaccard(text, other) for n, other in enumerate(others) if jaccard(text, other) >= 0.8}
        assert dict(zip(numbers.tolist(), similar.tolist(), strict=True)) == pytest.approx(right)


@pytest.mark.parametrize(("heavy", "block"), [(0.0, 7), (2.0, 7), (0.3, 100)])
def test_near_pairs_do_not_depend_on_how_they_are_computed(
    heavy: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(3)
    some = [shingles(" ".join(rng.choices("abc", k=rng.randint(1, 9)))) for _ in range(80)]
    plain = [numbers.tolist() for numbers, _ in near_to(some, some)]
    monkeypatch.setattr("tunewise.near.HEAVY_SHARE", heavy)
    monkeypatch.setattr("tunewise.near.BLOCK", block)
    assert [numbers.tolist() for numbers, _ in near_to(some, some)] == plain
    assert sum(map(len, plain)) > len(some)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello,  World!", "hello world"),
        ("ＡＢＣ straße", "abc STRASSE"),
        ("don't", "don t"),
        ("café", "cafe\u0301"),
    ],
)
def test_normalised_texts_agree_where_only_case_marks_and_spaces_differ(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_texts_without_words_keep_their_characters() -> None:
    assert normalised("?!") != normalised("!?")
    assert len(shingles(normalised("これは犬です"))) == 4  # scripts without spaces: one character is one word


def test_short_inputs_are_compared_as_a_whole() -> None:
    rows = [example("Hello you"), example("hello, you!", "y"), example("hello me"), *unlike(60)]
    parts = split_examples(rows, HALF)
    of = part_of(parts)
    assert of[rows[0].key] == of[rows[1].key]
    assert parts.clusters == 62


def test_the_shares_come_out_as_asked() -> None:
    rows = unlike(10_000)
    parts = split_examples(rows, Split())
    sizes = [len(part) / 10_000 for part in (parts.train, parts.selection, parts.certification)]
    # Each row falls independently: a standard deviation of at most 0.005; four of them.
    assert sizes == pytest.approx([0.50, 0.15, 0.35], abs=0.02)
    assert parts.clusters == 10_000


def test_every_row_stands_in_one_part_in_file_order() -> None:
    rows = unlike(200)
    parts = split_examples(rows, Split())
    for part in (parts.train, parts.selection, parts.certification):
        assert list(part) == sorted(part, key=lambda row: row.line)
    assert sorted([*parts.train, *parts.selection, *parts.certification], key=lambda r: r.line) == rows


def test_a_part_follows_from_content_and_not_from_place_or_company() -> None:
    rows = unlike(300)
    shuffled = random.Random(1).sample(rows, 300)
    assert part_of(split_examples(rows, HALF)) == part_of(split_examples(shuffled, HALF))
    fewer = part_of(split_examples(rows[:100], HALF))
    assert fewer.items() <= part_of(split_examples(rows, HALF)).items()


def test_a_larger_certification_share_keeps_all_certification_rows() -> None:
    rows = unlike(300)
    small = split_examples(rows, Split(train=0.6, selection=0.1, certification=0.3))
    large = split_examples(rows, Split(train=0.3, selection=0.1, certification=0.6))
    assert set(small.certification) < set(large.certification)


words = [f"word{n}" for n in range(16)]


@st.composite
def growing_rows(draw: st.DrawFn) -> tuple[list[Example], int]:
    """80 unlike rows, then many near-duplicates, perhaps grouped; and how many stood there at first."""
    grouped = draw(st.booleans())
    rows = unlike(80, groups=80 if grouped else 0)
    for number in range(draw(st.integers(1, 25))):
        text = draw(st.lists(st.sampled_from(words[: draw(st.integers(1, 16))]), min_size=1, max_size=12))
        group = f"h{draw(st.integers(0, 6))}" if grouped else None
        rows.append(example(" ".join(text), str(number), group))
    return rows, draw(st.integers(80, len(rows)))


@settings(max_examples=150, deadline=None)
@given(growing_rows())
def test_appended_rows_never_take_a_row_out_of_certification(drawn: tuple[list[Example], int]) -> None:
    rows, before = drawn
    earlier, later = split_examples(rows[:before], HALF), split_examples(rows, HALF)
    assert set(earlier.certification) <= set(later.certification)
    assert set(earlier.selection) <= {*later.selection, *later.certification}


@settings(max_examples=100, deadline=None)
@given(growing_rows())
def test_near_duplicates_and_groups_never_stand_in_two_parts(drawn: tuple[list[Example], int]) -> None:
    rows, _ = drawn
    of = part_of(split_examples(rows, HALF))
    for one, other in combinations(rows, 2):
        same_group = one.group is not None and one.group == other.group
        if same_group or jaccard(one.input, other.input) >= 0.8:
            assert of[one.key] == of[other.key]


def bridge() -> tuple[Example, Example, Example]:
    """Two texts that are not near each other, and a third near to both."""
    first = "one two three four five six seven eight nine ten eleven twelve"
    between, last = f"{first} thirteen", f"{first} thirteen fourteen fifteen"
    assert jaccard(first, between) >= 0.8
    assert jaccard(between, last) >= 0.8
    assert jaccard(first, last) < 0.8
    return example(first), example(last), example(between)


@pytest.mark.parametrize(
    "pair", [("train", "selection"), ("train", "certification"), ("selection", "certification")]
)
def test_a_row_between_two_clusters_merges_them_into_the_later_part(pair: tuple[str, str]) -> None:
    low, high = pair
    first, last, between = bridge()
    # Outputs are chosen so that the two clusters fall into the wanted parts.
    alone = {}
    for row, wanted in ((first, low), (last, high)):
        versions = (example(row.input, str(n)) for n in range(100))
        alone[wanted] = next(
            v for v in versions if part_of(split_examples([*unlike(80), v], HALF))[v.key] == wanted
        )
    rows = [*unlike(80), alone[low], alone[high]]
    of = part_of(split_examples(rows, HALF))
    assert (of[alone[low].key], of[alone[high].key]) == pair
    merged = part_of(split_examples([*rows, between], HALF))
    assert {merged[row.key] for row in (alone[low], alone[high], between)} == {high}


def test_all_rows_of_a_group_stay_in_one_part() -> None:
    parts = split_examples(unlike(600, groups=60), HALF)
    of = part_of(parts)
    seen: dict[str | None, set[str]] = {}
    for row in unlike(600, groups=60):
        seen.setdefault(row.group, set()).add(of[row.key])
    assert all(len(names) == 1 for names in seen.values())
    assert parts.clusters == 60


def test_the_part_of_a_group_does_not_depend_on_its_rows() -> None:
    one = split_examples(unlike(60, groups=60), HALF)
    other = split_examples(unlike(60, groups=60, start=600), HALF)
    assert {row.group for row in one.certification} == {row.group for row in other.certification}


def test_certification_order_is_random_by_seed_and_keeps_all_rows() -> None:
    parts = split_examples(unlike(400), Split())
    orders = [certification_order(parts, seed) for seed in range(3)]
    assert all(sorted(o, key=lambda r: r.line) == list(parts.certification) for o in orders)
    assert len({tuple(row.key for row in order) for order in orders}) == 3
    assert certification_order(parts, 0) == orders[0]


def test_appended_rows_leave_the_order_of_the_others() -> None:
    rows = unlike(400)
    fewer = certification_order(split_examples(rows[:200], Split()), 7)
    more = certification_order(split_examples(rows, Split()), 7)
    assert [row for row in more if row in fewer] == list(fewer)


def test_with_groups_the_order_has_one_random_row_of_each() -> None:
    parts = split_examples(unlike(1000, groups=100), HALF)
    order = certification_order(parts, 0)
    assert {row.group for row in order} == {row.group for row in parts.certification}
    assert len({row.group for row in order}) == len(order)
    picks = Counter(row.line for seed in range(40) for row in certification_order(parts, seed))
    assert len(picks) > 0.9 * len(parts.certification)  # every row of a group can be its pick


def test_large_groups_do_not_come_first() -> None:
    """Were groups ordered by their picked row's hash, the least of many, large ones would lead."""
    rows = [example(f"a{n} b{n} c{n}", group=f"g{n if n < 50 else 50 + n % 50}") for n in range(1050)]
    parts = parts_from_files([], [], rows)
    places = [
        place
        for seed in range(40)
        for place, row in enumerate(certification_order(parts, seed))
        if int(str(row.group)[1:]) >= 50
    ]
    # The mean place of 50 of 100 in random order is 49.5, its standard deviation 2.05 (finite population),
    # over 40 seeds 0.32; ordered by the least of 20 hashes, large groups would come to about 27.
    assert sum(places) / len(places) == pytest.approx(49.5, abs=1.6)


def test_below_16_certification_rows_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        split_examples(unlike(20), Split())
    message = str(caught.value)
    assert re.match(
        r"certification needs at least 16 rows for a verdict, got \d+ rows; add rows \(20 now\)", message
    )
    with pytest.raises(DataError, match="got 15 rows; add rows to the certification file"):
        parts_from_files(unlike(5), unlike(5, start=10), unlike(15, start=20))
    assert len(parts_from_files([], [], unlike(16)).certification) == 16


def test_with_groups_it_is_groups_that_count() -> None:
    with pytest.raises(DataError, match="at least 16 groups for a verdict, got 3 groups in 60 rows"):
        parts_from_files([], [], unlike(60, groups=3))


def test_empty_parts_and_dependent_rows_are_noted() -> None:
    parts = split_examples(unlike(200, groups=50), Split(train=0, selection=0, certification=1))
    assert len(parts.certification) == 200
    assert [note.split(":")[0] for note in parts.notes[:2]] == [
        "the train part is empty",
        "the selection part is empty",
    ]
    assert parts.notes[2].startswith("certification takes one random row of each of its 50 groups (200 rows)")


def test_a_preamble_that_all_rows_share_is_noted() -> None:
    preamble = " ".join(f"word{n}" for n in range(60))
    rows = [*unlike(60), *(example(f"{preamble} tail{n}", line=n) for n in range(60))]
    parts = split_examples(rows, HALF)
    assert parts.clusters == 61
    assert parts.notes[-1].startswith("60 of 120 rows form one cluster (the first: rows.jsonl, line 0)")


LONG = "please tell me where my new card is now and when it will arrive here"


@pytest.mark.parametrize(
    ("text", "other", "kind", "blocked"),
    [
        (LONG, LONG, "exact", True),
        (LONG, LONG.upper() + "?!", "normalised", True),
        (LONG, LONG + " today", "near", False),
    ],
)
@pytest.mark.parametrize("part", ["train", "selection"])
def test_overlaps_of_the_users_parts_are_found(
    text: str, other: str, kind: str, blocked: bool, part: str
) -> None:
    certification = [*unlike(20), example(text, line=21)]
    learned = [example(other, line=7)]
    parts = (
        parts_from_files(learned, unlike(5, start=90), certification)
        if part == "train"
        else parts_from_files(unlike(5, start=90), learned, certification)
    )
    (overlap,) = parts.overlaps
    assert (overlap.kind, overlap.part, overlap.certification.line, overlap.other.line) == (kind, part, 21, 7)
    assert overlap.similarity == pytest.approx(jaccard(text, other))
    reason = parts.blocked_reason()
    assert (reason is not None) == blocked
    if reason is not None:
        assert "1 certification row also" in reason
        assert f"(the first: rows.jsonl, line 21, and rows.jsonl, line 7 in {part})" in reason
    assert parts.blocked_reason({"train", "selection"} - {part}) is None
    assert parts.near_keys() == (set() if blocked else {certification[-1].key})


def test_the_system_turn_makes_no_difference_to_an_overlap() -> None:
    certification = [*unlike(20), example(LONG, system="Be kind.")]
    parts = parts_from_files([example(LONG, system="Be brief.")], [], certification)
    assert [overlap.kind for overlap in parts.overlaps] == ["exact"]


def test_the_same_last_turn_after_another_talk_is_only_near() -> None:
    def talk(first: str) -> Example:
        turns = (Message("user", first), Message("assistant", "ok"), Message("user", LONG))
        return Example(example_key(turns, ["x"]), turns, ("x",))

    parts = parts_from_files([talk("hello there")], [], [*unlike(20), talk("goodbye now")])
    assert [(overlap.kind, overlap.similarity) for overlap in parts.overlaps] == [("near", 1.0)]


def test_groups_that_stand_on_both_sides_are_noted() -> None:
    parts = parts_from_files(unlike(20, groups=5, start=100), unlike(3, start=50), unlike(80, groups=20))
    assert parts.notes[-1].startswith("5 of the 20 certification groups also stand in train or selection")


def test_ten_thousand_rows_split_in_seconds() -> None:
    rng = random.Random(0)
    vocabulary = [f"w{n}" for n in range(500)]
    rows: list[Example] = []
    for n in range(10_000):
        many: Sequence[str] = rng.choices(vocabulary, k=rng.randint(3, 25))
        rows.append(example(" ".join(many), str(n)))
    begun = time.perf_counter()
    parts = split_examples(rows, Split())
    assert time.perf_counter() - begun < 30  # 1.5 s on a quiet machine
    assert parts.clusters > 9_900


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data are not here")
def test_real_rows_split_as_asked_and_their_near_duplicates_stay_together() -> None:
    rows = read_examples(SHARED / "intent_banking77" / "banking77_train.jsonl").examples
    parts = split_examples(rows, Split())
    assert [len(parts.train), len(parts.selection), len(parts.certification)] == pytest.approx(
        [5000, 1500, 3500], rel=0.05
    )
    of = part_of(parts)
    first: dict[str, str] = {}
    for row in rows:
        assert first.setdefault(normalised(row.input), of[row.key]) == of[row.key]
    assert parts.clusters < len(rows)


def test_selection_without_what_stands_in_certification_drops_every_row_of_the_same_words() -> None:
    twice = [example(LONG, line=7), example(LONG.upper() + "!", line=8, output="other")]
    parts = parts_from_files([], [*unlike(5, start=90), *twice], [*unlike(20), example(LONG, line=21)])
    assert [row.line for row in parts.clean_selection()] == [row.line for row in unlike(5, start=90)]
    assert len(parts.selection) == 7


def chat(*texts: str, output: str, line: int = 1) -> Example:
    """A chat of user and assistant turns, the last one the user's."""
    turns = tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts))
    return Example(example_key(turns, [output]), turns, (output,), source="rows.jsonl", line=line)


def test_the_rows_that_one_chat_was_cut_into_stay_in_one_part() -> None:
    """A later row shows the earlier row's question and answer, so that one of them in train gives it away."""
    rows = []
    for n in range(60):
        first, second = f"q{n} a{n} b{n} c{n}", f"next{n} d{n} e{n} f{n}"
        rows += [chat(first, output=f"Answer {n}."), chat(first, f"answer {n}", second, output="x")]
    parts = split_examples(rows, HALF)
    where = part_of(parts)
    assert parts.clusters == 60
    assert all(where[rows[n].key] == where[rows[n + 1].key] for n in range(0, 120, 2))
    other = [*unlike(60), chat("q a b c", output="no"), chat("q a b c", "yes", "d e f g", output="x")]
    assert split_examples(other, HALF).clusters == 62  # another answer than the row's own: nothing is told


def test_a_canned_opening_does_not_make_one_cluster_of_all_chats() -> None:
    opening = chat("hi", output="Hello! How can I help?")
    talks = [chat("hi", "Hello! How can I help?", f"a{n} b{n} c{n} d{n}", output="x") for n in range(60)]
    parts = split_examples([opening, *talks], HALF)
    assert parts.clusters == 61


def test_the_same_last_words_after_two_talks_are_two_pieces_of_evidence() -> None:
    """Also where each talk is cut into a row per answer: a chat stays together and is read once."""
    whole = Split(train=0, selection=0, certification=1)
    talks = [chat(f"a{n} b{n} c{n} d{n}", f"e{n} f{n}?", "yes please", output=f"{n}") for n in range(40)]
    parts = split_examples(talks, whole)
    assert parts.clusters == 40
    assert len(certification_order(parts, 0)) == 40
    cut_up = [
        row
        for n in range(40)
        for row in (
            chat(f"a{n} b{n} c{n} d{n}", output=f"e{n} f{n}"),
            chat(f"a{n} b{n} c{n} d{n}", f"E{n} f{n}.", "thanks", output="You are welcome."),
        )
    ]
    assert split_examples(cut_up, whole).clusters == 40
    assert len(certification_order(split_examples(cut_up, whole), 0)) == 40
    again = [*talks, chat("A0, b0 c0 d0", "e0 f0", "Yes, please!", output="other")]
    assert len(certification_order(split_examples(again, whole), 0)) == 40
    cut = [*unlike(20), chat("q a b c", output="Yes."), chat("q a b c", "yes", "d e f g", output="x")]
    assert len(certification_order(split_examples(cut, whole), 0)) == 21


def test_a_given_row_that_an_earlier_turn_elsewhere_answers_blocks_what_learns_from_it() -> None:
    certification = [*unlike(20), chat("q a b c", output="Yes.", line=21)]
    told = chat("q a b c", "yes", "d e f g", output="x", line=7)
    parts = parts_from_files([told], [], certification)
    (overlap,) = parts.overlaps
    assert (overlap.kind, overlap.certification.line, overlap.other.line) == ("exact", 21, 7)
    assert parts.blocked_reason() is not None
    assert parts_from_files([certification[-1]], [], [*unlike(20), told]).overlaps == ()


def test_of_a_cluster_that_the_split_drew_certification_reads_one_row() -> None:
    words = " ".join(f"w{n}" for n in range(30))
    copies = [example(f"{words} {n}", line=n) for n in range(12)]
    parts = split_examples([*unlike(100), *copies], Split(train=0, selection=0, certification=1))
    assert len(parts.certification) == 112
    order = certification_order(parts, 0)
    assert len(order) == 101
    assert sum(row in copies for row in order) == 1
    assert "certification reads 101 of its 112 rows: of near-duplicates" in str(parts.notes)
    given = parts_from_files([], [], [*unlike(100), *copies])
    assert len(certification_order(given, 0)) == 112  # the user's own sample


def test_selection_rows_that_stand_in_train_are_noted() -> None:
    parts = parts_from_files([example(LONG, line=3)], [example(LONG + " today", line=9)], unlike(20))
    assert any("1 of 1 selection rows also stand in train, or nearly (the first: rows.jsonl, line 9" in n
               for n in parts.notes)  # fmt: skip


def test_too_few_rows_because_of_one_large_cluster_say_so() -> None:
    preamble = " ".join(f"word{n}" for n in range(60))
    rows = [*(example(f"{preamble} tail{n}", line=n) for n in range(90)), *unlike(10)]
    with pytest.raises(DataError, match=r"90 of 100 rows form one cluster .* move it into 'instruction'"):
        split_examples(rows, HALF)
