"""The runner: in the test's order whatever comes back first, nothing lost, nothing asked twice."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from tunewise.data import Example, Message
from tunewise.errors import BudgetEnded, DoorError, StoreError
from tunewise.evidence.flight import answer_all
from tunewise.evidence.judgement import make_test
from tunewise.evidence.records import Outcome, Score
from tunewise.evidence.runner import Runner, more_alike
from tunewise.models.door import Answer, Decoding, Price, Request, unpriced
from tunewise.progress import Silent
from tunewise.spending import Spending, upper_bound
from tunewise.store import Store


class RecordingDoor:
    """Answers with ``say(text)`` after ``delay(text)`` seconds, and keeps what it was asked and when."""

    name = "recording"
    fingerprint = "recording"
    host = None
    context_window = None
    lost_replies = 0

    def __init__(
        self, say=lambda text: "yes", *, concurrency=1, batch_size=1, delay=lambda text: 0.0, price=None
    ):
        self.say, self.delay, self.price = say, delay, price
        self.concurrency, self.batch_size = concurrency, batch_size
        self.asked, self.batches = [], []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()

    def answer(self, requests):
        texts = [request.messages[-1].content for request in requests]
        with self._lock:
            self.asked += texts
            self.batches.append(len(texts))
            self.in_flight += len(texts)
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(sum(map(self.delay, texts)))
            said = [self.say(text) for text in texts]
        finally:
            with self._lock:
                self.in_flight -= len(texts)
        return [answer if isinstance(answer, Answer) else Answer(answer) for answer in said]

    def count_tokens(self, messages):
        return None

    def close(self):
        return None


class PlainCandidate:
    rung = "zero-shot"

    def __init__(self, door):
        self.door = door

    def request(self, example):
        return a_request(example.input)


def a_request(text):
    return Request((Message("user", text),), Decoding(max_new_tokens=8))


def right(example, answer):
    """1 for "yes", 0 for anything else."""
    return Score("scored", 1.0 if answer.text == "yes" else 0.0)


def items(count):
    return [Example(f"e{i}", (Message("user", f"item {i}"),), ("yes",)) for i in range(count)]


def binary_test(count, target=0.8):
    return make_test("binary", target=target, tolerance=0.02, alpha_meets=0.025, items=count)


def place_of(text):
    return int(text.split()[1])


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "run.sqlite", {}) as opened:
        yield opened


@pytest.fixture
def runner(store):
    made = Runner(store, Spending(), Silent())
    yield made
    made.close()


# ask


def test_ask_keeps_the_order_and_sends_equal_requests_once(runner):
    door = RecordingDoor(
        say=lambda text: text.upper(), concurrency=4, delay=lambda text: random.random() / 100
    )
    texts = [f"item {i % 7}" for i in range(30)]
    answers = runner.ask(door, [a_request(text) for text in texts], "selection", "few-shot")
    assert [answer.text for answer in answers] == [text.upper() for text in texts]
    assert sorted(door.asked) == sorted(set(texts))


def test_a_recorded_call_is_never_sent_again(runner, store):
    door = RecordingDoor(concurrency=3)
    first = runner.ask(door, [a_request(f"item {i}") for i in range(10)], "selection", "few-shot")
    again = runner.ask(door, [a_request(f"item {i}") for i in range(20)], "gap", "rag")
    assert again[:10] == first
    assert max(Counter(door.asked).values()) == 1
    assert store.spent().calls == 20


def test_an_errored_answer_is_handed_over_and_asked_again_by_the_next_step(runner):
    broken = {"item 3"}
    door = RecordingDoor(say=lambda text: Answer("", "errored", error="down") if text in broken else "yes")
    requests = [a_request(f"item {i}") for i in range(5)]
    assert [a.status for a in runner.ask(door, requests, "selection", "")] == ["ok"] * 3 + ["errored", "ok"]
    broken.clear()
    assert [a.status for a in runner.ask(door, requests, "selection", "")] == ["ok"] * 5
    assert Counter(door.asked)["item 3"] == 2
    assert len(door.asked) == 6


def test_what_errored_in_a_search_stays_so_once_the_rungs_items_were_opened(runner, store):
    broken = {"item 0"}
    door = RecordingDoor(say=lambda text: Answer("", "errored", error="down") if text in broken else "yes")

    def status(rung):
        return runner.ask(door, [a_request("item 0")], "selection", rung)[0].status

    assert status("few-shot") == "errored"
    store.record_outcome("few-shot", Outcome("0", 0, "scored", 1.0, "yes", None, None, 0.1, None))
    broken.clear()
    assert status("few-shot") == "errored"
    assert status("rag") == "ok"
    assert status("few-shot") == "errored"  # though an answer is on record by now
    assert door.asked == ["item 0", "item 0"]


def test_what_errored_and_was_answered_before_the_rungs_items_were_opened_is_answered(runner, store):
    broken = {"item 0"}
    door = RecordingDoor(say=lambda text: Answer("", "errored", error="down") if text in broken else "yes")
    ask = [door, [a_request("item 0")], "selection", "few-shot"]
    assert runner.ask(*ask)[0].status == "errored"
    broken.clear()
    assert runner.ask(*ask)[0].status == "ok"
    store.record_outcome("few-shot", Outcome("0", 0, "scored", 1.0, "yes", None, None, 0.1, None))
    assert runner.ask(*ask)[0].status == "ok"


def test_batches_are_as_large_as_the_door_allows_and_shared_out_over_its_threads(runner):
    local = RecordingDoor(batch_size=8)
    runner.ask(local, [a_request(f"item {i}") for i in range(20)], "selection", "")
    assert local.batches == [8, 8, 4]
    wide = RecordingDoor(batch_size=8, concurrency=2, delay=lambda text: 0.005)
    wide.fingerprint = "wide"
    runner.ask(wide, [a_request(f"item {i}") for i in range(10)], "selection", "")
    assert sorted(wide.batches) == [5, 5]


def test_no_more_calls_are_in_flight_than_the_door_allows(runner):
    door = RecordingDoor(concurrency=6, delay=lambda text: 0.003)
    runner.ask(door, [a_request(f"item {i}") for i in range(60)], "selection", "")
    assert door.most_in_flight == 6


def test_when_the_door_fails_finished_calls_are_kept_and_no_new_one_starts(runner, store):
    def say(text):
        if text == "item 10":
            raise DoorError("the door is shut")
        return "yes"

    door = RecordingDoor(say, concurrency=4, delay=lambda text: 0.01)
    requests = [a_request(f"item {i}") for i in range(40)]
    with pytest.raises(DoorError, match="shut"):
        runner.ask(door, requests, "selection", "")
    assert store.spent().calls == len(door.asked) - 1 >= 10
    assert len(door.asked) <= 11 + 2 * 4
    door.say = lambda text: "yes"
    asked_before = set(door.asked)
    assert len(runner.ask(door, requests, "selection", "")) == 40
    assert [text for text in door.asked[len(asked_before) :] if text in asked_before] == ["item 10"]


def test_a_door_that_gives_too_few_answers_is_a_door_error(runner):
    door = RecordingDoor(batch_size=4)
    door.answer = lambda requests: [Answer("yes")]
    with pytest.raises(DoorError, match="expected 4 answers, one per request, got 1"):
        runner.ask(door, [a_request(f"item {i}") for i in range(4)], "selection", "")


def test_a_full_disk_stops_the_step_and_is_said(runner, store, monkeypatch):
    def full(calls):
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "record_calls", full)
    with pytest.raises(StoreError, match="full"):
        runner.ask(RecordingDoor(concurrency=2), [a_request(f"item {i}") for i in range(9)], "selection", "")


PRICE = Price(input=1.0, output=1.0)


def test_the_cap_is_kept_with_64_in_flight_and_every_finished_call_is_on_record(store):
    bound = upper_bound(PRICE, a_request("item 1000"))
    door = RecordingDoor(
        lambda text: Answer("yes", usd=bound / 3), concurrency=64, delay=lambda text: 0.002, price=PRICE
    )
    cap = 100 * bound
    runner = Runner(store, Spending(max_usd=cap), Silent())
    with pytest.raises(BudgetEnded):
        runner.ask(door, [a_request(f"item {1000 + i}") for i in range(900)], "selection", "")
    runner.close()
    spent = store.spent()
    assert spent.calls == len(door.asked)
    assert cap - 1.5 * bound <= spent.usd <= cap
    # calls that are in flight are waited for before the budget is given up, so nearly all of it is used


def test_the_cap_holds_over_resumes_and_for_answers_without_a_price(store):
    bound = upper_bound(PRICE, a_request("item 1000"))
    door = RecordingDoor(concurrency=8, price=PRICE)
    for start in (1000, 2000, 3000):
        runner = Runner(store, Spending(max_usd=10.5 * bound, already=store.spent()), Silent())
        with pytest.raises(BudgetEnded):
            runner.ask(door, [a_request(f"item {start + i}") for i in range(50)], "selection", "")
        runner.close()
    assert len(door.asked) == 10
    assert store.spent().usd == pytest.approx(10 * bound)


def test_attempts_without_a_reply_are_reserved_and_counted_at_their_most(store):
    bound = upper_bound(PRICE, a_request("item 1"))
    door = RecordingDoor(lambda text: Answer("yes", usd=bound / 4, unanswered=2), price=PRICE)
    door.lost_replies = 2
    runner = Runner(store, Spending(max_usd=4 * bound), Silent())
    with pytest.raises(BudgetEnded):  # the first may cost 3 bounds and does cost 2.25: no room for a second
        runner.ask(door, [a_request("item 1"), a_request("item 2")], "selection", "")
    runner.close()
    assert door.asked == ["item 1"]
    assert store.spent().usd == pytest.approx(2.25 * bound)


def test_a_probe_that_fails_waits_for_the_calls_under_way_and_counts_each(store):
    bound = upper_bound(PRICE, a_request("item 1"))

    def say(text):
        if text == "item 1":
            return Answer("yes", usd=bound / 4)
        lost = DoorError("the host is gone")
        lost.unanswered = 2
        raise lost

    door = RecordingDoor(say, concurrency=3, price=PRICE, delay=lambda text: 0.02 * int(text[-1]))
    runner = Runner(store, Spending(), Silent())
    with pytest.raises(DoorError, match="the host is gone"):
        runner.prober(door, "zero-shot", 3).send(
            [a_request(f"item {n}") for n in (2, 1, 3, 4)], lambda c: False
        )
    runner.close()
    assert sorted(door.asked) == ["item 1", "item 2", "item 3", "item 4"]  # 4 went out when 1 came back
    assert store.spent().usd == pytest.approx((0.25 + 3 * 2) * bound)


def test_while_hours_are_paid_weights_on_this_machine_have_no_price_of_their_own():
    door = SimpleNamespace(usd_per_hour=3.6)
    with unpriced(door):
        assert door.usd_per_hour is None
    assert door.usd_per_hour == 3.6
    with unpriced(SimpleNamespace()) as nothing:
        assert nothing is None


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands it on ignored
from tunewise.data import Message
from tunewise.evidence.runner import Runner
from tunewise.models.door import Decoding, Request
from tunewise.models.scripted import ScriptedDoor
from tunewise.progress import Silent
from tunewise.spending import Spending
from tunewise.store import Store

def slow(messages):
    sys.stdout.write(f"asked {messages[-1].content}\\n")
    sys.stdout.flush()
    time.sleep(0.02)
    return "yes"

with Store.open(sys.argv[1], {}) as store:
    requests = [Request((Message("user", f"item {i}"),), Decoding()) for i in range(1000)]
    try:
        Runner(store, Spending(), Silent()).ask(ScriptedDoor(slow, concurrency=4), requests, "selection", "")
    except KeyboardInterrupt:
        print("interrupted", store.spent().calls, flush=True)
"""


@pytest.mark.parametrize("lines_before", [1, 9, 30])
def test_an_interrupt_waits_for_what_is_under_way_and_starts_nothing_new(tmp_path, lines_before):
    path = tmp_path / "interrupted.sqlite"
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, path], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(lines_before)]
    process.send_signal(signal.SIGINT)
    lines += process.stdout.readlines()
    assert process.wait() == 0
    process.stdout.close()
    asked = sum(line.startswith("asked") for line in lines)
    assert lines[-1] == f"interrupted {asked}\n"
    with Store.open(path, {}) as store:
        assert store.spent().calls == asked < 500


# gather


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


def test_another_executor_can_take_the_place_of_the_threads(store):
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, fn, /, *args, **kwargs):
            assert fn is answer_all
            Counting.submitted += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(2) as engine:
        runner = Runner(store, Spending(), Silent(), engine)
        runner.ask(RecordingDoor(), [a_request(f"item {i}") for i in range(5)], "selection", "")
    assert Counting.submitted == 5


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
