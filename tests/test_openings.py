"""Looking again is paid for: openings are counted by row, across runs, folders and processes."""

import subprocess
import sys

import pytest

import tunewise
from tunewise.errors import DoorError, RunError, SettingError, StoreError
from tunewise.models.scripted import ScriptedDoor
from tunewise.openings import Opening, next_opening, opening_number

ROWS = [f"row{i}" for i in range(20)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_first_opening_is_number_one_and_all_rows_are_fresh():
    assert opening_number(ROWS, "run-a") == Opening(number=1, fresh=20, opened_before=0, most=0)


def test_every_other_run_that_opens_the_rows_counts_once():
    assert [opening_number(ROWS, run).number for run in ("a", "b", "b", "c", "a")] == [1, 2, 2, 3, 1]


def test_a_resumed_run_keeps_its_number_whatever_was_opened_since():
    first = opening_number(ROWS, "a")
    for run in ("b", "c", "d"):
        opening_number(ROWS, run)
    assert opening_number(ROWS, "a") == first


def test_the_row_that_was_opened_most_often_sets_the_number_and_fresh_rows_are_counted():
    opening_number(ROWS[:5], "a")
    opening_number(ROWS[:1], "b")
    assert opening_number([*ROWS, ROWS[0]], "c") == Opening(number=3, fresh=15, opened_before=5, most=2)
    assert opening_number(["never seen"], "d") == Opening(number=1, fresh=1, opened_before=0, most=0)


def test_asking_for_the_next_number_records_nothing(home):
    assert next_opening(ROWS) == Opening(number=1, fresh=20, opened_before=0, most=0)
    assert not home.exists()
    opening_number(ROWS, "a")
    assert next_opening(ROWS).number == next_opening(ROWS, "b").number == 2
    assert next_opening(ROWS, "a").number == 1


def test_runs_that_open_at_the_same_time_get_different_numbers():
    code = (
        "import sys; from tunewise.openings import opening_number; "
        "print(opening_number(sys.argv[2:], sys.argv[1]).number)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, f"run{i}", *ROWS], stdout=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    assert sorted(int(process.communicate()[0]) for process in started) == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_written_stops_the_run_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(
        SettingError, match=r"record of opened certification items.*a file stands in"
    ) as caught:
        opening_number(ROWS, "a")
    assert "TUNEWISE_HOME" in str(caught.value)


def test_a_damaged_record_is_named(home):
    home.mkdir()
    (home / "openings.sqlite").write_text("no database " * 100)
    with pytest.raises(StoreError, match=r"openings\.sqlite.*damaged"):
        opening_number(ROWS, "a")


@pytest.fixture
def door_that(monkeypatch):
    """Puts a scripted door with ``reply(messages)`` in place of every model."""
    return lambda reply: monkeypatch.setattr(
        "tunewise.api.open_door", lambda spec, **more: ScriptedDoor(reply)
    )


def test_a_run_that_no_door_answers_opens_nothing(reverse_task, door_that):
    def dead(messages):
        raise DoorError("cannot be reached")

    task = reverse_task()
    door_that(dead)
    for out in ("one", "two"):
        with pytest.raises(DoorError):
            tunewise.decide(task, out=task.parent / out, rungs=["zero-shot"])
    door_that(lambda messages: "x")
    made = tunewise.decide(task, out=task.parent / "one", rungs=["zero-shot"])
    assert made.openings["number"] == 1
    assert tunewise.decide(task, out=task.parent / "three", rungs=["zero-shot"]).openings["number"] == 2


def test_an_opening_is_fixed_when_an_item_is_answered_and_before_any_is_scored(
    reverse_task, door_that, monkeypatch
):
    seen = []
    fix, score = opening_number, tunewise.run.score_answer
    monkeypatch.setattr("tunewise.run.opening_number", lambda *given: seen.append("opened") or fix(*given))
    monkeypatch.setattr("tunewise.run.score_answer", lambda *given: seen.append("scored") or score(*given))
    door_that(lambda messages: seen.append("answered") or "x")
    task = reverse_task()
    tunewise.decide(task, out=task.parent / "run", rungs=["zero-shot"])
    assert seen[:2] == ["answered", "opened"]
    assert seen.count("opened") == 1
    assert "scored" in seen


def test_a_wrong_address_is_mended_in_the_same_folder(reverse_task, monkeypatch):
    def opened(spec, **more):
        def reply(messages):
            if "dead" in spec.endpoint:
                raise DoorError(f"{spec.endpoint} cannot be reached")
            return "x"

        door = ScriptedDoor(reply)
        door.fingerprint = spec.endpoint
        return door

    monkeypatch.setattr("tunewise.api.open_door", opened)
    task = reverse_task(model="{endpoint: 'http://dead/v1', name: m}")
    with pytest.raises(DoorError):
        tunewise.decide(task, out=task.parent / "run", rungs=["zero-shot"])
    task.write_text(task.read_text().replace("http://dead/v1", "http://right/v1"))
    assert tunewise.decide(task, out=task.parent / "run", rungs=["zero-shot"]).openings["number"] == 1
    task.write_text(task.read_text().replace("http://right/v1", "http://other/v1"))
    with pytest.raises(RunError, match=r"then m at http://right/v1 .*, now m at http://other/v1 "):
        tunewise.decide(task, out=task.parent / "run", rungs=["zero-shot"])
