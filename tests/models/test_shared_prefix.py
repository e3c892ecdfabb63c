"""Tokens equal those of transformers' plain generate, whatever is shared, dropped or cut in pieces."""

import math
import random
from collections import Counter
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402
from tunewise.models import joint_attention, shared_prefix
from tunewise.models.joint_attention import PrefixKV
from tunewise.models.packed_linear import PackedLinear, can_pack
from tunewise.models.plain_generation import PlainGenerator
from tunewise.models.shared_prefix import JointGenerator, PrefixStore, common_start, generator_for
from tunewise.models.writing import Prompt

NO_STOP = frozenset({0})


@pytest.fixture
def model(make_model):
    return make_model()


def tokens_of(seed: int, count: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(6, 290) for _ in range(count))


def prompts(shared: int, lengths: list[int], longest: int = 24, **options) -> list[Prompt]:
    start = tokens_of(0, shared)
    return [Prompt(start + tokens_of(1 + i, n), longest, **options) for i, n in enumerate(lengths)]


def plainly(model, asked: list[Prompt], stops: frozenset[int]) -> list[tuple[int, ...]]:
    """Each prompt alone through ``generate`` with the model's own attention."""
    answers = []
    for prompt in asked:
        ids = torch.tensor([prompt.tokens])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=prompt.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=0,
        )
        answers.append(tuple(out[0, ids.shape[1] :].tolist()))
    return answers


def frequent(answers: list[tuple[int, ...]], share: float) -> frozenset[int]:
    """Tokens that, taken as stops, end about this share of the answers early."""
    stops: set[int] = set()
    for answer in answers[: round(share * len(answers))]:
        stops.add(answer[len(answer) // 3])
    return frozenset(stops or {0})


@pytest.mark.parametrize("shared", [0, 40])
@pytest.mark.parametrize("early", [0.0, 0.3, 0.9])
def test_tokens_equal_plain_generate(model, shared, early):
    asked = prompts(shared, [9, 1, 30, 4, 4, 17, 2, 26, 11])
    stops = frequent(plainly(model, asked, NO_STOP), early)
    expected = plainly(model, asked, stops)
    generator = generator_for(model, stops, rows=4)
    assert isinstance(generator, JointGenerator)
    written = generator.write(asked)
    assert [w.tokens for w in written] == expected
    assert [w.finish for w in written] == ["stop" if e[-1] in stops else "length" for e in expected]


def test_answers_longer_than_the_spare_columns_equal_plain_generate(model):
    asked = prompts(20, [3, 8], longest=2 * joint_attention.SPARE_COLUMNS + 5)
    expected = plainly(model, asked, NO_STOP)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected


def test_different_lengths_of_answer_in_one_batch(model):
    asked = [Prompt(p.tokens, 3 + 7 * i) for i, p in enumerate(prompts(20, [5, 2, 9]))]
    expected = plainly(model, asked, NO_STOP)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected


@pytest.mark.parametrize(
    ("name", "value"), [("PREFILL_TOKENS", 8), ("PREFILL_SCORES", 900), ("ROWS_BYTES", 9000)]
)
def test_bounds_of_memory_change_nothing_but_memory(model, monkeypatch, name, value):
    asked = prompts(30, [9, 1, 30, 4, 17, 40])
    expected = plainly(model, asked, NO_STOP)
    monkeypatch.setattr(shared_prefix, name, value)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected


def test_a_shared_prefix_is_read_once_for_all_batches_and_later_calls(model, monkeypatch):
    generator = generator_for(model, NO_STOP, rows=2)
    widths = []
    forward = JointGenerator.forward

    def counted(self, kv, ids, rows, column, guessed=None):
        widths.append(ids.numel())
        return forward(self, kv, ids, rows, column, guessed)

    monkeypatch.setattr(JointGenerator, "forward", counted)
    asked = prompts(50, [4, 5, 6, 4, 5, 6], longest=1)
    first = generator.write(asked)
    assert [w.cached for w in first] == [0, 50, 50, 50, 50, 50]
    assert widths == [
        50,
        6 + 6,
        5 + 5,
        4 + 4,
    ]  # the prefix once, then the suffixes, rows of one length together
    widths.clear()
    again = generator.write(asked)
    assert [w.cached for w in again] == [50] * 6
    assert widths == [6 + 6, 5 + 5, 4 + 4]
    assert [w.tokens for w in again] == [w.tokens for w in first]


def test_lone_prompts_share_what_they_have_in_common(model):
    asked = prompts(50, [4, 5, 6])
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    written = [generator.write([prompt])[0] for prompt in asked]
    assert [w.tokens for w in written] == expected
    assert [w.cached for w in written] == [0, 50, 50]


def test_a_longer_prefix_builds_on_a_shorter_one(model):
    longer = [Prompt(tokens_of(0, 50) + tokens_of(9, 30) + tokens_of(i, 5), 12) for i in range(20, 23)]
    expected = plainly(model, longer, NO_STOP)
    generator = generator_for(model, NO_STOP)
    generator.write(prompts(50, [4, 5]))
    written = generator.write(longer)
    assert [w.cached for w in written] == [50, 80, 80]
    assert [w.tokens for w in written] == expected


def test_identical_prompts_each_get_the_answer(model):
    asked = prompts(20, [5]) * 3
    expected = plainly(model, asked[:1], NO_STOP)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected * 3


def test_a_prompt_that_is_the_start_of_another(model):
    long = tokens_of(4, 60)
    asked = [Prompt(long, 10), Prompt(long[:33], 10)]
    expected = plainly(model, asked, NO_STOP)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected


def test_no_prompts_no_answers(model):
    assert generator_for(model, NO_STOP).write([]) == []


def test_a_sampled_answer_depends_on_its_seed_and_prompt_only(model):
    generator = generator_for(model, NO_STOP)
    asked = prompts(20, [5, 9, 3], temperature=1.0, seed=4)
    together = [w.tokens for w in generator.write(asked)]
    assert [generator.write([prompt])[0].tokens for prompt in asked] == together
    other = [Prompt(p.tokens, p.max_new_tokens, 1.0, 5) for p in asked]
    assert [w.tokens for w in generator.write(other)] != together


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_tokens_are_drawn_in_proportion_to_the_softmax(model, temperature):
    start = tokens_of(3, 20)
    logits = model(torch.tensor([start])).logits[0, -1].detach().double()
    odds = torch.softmax(logits / temperature, -1).tolist()
    count = 4000
    asked = [Prompt(start, 1, temperature, seed) for seed in range(count)]
    drawn = Counter(w.tokens[0] for w in generator_for(model, NO_STOP, rows=2000).write(asked))
    apart = sum(abs(drawn[token] / count - p) for token, p in enumerate(odds)) / 2
    expected = sum((2 * p * (1 - p) / (math.pi * count)) ** 0.5 for p in odds) / 2
    assert apart < 2 * expected  # mean absolute deviation of a multinomial's shares, summed over tokens


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral", "granite", "gpt2"])
def test_llama_like_models_attend_jointly(make_model, kind):
    settings = {"sliding_window": None} if kind == "mistral" else {}
    settings |= {"num_key_value_heads": None} if kind == "gpt2" else {}
    model = make_model(kind, **settings)
    asked = prompts(30, [9, 1, 12])
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    assert isinstance(generator, JointGenerator)
    assert [w.tokens for w in generator.write(asked)] == expected


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mistral", {"sliding_window": 16}),
        ("gemma2", {"sliding_window": 16}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}),
    ],
)
def test_other_models_answer_as_generate_does(make_model, kind, settings):
    model = make_model(kind, **settings)
    asked = prompts(30, [9, 1, 9, 12])
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    assert isinstance(generator, PlainGenerator)
    written = generator.write(asked)
    assert [w.tokens for w in written] == expected
    assert [w.cached for w in written] == [0, 0, 0, 0]


def test_the_plain_way_draws_the_same_tokens(model):
    asked = prompts(20, [5, 5, 3], temperature=1.0, seed=4)
    plain = PlainGenerator(model, NO_STOP).write(asked)
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == [w.tokens for w in plain]


def test_a_model_that_our_attention_does_not_fit_fails_the_trial(model, monkeypatch):
    asked = prompts(30, [9, 1])
    expected = plainly(model, asked, NO_STOP)
    nothing = lambda self, layer, weights: weights.new_zeros(*weights.shape[:2], 8)  # noqa: E731
    monkeypatch.setattr(joint_attention.SharedPrefix, "mixed", nothing)
    monkeypatch.setattr(shared_prefix, "_passed", set())
    for _ in range(2):  # what fails is not remembered as passed
        generator = generator_for(model, NO_STOP)
        assert isinstance(generator, PlainGenerator)
        assert [w.tokens for w in generator.write(asked)] == expected


def test_a_model_whose_code_asks_its_layers_for_weights_answers_plainly_in_either_precision(
    make_model, monkeypatch
):
    from transformers.models.llama.modeling_llama import LlamaMLP

    inner = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: inner(self, x.to(self.up_proj.weight.dtype)))
    monkeypatch.setattr(shared_prefix, "_passed", set())
    asked = prompts(30, [9, 1])
    for precision in ("bf16", "fp32"):
        generator = generator_for(make_model(), NO_STOP, precision=precision)
        assert isinstance(generator, PlainGenerator) is can_pack(make_model())
        assert len(generator.write(asked)) == 2


def test_the_trial_is_held_once_for_each_kind_of_model(make_model, monkeypatch):
    held, trial = [], JointGenerator.agrees_with
    monkeypatch.setattr(JointGenerator, "agrees_with", lambda self, *a: held.append(self) or trial(self, *a))
    monkeypatch.setattr(shared_prefix, "_passed", set())
    asked = prompts(30, [9, 1])
    for kind, settings, count in (("llama", {}, 1), ("llama", {}, 1), ("llama", {"rms_norm_eps": 1e-3}, 2)):
        model = make_model(kind, **settings)
        model.lm_head.weight.data.mul_(1 + len(held))  # other weights are the same kind
        expected = plainly(model, asked, NO_STOP)
        generator = generator_for(model, NO_STOP)
        assert isinstance(generator, JointGenerator)
        assert any(isinstance(layer, PackedLinear) for layer in model.modules()) is can_pack(model)
        assert [w.tokens for w in generator.write(asked)] == expected
        assert len(held) == count


def test_joint_attention_is_ordinary_attention():
    """Against the definition in float64: softmax over prefix and own columns of Q K^T / sqrt(D), times V."""
    torch.manual_seed(0)
    rows, heads, kv_heads, width, size, length, pads = 3, 6, 2, 4, 8, 21, [0, 2, 5]
    prefix = [torch.randn(kv_heads, length, size, dtype=torch.float64) for _ in range(2)]
    own = [torch.randn(rows, kv_heads, 9, size, dtype=torch.float64) for _ in range(2)]
    query = torch.randn(rows, heads, width, size, dtype=torch.float64)
    shared = joint_attention.SharedPrefix(
        PrefixKV(tuple(range(length)), ((prefix[0], prefix[1]),)), packed=False
    )
    kv = joint_attention.RowsKV(pads, 9, shared, torch.device("cpu"))
    kv.aim(slice(0, 3), 0, 5)
    kv.update(own[0][:, :, :5], own[1][:, :, :5], 0)
    positions = kv.aim(slice(0, 3), 5, width)
    keys, values = kv.update(own[0][:, :, 5:], own[1][:, :, 5:], 0)
    came, _ = joint_attention.attend(SimpleNamespace(layer_idx=0), query, keys, values, None, rows_kv=kv)
    for row, pad in enumerate(pads):
        assert positions[row].tolist() == [length + column - pad for column in range(5, 9)]
        for head in range(heads):
            group = head // (heads // kv_heads)
            for q in range(width):
                seen = slice(pad, 5 + q + 1)
                k = torch.cat((prefix[0][group], own[0][row, group, seen]))
                v = torch.cat((prefix[1][group], own[1][row, group, seen]))
                expected = torch.softmax(k @ query[row, head, q] / size**0.5, 0) @ v
                torch.testing.assert_close(came[row, q, head], expected, rtol=1e-5, atol=1e-6)


def test_common_start_leaves_each_prompt_a_token():
    assert common_start([(1, 2, 3, 4), (1, 2, 3, 5, 6)]) == (1, 2, 3)
    assert common_start([(1, 2, 3), (1, 2, 3)]) == (1, 2)
    assert common_start([(1, 2), (1, 2, 3)]) == (1,)
    assert common_start([(1, 2), (3,)]) == ()
    assert common_start([(1, 2, 3)]) == (1, 2)


def prefix_of(tokens: tuple[int, ...], size: int = 1) -> PrefixKV:
    return PrefixKV(tokens, ((torch.zeros(1, len(tokens), size), torch.zeros(1, len(tokens), size)),))


def test_the_store_drops_the_prefix_used_least_recently(monkeypatch):
    monkeypatch.setattr(shared_prefix, "STORE_PREFIXES", 2)
    store, starts = PrefixStore(), [tokens_of(seed, 20) for seed in range(3)]
    store.keep(prefix_of(starts[0]))
    store.keep(prefix_of(starts[1]))
    assert store.longest(starts[0]) is not None
    store.keep(prefix_of(starts[2]))
    assert set(store.kept) == {starts[0], starts[2]}


def test_the_store_stays_within_its_memory_and_keeps_at_least_the_last(monkeypatch):
    monkeypatch.setattr(shared_prefix, "STORE_BYTES", 2 * 20 * 4 * 2)
    store, starts = PrefixStore(), [tokens_of(seed, 20) for seed in range(3)]
    for start in starts:
        store.keep(prefix_of(start))
    assert set(store.kept) == {starts[1], starts[2]}
    store.keep(prefix_of(tokens_of(9, 400)))
    assert len(store.kept) == 1


def test_the_store_gives_the_longest_common_start_and_nothing_short():
    store, start = PrefixStore(), tokens_of(1, 40)
    store.keep(prefix_of(start))
    found = store.longest((*start[:30], 1, 2))
    assert found is not None
    assert found.tokens == start[:30]
    assert found.layers[0][0].shape == (1, 30, 1)
    assert store.longest((*start[:15], 1, 2)) is None
    store.keep(prefix_of((*start, 5, 6)))
    assert list(store.kept) == [(*start, 5, 6)]


def test_rounded_reading_attends_as_the_exact_one_to_rounding():
    """Where layers are in bf16, many queries at once are multiplied so as well; few stay exact."""
    torch.manual_seed(1)
    size, kv_heads, width = 16, 2, joint_attention.WORTH_ROUNDING
    query, key = torch.randn(1, 4, width, size), torch.randn(1, kv_heads, width, size)
    value = torch.randn(1, kv_heads, width, size)

    def attended(rounded, queries):
        kv = joint_attention.RowsKV([0], width, None, torch.device("cpu"), rounded=rounded)
        kv.aim(slice(0, 1), 0, width)
        keys, values = kv.update(key, value, 0)
        if kv.bias is not None:
            kv.bias = kv.bias[:, :, -queries:]
        return joint_attention.attend(
            SimpleNamespace(layer_idx=0), query[:, :, -queries:], keys, values, None, rows_kv=kv
        )[0]

    exact = attended(False, width)
    assert torch.linalg.vector_norm(attended(True, width) - exact) < 1e-2 * torch.linalg.vector_norm(exact)
    torch.testing.assert_close(attended(True, width - 1), attended(False, width - 1), rtol=0, atol=0)
    if torch.cpu.get_capabilities().get("amx_bf16"):
        assert not torch.equal(attended(True, width), exact)
