"""Guessed tokens: where they come from, how many are worth a pass, and that no answer changes by them."""

import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402
from tests.models.test_shared_prefix import NO_STOP, frequent, plainly, prompts

from tunewise.models import drafting, joint_attention, shared_prefix
from tunewise.models.drafting import Drafter, Guess, Memory
from tunewise.models.shared_prefix import JointGenerator, generator_for
from tunewise.models.writing import Prompt


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
    memory.extend([5, 6, 7], anew=True)
    assert memory.after((2, 3), 1) == []
    assert memory.after((2,), 9) == []
    assert memory.after((3,), 9) == [4]
    assert memory.after((5,), 9) == [6, 7]


def begun(prefix=(), prompts=2, per_token=0.1):
    drafter = Drafter(per_token)
    drafter.begin(prefix, prompts)
    return drafter


def test_the_longest_stretch_wins_and_a_single_token_counts_in_the_rows_own_text_only():
    drafter = begun([1, 2, 3, 40, 7, 50])
    own = Memory([3, 60, 1, 2, 3])
    assert drafter.guess(own, 1) == Guess([40], 3)
    assert drafter.guess(Memory([7]), 1) == Guess()
    assert drafter.guess(Memory([3, 60, 3]), 1) == Guess([60], 1)


def test_earlier_answers_are_remembered_behind_their_prompts_end_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(drafting, "KEPT", 8)
    drafter = begun()
    for n in range(5):
        drafter.remember([9, 9, 30 + n], [70 + n, 80 + n, 90 + n])
    assert drafter.guess(Memory([9, 34]), 9) == Guess([74, 84, 94], 2)
    assert drafter.guess(Memory([9, 32]), 2) == Guess([72, 82], 2)
    for n in range(5, 9):
        drafter.remember([9, 9, 30 + n], [70 + n, 80 + n, 90 + n])
    assert drafter.guess(Memory([9, 32]), 2) == Guess()


def test_a_prompt_alone_is_guessed_at_from_its_own_text_and_leaves_nothing_behind():
    drafter = begun()
    drafter.remember([9, 30], [70, 80])
    drafter.begin([], 1)
    assert drafter.guess(Memory([9, 30]), 2) == Guess()
    drafter.remember([9, 31], [71, 81])
    drafter.begin([], 2)
    assert drafter.guess(Memory([9, 30]), 2) == Guess([70, 80], 2)
    assert drafter.guess(Memory([9, 31]), 2) == Guess()


@pytest.mark.parametrize(("per_token", "length"), [(0.0, 4), (0.2, 2), (10.0, 0)])
def test_guesses_are_as_long_as_pays(per_token, length):
    """Two rows, both with a guess of 4 at 0.7: 2 (1 + 0.7 + ...) tokens for 1 + per_token * 2 (1 + w)."""
    rates = [sum(0.7**i for i in range(w + 1)) / (1 + per_token * 2 * (1 + w)) for w in range(5)]
    assert rates.index(max(rates)) == length
    found = begun(per_token=per_token).shortened([Guess([1, 2, 3, 4], 2)] * 2)
    assert [len(guess.tokens) for guess in found] == [length] * 2


def test_a_kind_of_guess_that_was_wrong_is_left_for_a_while_and_tried_again():
    drafter, guess = begun(per_token=0.2), Guess([1, 2, 3], 2)
    assert drafter.shortened([guess])[0].tokens
    for _ in range(40):
        drafter.note(guess, 0)
    assert not drafter.shortened([guess])[0].tokens
    assert drafter.shortened([Guess([1, 2, 3], 3)])[0].tokens  # another kind is trusted as before
    for _ in range(40):
        drafter.forget()
    assert drafter.shortened([guess])[0].tokens


def mixed(right: dict[tuple[int, ...], tuple[int, ...]], share: float):
    """A guesser that knows the answers, goes on behind them, and errs in 1 - ``share`` of the tokens."""
    rng = random.Random(7)

    def guess(self, own, most):
        for suffix, answer in right.items():
            text = (*suffix, *answer)
            if tuple(own.tokens) == text[: len(own.tokens)]:
                text = (*text, *[11] * drafting.LONGEST)
                follows = text[len(own.tokens) : len(own.tokens) + rng.randrange(most + 1)]
                return Guess([t if rng.random() < share else (t + 1) % 290 for t in follows], 3)
        return Guess()

    return guess


def guessing(monkeypatch, asked, answers, shared, share):
    """Let the drafter give ``mixed`` guesses for these prompts, all of them tried."""
    right = {prompt.tokens[shared:]: answer for prompt, answer in zip(asked, answers, strict=True)}
    monkeypatch.setattr(Drafter, "guess", mixed(right, share))
    monkeypatch.setattr(Drafter, "shortened", lambda self, guesses: list(guesses))


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("early", [0.0, 0.3, 0.7])
@pytest.mark.parametrize(("shared", "rows"), [(0, 8), (40, 8), (40, 3)])
def test_whatever_is_guessed_the_tokens_are_those_of_plain_generate(
    make_model, monkeypatch, share, early, shared, rows
):
    """Also where rows end early and stay in their batch, and where gaps are closed on the way."""
    model = make_model()
    asked = prompts(shared, [9, 1, 30, 4, 17, 2, 26, 12], longest=40)
    stops = frequent(plainly(model, asked, NO_STOP), early)
    expected = plainly(model, asked, stops)
    generator = generator_for(model, stops, rows=rows)
    guessing(monkeypatch, asked, expected, shared, share)
    monkeypatch.setattr(shared_prefix, "SPARE_COLUMNS", 8)
    monkeypatch.setattr(joint_attention, "SPARE_COLUMNS", 8)
    passes, closed = [], []
    forward, close = JointGenerator.forward, joint_attention.RowsKV.close_gaps

    def counted(self, kv, ids, rows, column, guessed=None):
        passes.append(guessed)
        return forward(self, kv, ids, rows, column, guessed)

    def seen(self):
        before = self.end
        close(self)
        closed.append(before - self.end)

    monkeypatch.setattr(JointGenerator, "forward", counted)
    monkeypatch.setattr(joint_attention.RowsKV, "close_gaps", seen)
    assert [w.tokens for w in generator.write(asked)] == expected
    written = sum(guessed is not None for guessed in passes)
    if share == 1.0 and not early:
        assert written < 0.6 * 39 * -(-len(asked) // rows)
    if share < 1.0 and not early:
        assert any(guessed is not None and guessed.sum() for guessed in passes)
        assert max(closed) > 0


def test_a_models_last_position_is_not_passed(make_model, monkeypatch):
    """Learned positions end with the window: neither a guess nor a row that has ended goes beyond."""
    model = make_model("gpt2", num_key_value_heads=None, max_position_embeddings=60)
    asked = [Prompt(prompts(20, [20])[0].tokens, 20), *prompts(20, [10] * 5, longest=24)]
    expected = plainly(model, asked, NO_STOP)
    assert max(len(p.tokens) + p.max_new_tokens for p in asked) == 60
    generator = generator_for(model, NO_STOP)
    assert isinstance(generator, JointGenerator)
    guessing(monkeypatch, asked[:1], expected[:1], 20, 1.0)  # one row is done long before the others
    assert [w.tokens for w in generator.write(asked)] == expected


def test_guesses_end_with_what_a_row_may_write(make_model, monkeypatch):
    model = make_model("gpt2", num_key_value_heads=None, max_position_embeddings=60)
    asked = prompts(20, [16, 9])
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    guessing(monkeypatch, asked, expected, 20, 1.0)
    assert [w.tokens for w in generator.write(asked)] == expected


def test_drawn_answers_are_not_guessed_at(make_model, monkeypatch):
    model = make_model()
    drawn, greedy = prompts(20, [5, 9], temperature=1.0, seed=4), prompts(20, [7, 3])
    expected = plainly(model, greedy, NO_STOP)
    generator = generator_for(model, NO_STOP)
    alone = [generator.write([prompt])[0].tokens for prompt in drawn]
    guessing(monkeypatch, greedy, expected, 20, 0.8)
    written = generator.write([*drawn, *greedy])
    assert [w.tokens for w in written] == [*alone, *expected]


class EvenOnly:
    """A limit under which an answer has even tokens only."""

    def allows(self, written, token):
        return token % 2 == 0

    def allowed(self, written, width):
        return np.arange(width) % 2 == 0


def test_answers_held_to_a_grammar_are_not_guessed_at_and_their_neighbours_are(make_model, monkeypatch):
    model = make_model()
    free, held = prompts(20, [7, 3, 12]), [replace(p, limit=EvenOnly()) for p in prompts(20, [5, 9])]
    expected = plainly(model, free, NO_STOP)
    generator = generator_for(model, NO_STOP)
    alone = [generator.write([prompt])[0].tokens for prompt in held]
    assert all(token % 2 == 0 for answer in alone for token in answer)
    passes, forward = [], JointGenerator.forward
    guessing(monkeypatch, [*free, *held], [*expected, *alone], 20, 0.8)  # what is right is known of all

    def counted(self, kv, ids, rows, column, guessed=None):
        passes.append(guessed)
        return forward(self, kv, ids, rows, column, guessed)

    monkeypatch.setattr(JointGenerator, "forward", counted)
    written = generator.write([held[0], *free, held[1]])
    assert [w.tokens for w in written] == [alone[0], *expected, alone[1]]
    assert any(guessed is not None and guessed.sum() for guessed in passes)


def test_layers_in_bf16_round_the_reading_too_and_let_more_be_guessed(make_model, monkeypatch):
    monkeypatch.setattr(shared_prefix, "pack_linears", lambda model, rounded=False: None)  # needs no AMX
    exact, rounded = (generator_for(make_model(), NO_STOP, precision=said) for said in ("fp32", "bf16"))
    assert (exact.rounded, exact.drafter.per_token) == (False, shared_prefix.PER_TOKEN["fp32"])
    assert (rounded.rounded, rounded.drafter.per_token) == (True, shared_prefix.PER_TOKEN["bf16"])
    assert [g.rows_kv([0], 4, None).rounded for g in (exact, rounded)] == [False, True]


def test_on_a_gpu_a_token_costs_more_where_products_outweigh_the_way_of_the_weights(make_model):
    """By hand: 2 * 7e9 / 4e14 s a token; 14e9 / 3e12 s for the weights and 32 * 0.7 ms for the layers."""
    model = make_model()
    model.num_parameters = lambda: 7_000_000_000
    model.config.num_hidden_layers = 32
    large = shared_prefix.per_token_on_gpu(model.bfloat16())
    assert large == pytest.approx(35e-6 / (4.667e-3 + 22.4e-3), rel=1e-3)
    model.num_parameters = lambda: 135_000_000
    assert shared_prefix.per_token_on_gpu(model) < large / 10


def passes_of(monkeypatch, generator, asked):
    """Answers of a call, and the passes it took."""
    passes, forward = [], JointGenerator.forward

    def counted(*given):
        passes.append(given)
        return forward(*given)

    monkeypatch.setattr(JointGenerator, "forward", counted)
    tokens = [w.tokens for w in generator.write(asked)]
    monkeypatch.setattr(JointGenerator, "forward", forward)
    return tokens, len(passes)


def test_answers_that_were_given_before_take_few_passes(make_model, monkeypatch):
    model = make_model()
    asked = prompts(0, [6, 9], longest=60)
    expected = plainly(model, asked, NO_STOP)
    generator = generator_for(model, NO_STOP)
    written, first = passes_of(monkeypatch, generator, asked)
    assert written == expected
    again, fewer = passes_of(monkeypatch, generator, asked)
    assert again == expected
    assert fewer < first / 3


def test_a_prompt_asked_alone_takes_as_long_every_time(make_model, monkeypatch):
    """What is timed so is what a new prompt takes."""
    model = make_model()
    asked = prompts(0, [30], longest=40)
    generator = generator_for(model, NO_STOP)
    first = passes_of(monkeypatch, generator, asked)
    generator.write(prompts(0, [30, 12], longest=40))  # it was answered in company, too
    again = passes_of(monkeypatch, generator, asked)
    assert again[0] == first[0]
    assert again[1] in (first[1], first[1] - 1)  # its prompt is at hand, or not
