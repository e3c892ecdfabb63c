"""Guessed tokens: where they come from, how many are worth a pass, and that no answer changes by them."""

import random

import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402
from tests.models.test_shared_prefix import NO_STOP, frequent, plainly, prompts

from tunewise.models import drafting
from tunewise.models.drafting import Drafter, Guess, Memory
from tunewise.models.shared_prefix import JointGenerator, generator_for


def test_what_followed_a_stretch_when_it_was_seen_last():
    memory = Memory([1, 2, 3, 4, 1, 2, 5, 6])
    assert memory.after((1, 2), 2) == [5, 6]
    assert memory.after((2,), 9) == [5, 6]
    assert memory.after((2, 3, 4), 9) == [1, 2, 5, 6]
    assert memory.after((3, 1), 9) == []


def test_at_the_end_of_a_text_the_place_before_counts():
    memory = Memory([1, 2, 7, 1, 2])
    assert memory.after((1, 2), 2) == [7, 1]
    memory.extend([8])
    assert memory.after((1, 2), 2) == [8]


def test_texts_of_their_own_are_not_read_as_one():
    memory = Memory([1, 2])
    memory.extend([3, 4], anew=True)
    assert memory.after((2, 3), 1) == []
    assert memory.after((3,), 1) == [4]


def test_the_longest_stretch_wins_and_a_single_token_counts_in_the_rows_own_text_only():
    drafter = Drafter(0.1)
    drafter.begin([1, 2, 3, 40, 7, 50])
    own = Memory([3, 60, 1, 2, 3])
    assert drafter.guess(own, 1) == Guess([40], 3)
    assert drafter.guess(Memory([7]), 1) == Guess()
    assert drafter.guess(Memory([3, 60, 3]), 1) == Guess([60], 1)


def test_earlier_answers_are_remembered_behind_their_prompts_end_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(drafting, "ANSWERS", 2)
    drafter = Drafter(0.1)
    for n in range(5):
        drafter.remember([9, 9, 30 + n], [70 + n, 80 + n, 90 + n])
    assert drafter.guess(Memory([9, 34]), 2) == Guess([74, 84], 2)
    assert drafter.guess(Memory([9, 30]), 2) == Guess()


@pytest.mark.parametrize(("per_token", "length"), [(0.0, 4), (0.2, 2), (10.0, 0)])
def test_guesses_are_as_long_as_pays(per_token, length):
    """Two rows, both with a guess of 4 at 0.7: 2 (1 + 0.7 + ...) tokens for 1 + per_token * 2 (1 + w)."""
    rates = [sum(0.7**i for i in range(w + 1)) / (1 + per_token * 2 * (1 + w)) for w in range(5)]
    assert rates.index(max(rates)) == length
    found = Drafter(per_token).shortened([Guess([1, 2, 3, 4], 2)] * 2)
    assert [len(guess.tokens) for guess in found] == [length] * 2


def test_a_kind_of_guess_that_was_wrong_is_left_for_a_while_and_tried_again():
    drafter, guess = Drafter(0.2), Guess([1, 2, 3], 2)
    assert drafter.shortened([guess])[0].tokens
    for _ in range(40):
        drafter.note(guess, 0)
    assert not drafter.shortened([guess])[0].tokens
    assert drafter.shortened([Guess([1, 2, 3], 3)])[0].tokens  # another kind is trusted as before
    for _ in range(40):
        drafter.forget()
    assert drafter.shortened([guess])[0].tokens


def mixed(right: dict[tuple[int, ...], tuple[int, ...]], share: float):
    """A guesser that knows the answers and gives each token wrongly with a chance of 1 - ``share``."""
    rng = random.Random(7)

    def guess(self, own, most):
        for suffix, answer in right.items():
            text = (*suffix, *answer)
            if tuple(own.tokens) == text[: len(own.tokens)]:
                follows = text[len(own.tokens) : len(own.tokens) + rng.randrange(most + 1)]
                return Guess([t if rng.random() < share else (t + 1) % 290 for t in follows], 3)
        return Guess()

    return guess


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("early", [0.0, 0.5])
@pytest.mark.parametrize("shared", [0, 40])
def test_whatever_is_guessed_the_tokens_are_those_of_plain_generate(
    make_model, monkeypatch, share, early, shared
):
    model = make_model()
    asked = prompts(shared, [9, 1, 30, 4, 17, 2, 26])
    stops = frequent(plainly(model, asked, NO_STOP), early)
    expected = plainly(model, asked, stops)
    right = {prompt.tokens[shared:]: answer for prompt, answer in zip(asked, expected, strict=True)}
    monkeypatch.setattr(Drafter, "guess", mixed(right, share))
    monkeypatch.setattr(Drafter, "shortened", lambda self, guesses: list(guesses))
    passes, forward = [], JointGenerator.forward

    def counted(self, kv, ids, rows, column, guessed=None):
        passes.append(guessed)
        return forward(self, kv, ids, rows, column, guessed)

    generator = generator_for(model, stops, rows=4)
    monkeypatch.setattr(JointGenerator, "forward", counted)
    assert [w.tokens for w in generator.write(asked)] == expected
    written = sum(guessed is not None for guessed in passes)
    if share == 1.0 and not early:
        assert written < 0.6 * 2 * 23  # two batches of 24 tokens each
    if share == 0.0:
        assert any(guessed is not None and guessed.sum() for guessed in passes)


def test_a_models_last_position_is_not_passed(make_model, monkeypatch):
    """Learned positions end with the window: a guess beyond them would have none."""
    model = make_model("gpt2", num_key_value_heads=None, max_position_embeddings=60)
    asked = prompts(20, [10, 16])
    expected = plainly(model, asked, NO_STOP)
    right = {prompt.tokens[20:]: answer for prompt, answer in zip(asked, expected, strict=True)}
    monkeypatch.setattr(Drafter, "guess", mixed(right, 1.0))
    monkeypatch.setattr(Drafter, "shortened", lambda self, guesses: list(guesses))
    assert max(len(p.tokens) + p.max_new_tokens for p in asked) == 60
    assert [w.tokens for w in generator_for(model, NO_STOP).write(asked)] == expected


def test_drawn_answers_are_not_guessed_at(make_model, monkeypatch):
    model = make_model()
    drawn, greedy = prompts(20, [5, 9], temperature=1.0, seed=4), prompts(20, [7, 3])
    expected = plainly(model, greedy, NO_STOP)
    generator = generator_for(model, NO_STOP)
    alone = [generator.write([prompt])[0].tokens for prompt in drawn]
    right = {prompt.tokens[20:]: answer for prompt, answer in zip(greedy, expected, strict=True)}
    monkeypatch.setattr(Drafter, "guess", mixed(right, 0.8))
    monkeypatch.setattr(Drafter, "shortened", lambda self, guesses: list(guesses))
    written = generator.write([*drawn, *greedy])
    assert [w.tokens for w in written] == [*alone, *expected]


def test_an_answer_that_was_given_before_takes_few_passes(make_model, monkeypatch):
    model = make_model()
    asked = prompts(0, [6, 9], longest=60)
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    passes, forward = [], JointGenerator.forward

    def counted(*given):
        passes.append(given)
        return forward(*given)

    monkeypatch.setattr(JointGenerator, "forward", counted)
    assert [w.tokens for w in generator.write(asked)] == expected
    first = len(passes)
    assert [w.tokens for w in generator.write(asked)] == expected
    assert len(passes) - first < first / 3
