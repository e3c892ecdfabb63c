"""The runner: in the test's order whatever comes back first, nothing lost, nothing asked twice."""

import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from tests.evidence.conftest import PRICE, RecordingDoor, a_request

from tunewise.errors import BudgetEnded, DoorError, StoreError
from tunewise.evidence.flight import answer_all
from tunewise.evidence.records import Outcome
from tunewise.evidence.runner import Runner
from tunewise.models.door import Answer, unpriced
from tunewise.progress import Silent
from tunewise.spending import Spending, upper_bound
from tunewise.store import Store

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
