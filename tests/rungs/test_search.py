"""Choosing prompts: the best is found, calls are bounded, ties go to fewer tokens."""

import pytest

from tunewise.models.door import Answer, Decoding
from tunewise.rungs.prompt import PromptCandidate, PromptLayout
from tunewise.rungs.search import STAGES, Arm, calls_of, choose, selection_items


def right_from(share):
    """Says the right answer (the question's number) where the number modulo 100 is below the share."""

    def script(messages):
        level = int(messages[0].content.split()[0])
        number = int(messages[-1].content.split()[-1])
        return str(number) if number % 100 < level * share else "wrong"

    return script


def arms_of(bench, instructions):
    return [
        Arm({"arm": text}, PromptCandidate("r", bench.door, PromptLayout(text, Decoding(9))))
        for text in instructions
    ]


@pytest.fixture
def rows(make_row):
    return [make_row(f"question {i}", str(i)) for i in range(100)]


def test_the_best_arm_wins_and_every_arm_is_listed(make_bench, rows):
    bench = make_bench(right_from(10), selection=rows)
    arms = arms_of(bench, [str(level) for level in (1, 3, 9, 5, 0, 2, 4, 1)])
    chosen = choose(bench, "r", arms)
    facts = chosen.facts()
    assert chosen.layout.instruction == "9"
    assert facts["arm"] == "9"
    assert facts["selection_items"] == 48
    assert facts["selection_score"] == max(row["mean"] for row in facts["tried"] if row["n"] == 48)
    assert sorted(row["n"] for row in facts["tried"]) == [10, 10, 10, 10, 22, 22, 48, 48]
    assert len(bench.calls.sent) <= calls_of(bench, 8) == 8 * 10 + 4 * 12 + 2 * 26


def test_equal_means_go_to_the_prompt_with_fewer_tokens(make_bench, rows):
    bench = make_bench(right_from(100), selection=rows)
    chosen = choose(bench, "r", arms_of(bench, ["1 and many more words", "1 short", "1 some more words"]))
    assert chosen.layout.instruction == "1 short"


def test_the_choice_follows_from_the_seed_alone(make_bench, rows):
    def items(seed, order):
        bench = make_bench(right_from(1), selection=order, seed=seed)
        return [example.key for example in selection_items(bench, 48)]

    assert items(1, rows) == items(1, rows[::-1])
    assert items(1, rows) != items(2, rows)


def test_groups_take_turns(make_bench, make_row):
    rows = [make_row(f"g{i}", "a", group=str(i // 10)) for i in range(40)]
    chosen = selection_items(make_bench(right_from(1), selection=rows), 4)
    assert sorted(example.group for example in chosen) == ["0", "1", "2", "3"]


def test_few_selection_items_are_all_used_once(make_bench, rows):
    bench = make_bench(right_from(50), selection=rows[:6])
    facts = choose(bench, "r", arms_of(bench, ["0", "2", "1"])).facts()
    assert (facts["arm"], facts["selection_items"], facts["selection_score"]) == ("1", 6, 1.0) or facts[
        "arm"
    ] == "2"
    assert len(bench.calls.sent) == 18 == calls_of(bench, 3)


def test_without_selection_items_the_first_arm_is_taken_unmeasured(make_bench):
    bench = make_bench(right_from(50))
    facts = choose(bench, "r", arms_of(bench, ["1", "2"])).facts()
    assert facts["arm"] == "1"
    assert facts["selection_score"] is None
    assert facts["selection_items"] == 0
    assert bench.calls.sent == []


def test_calls_that_errored_are_no_scores(make_bench, rows):
    def flaky(messages):
        number = int(messages[-1].content.split()[-1])
        return Answer("", status="errored", error="gone") if number % 2 else str(number)

    bench = make_bench(flaky, selection=rows)
    facts = choose(bench, "r", arms_of(bench, ["1"])).facts()
    assert facts["selection_score"] == 1.0
    dead = make_bench(lambda messages: Answer("", status="errored"), selection=rows)
    assert choose(dead, "r", arms_of(dead, ["1"])).facts()["selection_score"] is None


def test_an_endpoint_is_given_all_requests_of_a_stage_at_once(make_bench, rows):
    bench = make_bench(right_from(10), selection=rows, concurrency=8)
    choose(bench, "r", arms_of(bench, ["1", "2", "3"]))
    assert len(bench.calls.purposes) == len(STAGES)
    assert set(bench.calls.purposes) == {"selection"}
