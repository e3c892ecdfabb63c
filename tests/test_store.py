"""The run's store: nothing committed is lost, nothing is rewritten, and damage is found."""

import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest

from tunewise.data import Message
from tunewise.errors import RunError, SettingError, StoreError
from tunewise.evidence.records import Outcome
from tunewise.models.door import Answer, Decoding, Request
from tunewise.store import Call, Store
from tunewise.store_check import problems

SETTINGS = {"target": 0.9, "model": {"name": "a", "seed": 0}}
DOOR = "door-fingerprint"

# Records calls until it is killed; prints each key only after record_call has returned.
WRITER = """
import sys
from tunewise.data import Message
from tunewise.models.door import Answer, Decoding, Request
from tunewise.store import Store
store = Store.open(sys.argv[1], {"writer": 1})
place = len(store.events("start")) * 100_000
store.log("start", {})
print("open", flush=True)
while True:
    place += 1
    request = Request((Message("user", f"question {place}"),), Decoding())
    key, answer = request.key("d"), Answer("a" * (place % 3000))
    store.record_call(key, answer, door="d", purpose="p", rung="r", request=request)
    print(key, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "run.sqlite"


@pytest.fixture
def store(path):
    with Store.open(path, SETTINGS) as opened:
        yield opened


def a_request(text="What?", **tag):
    return Request((Message("system", "Be exact."), Message("user", text)), Decoding(), tag)


def a_call(text="What?", answer=None, **more):
    request = a_request(text)
    return Call(
        request.key(DOOR), answer or Answer(f"to {text}"), DOOR, "certification", "few-shot", request, **more
    )


def an_outcome(position, **changes):
    outcome = Outcome(
        f"e{position}", position, "scored", 1.0, "yes", 10, 2, 0.5, 0.001, {"field_recall": 0.5}
    )
    return replace(outcome, **changes)


def test_an_answer_comes_back_exactly_as_it_was_recorded(store):
    answer = Answer("ünï\x00\n🦊", "refused", "length", 10, 4, 3, 0.125, 1e-7, None)
    call = a_call(answer=answer)
    assert store.call(call.key) is None
    assert store.record_calls([call]) == [answer]
    assert store.call(call.key) == answer


def test_half_a_surrogate_pair_is_replaced_and_the_caller_sees_what_is_on_record(store):
    call = a_call(answer=Answer("x \ud83d y \ud83e\udd8a", seconds=1))
    (recorded,) = store.record_calls([call])
    assert recorded.text == "x \ufffd y 🦊"
    assert store.call(call.key) == recorded
    assert store.verify() == []


def test_an_errored_answer_is_counted_but_does_not_stand(store):
    call = a_call(answer=Answer("", "errored", error="timeout", usd=0.25))
    store.record_calls([call])
    assert store.call(call.key) is None
    assert (store.spent().calls, store.spent().usd) == (1, 0.25)
    store.record_calls([replace(call, answer=Answer("now"))])
    assert store.call(call.key) == Answer("now")


def test_the_first_answer_to_a_request_stands_and_a_second_is_only_counted(store):
    call = a_call(answer=Answer("first", usd=1.0))
    store.record_calls([call])
    assert store.record_calls([replace(call, answer=Answer("second", usd=1.0))]) == [Answer("first", usd=1.0)]
    assert store.spent().usd == 2.0
    assert store.verify() == []


def test_what_is_frozen_is_fixed_once_and_has_been_through_json(path):
    with Store.open(path, SETTINGS) as store:
        assert store.frozen("rungs") is None
        assert store.freeze("rungs", ("a", "b")) == ["a", "b"]
    with Store.open(path, SETTINGS) as store:
        assert store.freeze("rungs", ["c"]) == ["a", "b"] == store.frozen("rungs")


def test_outcomes_are_written_once_and_a_later_one_for_a_place_stands(store):
    first = [an_outcome(0), an_outcome(1, status="errored", value=None, error="timeout")]
    for _ in range(2):
        store.record_outcomes("rag", [(outcome, None) for outcome in first])
    assert store.outcomes("rag") == tuple(first)
    store.record_outcome("rag", an_outcome(1, value=0.0))
    assert store.outcomes("rag") == (first[0], an_outcome(1, value=0.0))
    assert store.outcomes("lora") == ()


def test_events_come_back_in_order(store):
    store.log("look", {"n": 16})
    store.log("other", {})
    store.log("look", {"n": 24})
    assert store.events("look") == ({"n": 16}, {"n": 24})


def test_spent_adds_up_over_sessions_and_is_none_where_nothing_was_told(path):
    with Store.open(path, SETTINGS) as store:
        assert (store.spent().calls, store.spent().tokens_in, store.spent().usd) == (0, 0, 0.0)
        store.record_calls([a_call("a", Answer("x"))])
        assert (store.spent().tokens_in, store.spent().usd) == (None, None)
        store.record_calls([a_call("b", Answer("x", tokens_in=5, tokens_out=2, usd=0.5))])
        store.record_calls([a_call("c", Answer("x"), upper_usd=0.25)])
        store.record_cost("training", 1.0, rung="lora")
        before = store.spent()
    assert (before.calls, before.tokens_in, before.tokens_out, before.usd) == (3, 5, 2, 1.75)
    with Store.open(path, SETTINGS) as store:
        after = store.spent()
    assert (after.calls, after.tokens_in, after.tokens_out, after.usd) == (3, 5, 2, 1.75)


def test_wall_time_of_earlier_sessions_is_counted_up_to_their_last_record(path):
    with Store.open(path, SETTINGS) as store:
        time.sleep(0.2)
        store.log("tick", {})
        time.sleep(0.3)
    with Store.open(path, SETTINGS) as store:
        assert 0.2 <= store.spent().seconds < 0.45


def test_the_run_keeps_its_id_and_its_settings(path):
    with Store.open(path, SETTINGS) as store:
        first = store.run_id
    with Store.open(f"sqlite:///{path}", SETTINGS) as store:
        assert store.run_id == first
        assert store.settings == SETTINGS
    with Store.open(path.with_name("other.sqlite"), SETTINGS) as store:
        assert store.run_id != first


def test_other_settings_are_refused_with_every_difference_and_what_to_do(path):
    with Store.open(path, SETTINGS) as store:
        store.record_calls([a_call()])
    with pytest.raises(RunError) as caught:
        Store.open(path, {"target": 0.8, "model": {"name": "a", "seed": 1}, "rungs": ["rag"]})
    said = str(caught.value)
    assert "target: then 0.9, now 0.8" in said
    assert "model.seed: then 0, now 1" in said
    assert 'rungs: then (not set), now ["rag"]' in said
    assert "model.name" not in said
    assert "--out" in said
    Store.open(path, SETTINGS).close()


def test_a_run_that_has_measured_nothing_makes_way_for_other_settings(path):
    with Store.open(path, SETTINGS) as store:
        store.freeze("rungs in play", ["a", "b"])
        store.record_calls([a_call(answer=Answer("", "errored", error="no such model"))])
        first = store.run_id
    with Store.open(path, {"target": 0.8}) as store:
        assert store.settings == {"target": 0.8}
        assert store.frozen("rungs in play") is None
        assert store.run_id != first
        assert store.verify() == []


@pytest.mark.parametrize(
    "measured",
    [
        lambda store: store.record_calls([a_call()]),
        lambda store: store.record_calls([a_call(answer=Answer("", "errored"), upper_usd=0.1)]),
        lambda store: store.record_outcome("rag", an_outcome(0)),
        lambda store: store.record_cost("training", 0.1, rung="lora"),
    ],
)
def test_a_run_with_an_answer_an_outcome_or_a_cost_never_makes_way(path, measured):
    with Store.open(path, SETTINGS) as store:
        measured(store)
    with pytest.raises(RunError, match="other settings"):
        Store.open(path, {"target": 0.8})


def test_a_refusal_names_address_and_model_where_a_setting_is_a_fingerprint(path):
    with Store.open(path, {"model": "1" * 64}, {"model": "m at http://a:1/v1"}) as store:
        store.record_calls([a_call()])
    with pytest.raises(RunError) as caught:
        Store.open(path, {"model": "2" * 64}, {"model": "m at http://b:2/v1"})
    said = f"model: then m at http://a:1/v1 ({'1' * 12}), now m at http://b:2/v1 ({'2' * 12})"
    assert said in str(caught.value)


def test_costs_add_up_by_what_and_rung(store):
    assert store.cost("training", rung="lora") == 0.0
    for usd in (0.25, 0.5):
        store.record_cost("training", usd, rung="lora")
    store.record_cost("training", 4.0, rung="full")
    assert store.cost("training", rung="lora") == 0.75


def test_another_scheme_is_a_mistake_of_the_user():
    with pytest.raises(SettingError, match="postgres"):
        Store.open("postgres://host/db", {})


@pytest.mark.parametrize(
    "table", ["meta", "sessions", "calls", "failures", "outcomes", "costs", "frozen", "events"]
)
def test_no_row_can_be_changed_or_removed(path, table):
    fill(path)
    outside = sqlite3.connect(path)
    try:
        for change in (f"UPDATE {table} SET hash = ''", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                outside.execute(change)
    finally:
        outside.close()


@pytest.mark.parametrize("table", ["meta", "calls", "frozen"])
def test_no_row_can_be_replaced_by_inserting_over_it(path, table):
    fill(path)
    outside = sqlite3.connect(path)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            outside.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1")
    finally:
        outside.close()


def fill(path):
    """At least one row in every table."""
    with Store.open(path, SETTINGS) as store:
        calls = [a_call(f"question {i}") for i in range(20)]
        store.record_calls([*calls, a_call("bad", Answer("", "errored", error="timeout"))])
        store.record_outcome("few-shot", an_outcome(0), call=calls[0].key)
        store.record_cost("training", 0.5, rung="lora")
        store.freeze("rungs", ["few-shot"])
        store.log("look", {"n": 16})
        assert store.verify() == []


def tamper(path, *statements):
    """Change a closed store as somebody with the triggers out of the way could."""
    outside = sqlite3.connect(path, isolation_level=None)
    try:
        triggers = outside.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            outside.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            outside.execute(statement)
        for _, sql in triggers:
            outside.execute(sql)
    finally:
        outside.close()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE calls SET text = 'better' WHERE seq = 3", "calls row 3: its content"),
        ("UPDATE outcomes SET value = 0.0", "outcomes row 1: its content"),
        ("UPDATE sessions SET pid = 1 WHERE seq = 1", "sessions row 1: its content"),
        ("DELETE FROM calls WHERE seq IN (5, 6)", "calls rows 5 to 6 are missing"),
        ("DELETE FROM calls WHERE seq = 1", "no call with key"),
        ("DELETE FROM meta WHERE name = 'run_id'", "meta: run_id is missing"),
    ],
)
def test_verify_finds_a_row_that_was_changed_or_removed_behind_its_back(path, statement, found):
    fill(path)
    tamper(path, statement)
    with Store.open(path, SETTINGS) as store:
        assert any(found in problem for problem in store.verify())


def test_verify_finds_a_flipped_byte_in_an_answer(path):
    fill(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"to question 7")
    content[place + 3] ^= 1
    path.write_bytes(content)
    with Store.open(path, SETTINGS) as store:
        assert store.verify() == ["calls row 8: its content does not have the recorded hash"]


def test_a_damaged_page_is_spoken_of_by_verify_and_refused_when_opened(path):
    fill(path)
    with Store.open(path, SETTINGS) as store:
        store.record_calls([a_call(f"long {i}", Answer("x" * 3000)) for i in range(100)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 3 * 4096] = b"\xff" * 3 * 4096
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as damaged:
        assert problems(damaged)
    with pytest.raises(StoreError, match=r"damaged; move it away"):
        Store.open(path, SETTINGS)


def test_a_file_that_is_no_database_is_named_with_what_to_do(path):
    path.parent.mkdir()
    path.write_text("not a database, " * 100)
    with pytest.raises(StoreError, match=r"not a database.*move it away"):
        Store.open(path, SETTINGS)


def test_a_database_of_another_program_is_left_alone(path):
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(RunError, match="another program"):
        Store.open(path, SETTINGS)


def test_a_store_of_a_newer_tunewise_is_refused(path):
    Store.open(path, SETTINGS).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(RunError, match="newer tunewise"):
        Store.open(path, SETTINGS)


def test_a_file_where_the_folder_is_wanted_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "runs").write_text("a file where a folder is wanted")
    with pytest.raises(SettingError, match=r"runs.*a folder was expected, and a file stands in its way"):
        Store.open(tmp_path / "runs" / "mine" / "run.sqlite", SETTINGS)


def test_a_file_that_cannot_be_written_is_a_store_error(path):
    Store.open(path, SETTINGS).close()
    path.with_name("run.sqlite.lock").unlink(missing_ok=True)
    path.with_name("run.sqlite.lock").mkdir()
    with pytest.raises(StoreError, match=r"run\.sqlite"):
        Store.open(path, SETTINGS)


def record_until_it_fails(store, recorded):
    for place in range(1000):
        call = a_call(f"q{place}", Answer("x" * 5000))
        store.record_calls([call])
        recorded.append(call)


def test_a_full_disk_raises_and_leaves_a_whole_store_that_can_be_resumed(path):
    # The limit on file size makes every write beyond it fail, as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    recorded = []
    with Store.open(path, SETTINGS) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
        try:
            with pytest.raises(StoreError, match=r"full|disk") as caught:
                record_until_it_fails(store, recorded)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "same command again" in str(caught.value)
        assert store.spent().calls == len(recorded)
        store.record_calls([a_call("after", Answer("there is room again"))])
    assert recorded
    with Store.open(path, SETTINGS) as store:
        assert store.verify() == []
        assert all(store.call(call.key) == call.answer for call in recorded)
        assert store.spent().calls == len(recorded) + 1


def test_threads_record_at_once_and_each_finds_its_own(store):
    def work(worker):
        for place in range(40):
            call = a_call(f"{worker}-{place}")
            store.record_calls([call])
            assert store.call(call.key) == call.answer

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.spent().calls == 320
    assert store.verify() == []


def start_writer(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "open\n"
    return writer


def test_kill_9_at_any_moment_loses_nothing_that_was_committed(path):
    draw = random.Random(7)
    promised = []
    for _ in range(5):
        writer = start_writer(path)
        time.sleep(draw.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        out, _ = writer.communicate()
        promised += [line for line in out.split("\n")[:-1] if len(line) == 64]
    with Store.open(path, {"writer": 1}) as store:
        assert store.verify() == []
        assert promised
        assert all(store.call(key) is not None for key in promised)


def test_a_second_process_is_refused_at_once_and_told_who_holds_the_run(path):
    writer = start_writer(path)
    try:
        started = time.monotonic()
        with pytest.raises(RunError, match=rf"in use by another process \(pid {writer.pid}"):
            Store.open(path, {"writer": 1})
        assert time.monotonic() - started < 2
    finally:
        writer.kill()
        writer.communicate()
    Store.open(path, {"writer": 1}).close()


def test_the_run_can_be_copied_and_opened_elsewhere_after_it_was_closed(path, tmp_path):
    fill(path)
    shutil.copy(path, tmp_path / "copy.sqlite")
    with Store.open(tmp_path / "copy.sqlite", SETTINGS) as copy:
        assert copy.verify() == []
        assert copy.spent().calls == 21


def test_a_sum_says_when_a_reserve_stands_in_for_a_price_that_no_host_told(path):
    with Store.open(path, SETTINGS) as store:
        request = Request((Message("user", "q"),), Decoding())
        store.record_calls([Call("a", Answer("x", usd=0.1), "d", "build", "r", request, 0.5)])
        assert (store.spent().usd, store.spent().usd_at_most) == (0.1, False)
        store.record_calls([Call("b", Answer("x"), "d", "build", "r", request, 0.5)])
        assert (store.spent().usd, store.spent().usd_at_most) == (0.6, True)
    with Store.open(path, SETTINGS) as store:
        assert store.spent().usd_at_most
