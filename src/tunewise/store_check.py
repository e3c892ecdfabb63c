"""A store proves itself: every row read again, against its hash, its number and what it names."""

import sqlite3
from collections.abc import Iterator

from tunewise.store_rows import COLUMNS, content_hash, request_of


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with a store's file, in words; nothing when it is whole."""
    try:
        return [*_structure(connection), *_rows(connection), *_references(connection)]
    except sqlite3.DatabaseError as error:
        return [f"the file cannot be read to its end: {error}"]


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"file structure: {line}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"{table} row {row}: names a row of {parent} that is not there"


def _rows(connection: sqlite3.Connection) -> Iterator[str]:
    """Numbering, content hash and, for calls, the identity of the request, row by row."""
    for table, names in COLUMNS.items():
        expected = 1
        rows = connection.execute(f"SELECT seq, hash, {', '.join(names)} FROM {table} ORDER BY seq")
        for seq, recorded, *values in rows:
            if seq != expected:
                yield f"{table} rows {expected} to {seq - 1} are missing"
            expected = seq + 1
            if content_hash(table, values) != recorded:
                yield f"{table} row {seq}: its content does not have the recorded hash"
            elif "request" in names:
                row = dict(zip(names, values, strict=True))
                if request_of(row["request"]).key(row["door"]) != row["key"]:
                    yield f"{table} row {seq}: its key is not that of its request at its door"


def _references(connection: sqlite3.Connection) -> Iterator[str]:
    orphans = connection.execute(
        "SELECT seq, call FROM outcomes WHERE call IS NOT NULL AND call NOT IN (SELECT key FROM calls) "
        "AND call NOT IN (SELECT key FROM failures) ORDER BY seq"
    )
    for seq, call in orphans:
        yield f"outcomes row {seq}: no call with key {call} is on record"
    for name in ("run_id", "settings"):
        if connection.execute("SELECT 1 FROM meta WHERE name = ?", (name,)).fetchone() is None:
            yield f"meta: {name} is missing"
