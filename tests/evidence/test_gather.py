"""Gathering one rung's items: in the test's order whatever comes back first, and no further than it reads."""

import random
from collections import Counter

import pytest
from tests.evidence.conftest import (
    PRICE,
    PlainCandidate,
    RecordingDoor,
    a_request,
    binary_test,
    items,
    place_of,
    right,
)

from tunewise.data import Example, Message
from tunewise.errors import DoorError
from tunewise.evidence.judgement import make_test
from tunewise.evidence.records import Score
from tunewise.evidence.runner import Runner, more_alike
from tunewise.models.door import Answer
from tunewise.progress import Silent
from tunewise.spending import Spending, upper_bound
from tunewise.store import Store


def test_the_outcomes_do_not_depend_on_which_calls_come_back_first(tmp_path):
    truth = random.Random(3)
    says = {f"item {i}": "yes" if truth.random() < 0.75 else "no" for i in range(300)}
    seen = []
    for seed in range(4):
        shuffled = random.Random(seed)
        door = RecordingDoor(says.get, concurrency=16, delay=lambda text, draw=shuffled: draw.random() / 200)
        with Store.open(tmp_path / f"{seed}.sqlite", {}) as store:
            runner = Runner(store, Spending(), Silent())
            gathered = runner.gather(
                PlainCandidate(door), items(300), binary_test(300), right, rung="zero-shot"
            )
            runner.close()
            assert store.outcomes("zero-shot") == gathered.outcomes
            assert store.verify() == []
        seen.append(gathered)
    assert all(gathered == seen[0] for gathered in seen)
    test = binary_test(300)
    values = [1.0 if says[f"item {i}"] == "yes" else 0.0 for i in range(300)]
    assert gathered.stopped_at == len(gathered.outcomes) == test.read(values).n < 300
    assert [outcome.value for outcome in gathered.outcomes] == values[: gathered.stopped_at]


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (1, 32), (64, 1), (4, 8)])
def test_a_rung_that_plainly_fails_costs_the_items_of_its_first_look_alone(runner, concurrency, batch_size):
    door = RecordingDoor(lambda text: "no", concurrency=concurrency, batch_size=batch_size)
    gathered = runner.gather(PlainCandidate(door), items(200), binary_test(200), right, rung="zero-shot")
    assert gathered.stopped_at == len(gathered.outcomes) == 16
    assert len(door.asked) == 16


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (1, 32), (16, 1), (4, 8)])
@pytest.mark.parametrize("quality", [0.55, 0.75, 0.85])
def test_no_more_is_asked_ahead_of_the_looks_than_the_door_takes_at_once(
    runner, concurrency, batch_size, quality
):
    width = concurrency * batch_size
    says = random.Random(1)
    answers = {f"item {i}": "yes" if says.random() < quality else "no" for i in range(400)}
    read = [0]
    ahead = []

    def say(text):
        ahead.append(place_of(text) + 1 - read[0])
        return answers[text]

    door = RecordingDoor(say, concurrency=concurrency, batch_size=batch_size, delay=lambda text: 0.0002)
    gathered = runner.gather(
        PlainCandidate(door),
        items(400),
        binary_test(400),
        right,
        rung="zero-shot",
        on_look=lambda outcomes: read.__setitem__(0, len(outcomes)),
    )
    assert max(ahead) <= max(16, width + 8)
    assert door.most_in_flight <= width
    assert len(door.asked) <= gathered.stopped_at + width
    assert read[0] == gathered.stopped_at


def test_looks_are_shown_in_order_each_with_exactly_its_first_items(runner):
    shown = []
    door = RecordingDoor(concurrency=8, delay=lambda text: random.random() / 500)
    test = binary_test(60)
    runner.gather(PlainCandidate(door), items(60), test, right, rung="zero-shot", on_look=shown.append)
    assert [len(outcomes) for outcomes in shown] == [n for n in test.looks if n <= len(shown[-1])]
    for outcomes in shown:
        assert [outcome.position for outcome in outcomes] == list(range(len(outcomes)))


def test_exhaustive_goes_on_to_all_items_and_keeps_the_verdict_of_the_first_stop(runner, store):
    door = RecordingDoor(lambda text: "no" if place_of(text) < 40 else "yes", concurrency=8)
    gathered = runner.gather(
        PlainCandidate(door), items(100), binary_test(100), right, rung="zero-shot", exhaustive=True
    )
    assert gathered.stopped_at == len(gathered.read) == 16
    assert [outcome.position for outcome in gathered.outcomes] == list(range(100))
    assert len(store.outcomes("zero-shot")) == 100


def test_exhaustive_passes_the_cap_of_the_test(runner):
    door = RecordingDoor(batch_size=32)
    gathered = runner.gather(
        PlainCandidate(door), items(90), binary_test(50), right, rung="r", exhaustive=True
    )
    assert len(gathered.outcomes) == 90
    assert gathered.stopped_at <= 50


def test_fewer_items_than_the_test_reads_are_refused(runner):
    with pytest.raises(ValueError, match="up to 50 items, the order has 40"):
        runner.gather(PlainCandidate(RecordingDoor()), items(40), binary_test(50), right, rung="r")


def test_items_with_one_and_the_same_input_share_a_call_but_not_an_outcome(runner):
    order = [Example(f"e{i}", (Message("user", f"item {i % 5}"),), ("yes",)) for i in range(40)]
    door = RecordingDoor(lambda text: "yes" if text == "item 0" else "no", concurrency=3)
    gathered = runner.gather(PlainCandidate(door), order, binary_test(40), right, rung="r", exhaustive=True)
    assert sorted(door.asked) == [f"item {i}" for i in range(5)]
    assert [o.value for o in gathered.outcomes] == [1.0 if i % 5 == 0 else 0.0 for i in range(40)]


def test_an_interrupted_gather_goes_on_where_it_was_and_ends_as_an_undisturbed_one(runner, tmp_path):
    truth = random.Random(5)
    says = {f"item {i}": "yes" if truth.random() < 0.85 else "no" for i in range(200)}
    shut = {"item 57"}

    def say(text):
        if text in shut:
            raise DoorError("down")
        return says[text]

    door = RecordingDoor(say, concurrency=8, delay=lambda text: random.random() / 500)
    test = binary_test(200)
    with pytest.raises(DoorError):
        runner.gather(PlainCandidate(door), items(200), test, right, rung="r")
    shut.clear()
    resumed = runner.gather(PlainCandidate(door), items(200), test, right, rung="r")
    assert {text for text, count in Counter(door.asked).items() if count > 1} <= {"item 57"}
    with Store.open(tmp_path / "other.sqlite", {}) as other:
        undisturbed = Runner(other, Spending(), Silent()).gather(
            PlainCandidate(RecordingDoor(says.get)), items(200), test, right, rung="r"
        )
    assert resumed == undisturbed


def test_errored_items_have_no_value_and_can_leave_the_rung_undecided(runner, store):
    def say(text):
        return Answer("", "errored", error="timeout") if place_of(text) % 4 == 0 else "yes"

    door = RecordingDoor(say, concurrency=4)
    gathered = runner.gather(PlainCandidate(door), items(60), binary_test(60), right, rung="r")
    errored = [outcome for outcome in gathered.outcomes if outcome.status == "errored"]
    assert len(gathered.outcomes) == gathered.stopped_at
    assert errored
    assert all(outcome.value is None and outcome.error == "timeout" for outcome in errored)
    assert store.outcomes("r") == gathered.outcomes
    assert store.verify() == []


def test_calls_under_way_when_the_budget_ends_still_count_for_the_verdict(store):
    bound = upper_bound(PRICE, a_request("item 1"))
    door = RecordingDoor(
        lambda text: Answer("no", usd=bound), concurrency=16, delay=lambda text: 0.005, price=PRICE
    )
    runner = Runner(store, Spending(max_usd=17 * bound), Silent())
    gathered = runner.gather(PlainCandidate(door), items(100), binary_test(100), right, rung="r")
    runner.close()
    assert gathered.stopped_at == 16


def test_graded_scores_are_gathered_in_the_same_way(runner):
    test = make_test("graded", target=0.8, tolerance=0.02, alpha_meets=0.025, items=200)
    door = RecordingDoor(concurrency=8)
    gathered = runner.gather(
        PlainCandidate(door), items(200), test, lambda example, answer: Score("scored", 0.3), rung="r"
    )
    assert gathered.stopped_at == test.read([0.3] * 200).n
    assert len(door.asked) <= gathered.stopped_at + 8


def test_more_of_the_same_has_the_mean_of_what_was_read():
    assert more_alike(0.25, 8, binary=True) == [0, 0, 0, 1, 0, 0, 0, 1]
    assert sum(more_alike(0.7, 100, binary=True)) == pytest.approx(70, abs=1)
    assert more_alike(0.3, 3, binary=False) == [0.3, 0.3, 0.3]
