"""How often these certification items have been opened here, by any run: looking again is paid for.

One small SQLite file in the user's data folder, so that a new output folder, target, seed or model does
not reset the count. It holds content hashes of rows, run ids and times, and no text.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_data_dir

from tunewise.database import connect, failures_in_words, make_folder, transaction
from tunewise.errors import SettingError, StoreError

_TABLE = """
    CREATE TABLE IF NOT EXISTS openings (
        seq     INTEGER PRIMARY KEY AUTOINCREMENT,
        example TEXT NOT NULL, -- content hash of the row
        run     TEXT NOT NULL,
        at      TEXT NOT NULL, -- UTC, ISO 8601
        UNIQUE (example, run)
    )
"""

# Other runs that opened each asked row, before this run did if it did.
_COUNTS = """
    SELECT count(others.seq) FROM asked
    LEFT JOIN openings AS own ON own.example = asked.example AND own.run = :run
    LEFT JOIN openings AS others ON others.example = asked.example AND others.run <> :run
        AND (own.seq IS NULL OR others.seq < own.seq)
    GROUP BY asked.example
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """Which opening of its items this run is.

    number: 1 + ``most``. fresh: rows that no other run opened before; opened_before: the other rows;
    most: the largest number of other runs that opened one and the same of these rows before.
    """

    number: int
    fresh: int
    opened_before: int
    most: int


def data_folder() -> Path:
    """$TUNEWISE_HOME, else the user's data folder of this system."""
    named = os.environ.get("TUNEWISE_HOME")
    return Path(named) if named else Path(user_data_dir("tunewise"))


def opening_number(keys: Iterable[str], run_id: str) -> Opening:
    """Record that the run opens these rows, and say which opening that is. To be called before any is read.

    keys: content hashes of the rows. A run counts once: resumed, it gets the number that it got first,
    also when other runs opened the rows since. Raises StoreError when the ledger cannot be written.
    """
    with _ledger() as ledger, transaction(ledger):
        opening = _count(ledger, keys, run_id)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ledger.execute(
            "INSERT OR IGNORE INTO openings (example, run, at) "
            "SELECT example, ?, ? FROM asked ORDER BY example",
            (run_id, now),
        )
    return opening


def next_opening(keys: Iterable[str], run_id: str = "") -> Opening:
    """What ``opening_number`` would say, without recording anything: for plans and dry runs."""
    if not _path().is_file():
        fresh = len(set(keys))
        return Opening(number=1, fresh=fresh, opened_before=0, most=0)
    with _ledger() as ledger:
        return _count(ledger, keys, run_id)


def _path() -> Path:
    return data_folder() / "openings.sqlite"


@contextmanager
def _ledger() -> Iterator[sqlite3.Connection]:
    path = _path()
    try:
        make_folder(path.parent)
        with failures_in_words(path), closing(connect(path, pragmas=("synchronous=FULL",))) as ledger:
            ledger.execute(_TABLE)
            yield ledger
    except (StoreError, SettingError) as error:  # a file in the way of the folder is the user's to mend
        raise type(error)(
            f"the record of opened certification items cannot be kept, and without it a verdict could be "
            f"tried again until it pleases: {error} Set TUNEWISE_HOME to a folder that can be written."
        ) from error


def _count(ledger: sqlite3.Connection, keys: Iterable[str], run_id: str) -> Opening:
    ledger.execute("CREATE TEMP TABLE IF NOT EXISTS asked (example TEXT PRIMARY KEY)")
    ledger.executemany("INSERT OR IGNORE INTO asked (example) VALUES (?)", [(key,) for key in keys])
    counts = [count for (count,) in ledger.execute(_COUNTS, {"run": run_id})]
    most = max(counts, default=0)
    opened = sum(count > 0 for count in counts)
    return Opening(number=1 + most, fresh=len(counts) - opened, opened_before=opened, most=most)
