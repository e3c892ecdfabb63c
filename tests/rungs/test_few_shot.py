"""Fixed shots: which are drawn, how many calls the choice takes, and that the best wins."""

import itertools

import numpy as np
import pytest

from tunewise.rungs.few_shot import PLAN, FewShot, _covering, _greedy, _jaccard, drawn, usable

QUEUES = ("billing", "delivery", "login", "other")


def routing(make_row, count):
    words = {"billing": "invoice", "delivery": "parcel", "login": "password", "other": "thanks"}
    return [make_row(f"{words[QUEUES[i % 4]]} matter {i}", QUEUES[i % 4]) for i in range(count)]


def learner(messages):
    """Knows a queue only when the prompt shows it for the same first word."""
    first = messages[-1].content.split()[0]
    shots = zip(messages[1:-1:2], messages[2:-1:2], strict=True)
    return next((a.content for q, a in shots if q.content.split()[0] == first), "no idea")


def test_it_needs_train_rows(make_bench, make_row):
    assert "no train rows" in FewShot().cannot_help(make_bench(learner))
    assert FewShot().cannot_help(make_bench(learner, train=[make_row("a", "b")])) is None


@pytest.mark.parametrize("draw", [draw for draw, _ in PLAN])
def test_every_answer_is_shown_once_before_any_is_shown_twice(make_row, draw):
    chosen = drawn(routing(make_row, 80), draw, seed=1, most=8)
    assert sorted(example.answer for example in chosen[:4]) == sorted(QUEUES)
    assert sorted(example.answer for example in chosen[4:]) == sorted(QUEUES)


def test_draws_follow_from_the_seed(make_row):
    pool = routing(make_row, 80)
    assert drawn(pool, "seeded-1", 1, 10) == drawn(pool, "seeded-1", 1, 10)
    assert drawn(pool, "seeded-1", 1, 10) != drawn(pool, "seeded-1", 2, 10)
    assert drawn(pool, "seeded-1", 1, 10) != drawn(pool, "seeded-2", 1, 10)


def test_the_winner_shows_all_queues_and_is_the_cheapest_that_does(make_bench, make_row):
    rows = routing(make_row, 160)
    bench = make_bench(learner, train=rows[:80], selection=rows[80:])
    candidate = FewShot().build(bench)
    facts = candidate.facts()
    assert facts["selection_score"] == 1.0
    assert facts["k"] == 5
    assert facts["shots"] == [shot.key for shot in candidate.layout.shots]
    assert {shot.answer for shot in candidate.layout.shots} == set(QUEUES)
    assert len(bench.calls.sent) <= FewShot().outlook(bench).build_calls == 212
    tried = {(row["k"], row["draw"]): row["mean"] for row in facts["tried"]}
    assert len(tried) == sum(len(sizes) for _, sizes in PLAN)
    assert tried[1, "cover"] < 0.6


def test_the_best_shot_stands_last(make_bench, make_row):
    rows = routing(make_row, 80)
    bench = make_bench(lambda m: "other", train=rows)
    candidate = FewShot().build(bench)
    assert candidate.layout.shots[-1].key == drawn(rows, "cover", 0, 1)[0].key


def test_few_rows_and_a_small_window_limit_the_number_of_shots(make_bench, make_row):
    rows = routing(make_row, 40)
    two = FewShot().build(make_bench(learner, train=rows[:2], selection=rows[20:]))
    assert {row["k"] for row in two.facts()["tried"]} == {1, 2}
    # 4 words of instruction, 4 of a shot, 3 of the input, and the answer
    narrow = make_bench(learner, train=rows[:20], selection=rows[20:], window=4 + 3 * 4 + 3 + 256)
    assert {row["k"] for row in FewShot().build(narrow).facts()["tried"]} == {1, 3}


def test_rows_far_longer_than_the_rest_are_not_shown(make_row):
    rows = [make_row(f"short question {i}", "a") for i in range(9)]
    long = make_row("long " * 100, "a")
    assert usable([*rows, long]) == rows


def test_the_first_covering_example_is_the_one_most_like_the_others():
    rng = np.random.default_rng(0)
    likeness = rng.random((8, 8))
    likeness = (likeness + likeness.T) / 2
    np.fill_diagonal(likeness, 1.0)
    group = list(range(8))
    first, second = _greedy(likeness, group, 2)
    assert first == max(group, key=lambda place: likeness[:, place].sum())
    gains = {place: np.maximum(likeness[:, first], likeness[:, place]).sum() for place in group}
    assert second == max((p for p in group if p != first), key=lambda place: gains[place])


def test_two_covering_examples_are_within_the_greedy_bound_of_the_best_two():
    rng = np.random.default_rng(1)
    for _ in range(20):
        likeness = rng.random((7, 7))
        likeness = (likeness + likeness.T) / 2
        taken = _greedy(likeness, list(range(7)), 2)
        value = likeness[:, taken].max(axis=1).sum()
        best = max(likeness[:, list(pair)].max(axis=1).sum() for pair in itertools.combinations(range(7), 2))
        assert value >= (1 - 1 / np.e) * best


def test_jaccard_by_hand():
    likeness = _jaccard([{"a", "b"}, {"b", "c", "d"}, set()])
    assert likeness[0, 1] == pytest.approx(1 / 4)
    assert likeness[0, 0] == 1.0
    assert likeness[2].tolist() == [0.0, 0.0, 0.0]


def test_free_text_is_covered_across_topics(make_row):
    topics = ("parcel late tracking", "invoice wrong amount", "password reset mail")
    pool = [make_row(f"{topics[i % 3]} {i}", f"answer {i}") for i in range(30)]
    first = _covering(pool, 3)[:3]
    assert {example.input.split()[0] for example in first} == {"parcel", "invoice", "password"}
