"""Looking again is paid for: openings are counted by row, across runs, folders and processes."""

import subprocess
import sys

import pytest

from tunewise.errors import StoreError
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
    with pytest.raises(StoreError, match=r"openings?.*|opened") as caught:
        opening_number(ROWS, "a")
    assert "TUNEWISE_HOME" in str(caught.value)


def test_a_damaged_record_is_named(home):
    home.mkdir()
    (home / "openings.sqlite").write_text("no database " * 100)
    with pytest.raises(StoreError, match=r"openings\.sqlite.*damaged"):
        opening_number(ROWS, "a")
