"""Scores of shared trees are those of every sequence read alone."""

import random

import pytest

torch = pytest.importorskip("torch")

from tunewise.models.token_trees import Question, packed, shared_prefix, stages, tree_of  # noqa: E402
from tunewise.models.tree_scoring import PlainScorer, TreeScorer, scorer_for  # noqa: E402


def alone(model, sequence, first):
    """The definition: one sequence, one forward pass, log-softmax at every scored token."""
    with torch.inference_mode():
        logits = model(torch.tensor([sequence]), use_cache=False).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    scored = range(first, len(sequence))
    total = sum(float(logprobs[place - 1, sequence[place]]) for place in scored)
    return total, all(int(logits[place - 1].argmax()) == sequence[place] for place in scored)


def made_questions(count, vocabulary, group=None, shared=0, seed=1):
    rng = random.Random(seed)
    tokens = lambda n: tuple(rng.randrange(vocabulary) for _ in range(n))  # noqa: E731
    before = tokens(shared)
    questions = []
    for _ in range(count):
        context = before + tokens(rng.randint(1, 20))
        endings = [tokens(rng.randint(1, 9)) for _ in range(rng.randint(1, 5))]
        if len(endings) > 2:
            endings[1] = endings[0][:1] + endings[1]  # two endings that begin alike
        questions.append(Question(tuple(context + e for e in endings), (len(context),) * len(endings), group))
    return questions


def check(model, questions, readings, within=2e-4):
    for question, reading in zip(questions, readings, strict=True):
        for sequence, first, logprob, greedy in zip(
            question.sequences, question.firsts, reading.logprobs, reading.greedy, strict=True
        ):
            expected = alone(model, sequence, first)
            assert logprob == pytest.approx(expected[0], abs=within)
            assert greedy == expected[1]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_trees_give_what_each_sequence_gives_alone(make_model, kind):
    settings = {"sliding_window": None} if kind == "mistral" else {}
    model, plain = make_model(kind, **settings), make_model(kind, **settings)
    scorer = scorer_for(model)
    assert isinstance(scorer, TreeScorer)
    questions = made_questions(23, 300)
    check(plain, questions, scorer.read(questions))


def test_a_group_shares_its_prefix_and_scores_the_same(make_model):
    model = make_model()
    questions = made_questions(12, 300, "subject", shared=60) + made_questions(5, 300, seed=4)
    assert len(shared_prefix(questions[:12])) >= 60
    check(make_model(), questions, scorer_for(model).read(questions))


def test_one_pass_per_question_and_one_pass_for_all_agree(make_model):
    questions = made_questions(15, 300, "g", shared=40)
    small, large = TreeScorer(make_model(), tokens=1), TreeScorer(make_model(), tokens=100_000)
    for one, other in zip(small.read(questions), large.read(questions), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_masked_product_gives_what_the_flash_kernel_gives(make_model, monkeypatch):
    from tunewise.models import tree_attention, tree_scoring

    def on_another_device(pack, prefix, device, rounded=32):
        one = tree_attention.laid_out(pack, prefix, device, rounded)
        spans = [(begin, end, mask == 0) for begin, end, mask in one.spans]
        one.mask = tree_attention.whole_mask(spans, one.ids.shape[1], prefix)
        return one

    questions = made_questions(9, 300, "g", shared=50) + made_questions(4, 300, seed=2)
    expected = TreeScorer(make_model()).read(questions)
    monkeypatch.setattr(tree_scoring, "laid_out", on_another_device)
    for one, other in zip(TreeScorer(make_model()).read(questions), expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_model_that_attends_otherwise_is_read_plainly(make_model):
    model = make_model("gemma2", sliding_window=16)
    scorer = scorer_for(model)
    assert isinstance(scorer, PlainScorer)
    questions = made_questions(7, 300)
    check(make_model("gemma2", sliding_window=16), questions, scorer.read(questions))


def test_the_model_attends_as_before_when_the_scores_are_there(make_model):
    model = make_model()
    before = model.config._attn_implementation
    TreeScorer(model).read(made_questions(2, 300))
    assert model.config._attn_implementation == before


def test_no_token_is_read_twice_within_a_question():
    context = tuple(range(10))
    question = Question(((*context, 20, 21, 22), (*context, 20, 31), (*context, 40)), (10, 10, 10))
    tree = tree_of(0, question)
    assert tree.ids == [*context, 20, 21, 20]
    assert tree.positions == [*range(10), 10, 11, 10]
    assert tree.asked == [(9, 20, 0), (10, 21, 0), (11, 22, 0), (9, 20, 1), (12, 31, 1), (9, 40, 2)]


def test_one_token_endings_need_only_the_context():
    question = Question(tuple((5, 6, 7, letter) for letter in (1, 2, 3, 4)), (3, 3, 3, 3))
    tree = tree_of(0, question)
    assert tree.ids == [5, 6, 7]
    assert [place for place, _, _ in tree.asked] == [2, 2, 2, 2]


def test_a_prefix_ends_before_what_predicts_a_scored_token():
    same = Question(((*range(50), 60), (*range(50), 61)), (50, 50))
    assert shared_prefix([same] * 20) == tuple(range(49))


def test_a_prefix_that_saves_little_is_not_read_by_itself():
    questions = made_questions(2, 300, "g", shared=40)
    assert shared_prefix(questions) == ()
    (stage,) = stages(questions, 512, 512)
    assert stage.prefix == ()


def test_passes_come_out_nearly_full_and_hold_every_question_once():
    questions = made_questions(400, 300)
    trees = [tree_of(number, question) for number, question in enumerate(questions)]
    packs = packed(trees, 512, 10_000)
    assert sorted(tree.question for pack in packs for tree in pack.trees) == list(range(400))
    assert all(pack.tokens <= 512 for pack in packs)
    assert sum(pack.tokens for pack in packs[:-1]) > 0.95 * 512 * (len(packs) - 1)
