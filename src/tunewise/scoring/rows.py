"""Rows to be scored: what a system wrote, and what would have been right."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewise.data import reference_text
from tunewise.errors import DataError
from tunewise.rowfiles import MAX_SHOWN, Row, read_rows

State = Literal["answered", "refused", "errored"]
STATES: Mapping[str, State] = {"ok": "answered", "refused": "refused", "errored": "errored"}


@dataclass(frozen=True, slots=True)
class OutputRow:
    """One output. references: right answers, the best match counts; none where the row names none.

    state: as ``tunewise answer`` wrote it; an ``errored`` answer has no value, a refused one has 0.
    line: its place in the file, 1-based.
    """

    output: str
    line: int
    references: tuple[Any, ...] = ()
    input: str = ""
    id: str | None = None
    conversation: str | None = None
    turn: int | None = None
    state: State = "answered"
    error: str | None = None


def read_outputs(path: str | Path) -> tuple[OutputRow, ...]:
    """The rows of a file: ``output``, and optionally ``reference`` or ``references``, ``input``, ``id``,
    ``conversation``, ``turn``, and ``status`` and ``error`` as ``tunewise answer`` writes them.

    ``output`` is a text; another JSON value is taken as its JSON text. Raises DataError for a file that
    cannot be read and for broken rows, up to 10 with their lines.
    """
    file = read_rows(Path(path))
    broken = list(file.broken)
    rows: list[OutputRow] = []
    for row in file.rows:
        try:
            rows.append(_row(row))
        except DataError as error:
            broken.append((row.place, str(error)))
    if broken:
        listed = [f"{path}, {file.place_word} {place}: {text}" for place, text in sorted(broken)[:MAX_SHOWN]]
        more = [f"... and {len(broken) - MAX_SHOWN} more rows"] if len(broken) > MAX_SHOWN else []
        raise DataError("\n".join(listed + more))
    return tuple(rows)


def _row(row: Row) -> OutputRow:
    fields = row.fields
    if "output" not in fields:
        raise DataError(f"'output' is missing; the row has {', '.join(sorted(fields)) or 'no fields'}")
    status = fields.get("status", "ok")
    if not isinstance(status, str) or status not in STATES:
        raise DataError(f"status: one of {', '.join(STATES)} was expected, got {_shown(status)}")
    output = fields["output"]
    if output is None and status == "ok":
        raise DataError("'output' is null; an answer that failed has status errored")
    turn = fields.get("turn")
    if isinstance(turn, str) and turn.strip().isdigit():
        turn = int(turn)
    if turn is not None and (isinstance(turn, bool) or not isinstance(turn, int)):
        raise DataError(f"turn: a whole number was expected, got {_shown(turn)}")
    return OutputRow(
        output="" if output is None else reference_text(output),
        line=row.place,
        references=_references(fields),
        input=reference_text(fields.get("input") or ""),
        id=_name(fields, "id"),
        conversation=_name(fields, "conversation"),
        turn=turn,
        state=STATES[status],
        error=None if fields.get("error") is None else str(fields["error"]),
    )


def _references(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    if "reference" in fields and "references" in fields:
        raise DataError("'reference' and 'references' are both there; keep one")
    if fields.get("reference") is not None:
        return (fields["reference"],)
    several = fields.get("references")
    if several is None:
        return ()
    if not isinstance(several, list) or not several:
        raise DataError(f"references: a list of right answers was expected, got {_shown(several)}")
    return tuple(several)


def _name(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{key}: a text or a number was expected, got {_shown(value)}")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def keyed(rows: Sequence[OutputRow], path: object, by: str) -> dict[str, OutputRow]:
    """The rows by their identity. by: ``id``, ``conversation and turn`` or ``input``.

    Raises DataError for rows without it and for identities that stand twice, with their lines.
    """
    found: dict[str, OutputRow] = {}
    missing = [row.line for row in rows if key_of(row, by) is None]
    if missing:
        raise DataError(f"{path}: {len(missing)} rows have no {by} (lines {_lines(missing)})")
    counts = Counter(key_of(row, by) for row in rows)
    twice = [row for row in rows if counts[key_of(row, by)] > 1]
    if twice:
        first = key_of(twice[0], by)
        places = _lines([row.line for row in rows if key_of(row, by) == first])
        raise DataError(
            f"{path}: {len(twice)} rows share their {by} with another row, so they cannot be paired;"
            f" the first is {_shown(first)} (lines {places}). Give every row an id of its own"
        )
    for row in rows:
        found[str(key_of(row, by))] = row
    return found


def key_of(row: OutputRow, by: str) -> str | None:
    """The identity of a row."""
    if by == "id":
        return row.id
    if by == "input":
        return row.input or None
    if row.conversation is None or row.turn is None:
        return None
    return f"{row.conversation}, turn {row.turn}"


def identity(*files: Sequence[OutputRow]) -> str:
    """What identifies rows in all of these files: ids, else conversation and turn, else the input."""
    rows = [row for file in files for row in file]
    for by in ("id", "conversation and turn", "input"):
        if any(key_of(row, by) is not None for row in rows):
            return by
    raise DataError(
        "the rows have neither 'id' nor 'conversation' and 'turn' nor 'input', so they cannot be paired"
    )


def _lines(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
