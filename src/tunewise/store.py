"""The run's store: what was asked, answered, read and fixed, on disk before it counts. Only ever appended to.

SQLite in WAL mode with synchronous=NORMAL: a commit is in the operating system's hands when the call
returns, so kill -9 loses nothing committed; a power cut may lose the last commits, never the file.
Every row carries the SHA-256 of its content, and ``verify`` recomputes them all.
"""

import json
import os
import platform
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from filelock import FileLock, Timeout

from tunewise.database import connect, failures_in_words, make_folder, migrate, transaction
from tunewise.errors import RunError, SettingError
from tunewise.evidence.records import Outcome
from tunewise.models.door import Answer, Request
from tunewise.store_account import Account, Spent, usd_of_building
from tunewise.store_check import problems
from tunewise.store_rows import (
    ANSWER_COLUMNS,
    ANSWER_NAMES,
    COLUMNS,
    answer_of,
    as_json,
    content_hash,
    outcome_of,
    outcome_row,
    plain,
    request_json,
    storable,
)
from tunewise.store_settings import Named, make_way, other_settings

__all__ = ["Call", "Spent", "Store", "path_of"]

APPLICATION_ID = 0x74756E65  # "tune"


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call, as it goes on record. door: fingerprint. upper_usd: what was reserved for it."""

    key: str
    answer: Answer
    door: str
    purpose: str
    rung: str
    request: Request
    upper_usd: float | None = None


class Store:
    """The store of one run, open for this process alone. All methods may be called from any thread.

    Every method that writes returns after its commit and raises StoreError when that failed; then
    nothing of it was written, and what was committed before stands.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock) -> None:
        """Use ``Store.open``."""
        self.path = path
        self._connection = connection
        self._process_lock = lock
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._session = 0
        self.run_id = ""

    @classmethod
    def open(
        cls, url: str | Path, settings: Mapping[str, Any], words: Mapping[str, str] | None = None
    ) -> "Store":
        """Open the run at ``url`` (a path or ``sqlite:///PATH``), or start it with ``settings`` (JSON-able).

        words: how to name settings, by dotted key, whose values say nothing to people (fingerprints). A run
        of other settings that has measured nothing and cost nothing makes way for this one.

        Raises RunError when another process has it open, when it was started with other settings (each
        difference is listed) or when the file is another program's; SettingError for an unknown URL;
        StoreError when the folder or file cannot be created, read or written.
        """
        path = path_of(url)
        make_folder(path.parent)
        lock = _lock_or_refuse(path)
        try:
            make_way(path, plain(dict(settings)), APPLICATION_ID)
            connection = connect(
                path, pragmas=("journal_mode=WAL", "synchronous=NORMAL", "recursive_triggers=ON")
            )
            try:
                store = cls(path, connection, lock)
                with failures_in_words(path):
                    migrate(connection, path, "migrations", APPLICATION_ID)
                    store._begin(plain(dict(settings)), dict(words or {}))
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Hand the run back. Later calls of other methods are an error of the caller."""
        with self._lock:
            self._connection.close()
            self._process_lock.release()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the run was started with."""
        return cast(dict[str, Any], json.loads(self._meta("settings") or "{}"))

    # Calls

    def call(self, key: str) -> Answer | None:
        """The answer on record for this request; None when there is none that stands (so an errored one)."""
        with self._lock, failures_in_words(self.path):
            row = self._connection.execute(
                f"SELECT {ANSWER_COLUMNS} FROM calls WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else answer_of(row)

    def settled_failure(self, key: str, rung: str) -> Answer | None:
        """The error that a search of ``rung`` had for an answer when the rung's items were opened, if it had.

        Before, errors are asked again; afterwards another answer, also one that came for another purpose or
        rung since, could make the search choose another candidate.
        """
        opened = "(SELECT session, at FROM outcomes WHERE rung = ? ORDER BY session, at LIMIT 1)"
        with self._lock, failures_in_words(self.path):
            row = self._connection.execute(
                f"SELECT {ANSWER_COLUMNS} FROM failures WHERE key = ? AND rung = ? AND status = 'errored' "
                f"AND (session, at) <= {opened} AND NOT EXISTS "
                f"(SELECT 1 FROM calls WHERE calls.key = failures.key AND (session, at) <= {opened}) "
                "ORDER BY seq DESC LIMIT 1",
                (key, rung, rung, rung),
            ).fetchone()
        return None if row is None else answer_of(row)

    def record_call(
        self,
        key: str,
        answer: Answer,
        *,
        door: str,
        purpose: str,
        rung: str,
        request: Request,
        upper_usd: float | None = None,
    ) -> Answer:
        """Record one finished call; see ``record_calls``."""
        return self.record_calls([Call(key, answer, door, purpose, rung, request, upper_usd)])[0]

    def record_calls(self, calls: Sequence[Call]) -> list[Answer]:
        """Record finished calls in one commit, and return their answers as ``call`` will give them.

        An errored answer goes to ``failures``: it is counted in ``spent`` and asked for again on
        resuming. So does a second answer to one request, and the first is returned.
        """
        with self._lock:
            with self._writing():
                answers = [self._insert_call(call) for call in calls]
            for call in calls:
                self._account.call(call.answer, call.upper_usd)
        return answers

    def _insert_call(self, call: Call) -> Answer:
        answer = storable(call.answer)
        first = self.call(call.key)
        row = {
            "key": call.key,
            "door": call.door,
            "purpose": call.purpose,
            "rung": call.rung,
            "request": request_json(call.request),
            **{name: getattr(answer, name) for name in ANSWER_NAMES},
            "upper_usd": call.upper_usd,
        }
        self._insert("failures" if first is not None or answer.status == "errored" else "calls", row)
        return answer if first is None else first

    # Outcomes

    def record_outcome(self, rung: str, outcome: Outcome, *, call: str | None = None) -> None:
        """Record one outcome; see ``record_outcomes``."""
        self.record_outcomes(rung, [(outcome, call)])

    def record_outcomes(self, rung: str, outcomes: Sequence[tuple[Outcome, str | None]]) -> None:
        """Record outcomes that a test has read, each with the key of its call, in one commit.

        An outcome that stands already is not written again; another one for the same position (an
        errored item that was asked again) is added and stands from then on.
        """
        with self._writing():
            for outcome, call in outcomes:
                row = outcome_row(rung, outcome, call)
                latest = self._connection.execute(
                    f"SELECT {', '.join(row)} FROM outcomes WHERE rung = ? AND position = ? "
                    "ORDER BY seq DESC LIMIT 1",
                    (rung, outcome.position),
                ).fetchone()
                if latest != tuple(row.values()):
                    self._insert("outcomes", row)

    def outcomes(self, rung: str) -> tuple[Outcome, ...]:
        """The outcomes that stand for a rung, by position."""
        names = [field.name for field in fields(Outcome)]
        with self._lock, failures_in_words(self.path):
            rows = self._connection.execute(
                f"SELECT {', '.join(names)} FROM outcomes WHERE seq IN "
                "(SELECT max(seq) FROM outcomes WHERE rung = ? GROUP BY position) ORDER BY position",
                (rung,),
            ).fetchall()
        return tuple(outcome_of(dict(zip(names, row, strict=True))) for row in rows)

    # Fixed once, told, paid

    def freeze(self, name: str, value: Any) -> Any:
        """Fix ``value`` (JSON-able) under ``name`` unless one is fixed already; return the one that stands.

        What is returned has always been through JSON (tuples are lists, keys are strings).
        """
        with self._writing():
            row = self._connection.execute("SELECT value FROM frozen WHERE name = ?", (name,)).fetchone()
            if row is None:
                row = (as_json(value),)
                self._insert("frozen", {"name": name, "value": row[0]})
        return json.loads(row[0])

    def frozen(self, name: str) -> Any | None:
        """What was fixed under ``name``, None when nothing was."""
        with self._lock, failures_in_words(self.path):
            row = self._connection.execute("SELECT value FROM frozen WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def log(self, event: str, facts: Mapping[str, Any]) -> None:
        """Record that something happened. Also marks the wall time, so long silent steps should call it."""
        with self._writing():
            self._insert("events", {"event": event, "facts": as_json(dict(facts))})

    def events(self, event: str) -> tuple[dict[str, Any], ...]:
        """The facts of all events of this name, in order."""
        with self._lock, failures_in_words(self.path):
            rows = self._connection.execute(
                "SELECT facts FROM events WHERE event = ? ORDER BY seq", (event,)
            ).fetchall()
        return tuple(json.loads(facts) for (facts,) in rows)

    def record_cost(self, what: str, usd: float, *, rung: str) -> None:
        """Record a cost in USD that is no call, such as training on a machine with a price."""
        with self._lock:
            with self._writing():
                self._insert("costs", {"rung": rung, "what": what, "usd": float(usd)})
            self._account.pay(usd)

    def cost(self, what: str, *, rung: str) -> float:
        """The sum of such costs on record, in USD."""
        with self._lock, failures_in_words(self.path):
            row = self._connection.execute(
                "SELECT total(usd) FROM costs WHERE what = ? AND rung = ?", (what, rung)
            ).fetchone()
        return float(row[0])

    def usd_of_building(self, rung: str) -> float | None:
        """What the calls that built this rung cost in USD; None when there were some and none had a price."""
        with self._lock, failures_in_words(self.path):
            return usd_of_building(self._connection, rung)

    def spent(self) -> Spent:
        """What all sessions of this run have spent so far, this one up to now included."""
        with self._lock:
            return self._account.spent(self._now())

    def verify(self) -> list[str]:
        """Read every row again: file structure, content hashes, numbering, request keys, references.

        Returns the problems in words, none when the store is whole. Finds damage and edits from
        outside, such as a flipped byte, that would otherwise pass as measurements.
        """
        with self._lock:
            return problems(self._connection)

    # Inside

    def _begin(self, settings: dict[str, Any], words: dict[str, str]) -> None:
        """Take up the run: fix or compare the settings, open a session."""
        from tunewise import __version__

        with transaction(self._connection):
            then = self._meta("settings")
            if then is None:
                self._insert("meta", {"name": "run_id", "value": uuid.uuid4().hex})
                self._insert("meta", {"name": "settings", "value": as_json(settings)})
                self._insert("meta", {"name": "words", "value": as_json(words)})
            elif json.loads(then) != settings:
                before = Named(json.loads(then), json.loads(self._meta("words") or "{}"))
                raise RunError(other_settings(self.path, before, Named(settings, words)))
            started = datetime.now(UTC).isoformat(timespec="seconds")
            host, pid = platform.node(), os.getpid()
            opened = {"started": started, "pid": pid, "host": host, "version": __version__}
            self._session = self._insert("sessions", opened)
            self._account = Account(self._connection, self._session)
        self.run_id = self._meta("run_id") or ""

    def _meta(self, name: str) -> str | None:
        with self._lock, failures_in_words(self.path):
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _now(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, failures_in_words(self.path), transaction(self._connection):
            yield

    def _insert(self, table: str, row: Mapping[str, Any]) -> int:
        """Add a row with its place in time and its hash; returns its number."""
        full = {"session": self._session, "at": self._now(), **row}
        names = COLUMNS[table]
        values = [full[name] for name in names]
        marks = ", ".join("?" * (len(names) + 1))
        cursor = self._connection.execute(
            f"INSERT INTO {table} ({', '.join(names)}, hash) VALUES ({marks})",
            (*values, content_hash(table, values)),
        )
        return cursor.lastrowid or 0


def path_of(url: str | Path) -> Path:
    """The file that a store's URL names. Raises SettingError for a scheme that is not ``sqlite``."""
    if isinstance(url, Path):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Path(url)
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise SettingError(
            f"store {url!r}: expected a path or sqlite:///PATH (four slashes for an absolute path); "
            "other stores are not supported."
        )
    return Path(rest[1:])


def _lock_or_refuse(path: Path) -> FileLock:
    """The lock beside the file, held. Raises RunError at once when another process holds it."""
    lock = FileLock(f"{path}.lock", thread_local=False)
    with failures_in_words(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{path} is in use by {_holder(path)}: wait until it ends, end it, or choose another --out."
            ) from None
    return lock


def run_id_of(path: Path) -> str:
    """The id of the run in a file, which nothing is written to; empty where there is none."""
    row = _read_only(path, "SELECT value FROM meta WHERE name = 'run_id'")
    return "" if row is None else str(row[0])


def _read_only(path: Path, query: str) -> tuple[Any, ...] | None:
    """The first row that ``query`` gives, as far as the file can be read; also while it is held."""
    try:
        connection = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=1.0)
        try:
            row: tuple[Any, ...] | None = connection.execute(query).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    return row


def _holder(path: Path) -> str:
    """The process that opened the run last, as far as it can be read."""
    row = _read_only(path, "SELECT pid, host FROM sessions ORDER BY seq DESC LIMIT 1")
    return "another process" if row is None else f"another process (pid {row[0]} on {row[1]})"
