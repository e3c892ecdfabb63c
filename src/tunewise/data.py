"""Reading examples: rows of any accepted format -> one shape."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.errors import DataError
from tunewise.formats import Role, group_of, passages_of, read_row, recognise
from tunewise.rowfiles import MAX_SHOWN, Row, read_rows


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data.

    key: 16 hex digits of SHA-256 over turns and references: the row's identity, whatever its place.
    turns: the chat up to the answer; the last turn is the user's, an optional first one the system's.
    references: right answers, JSON values or strings, at least one; the best match counts.
    group: value of ``split.group`` in this row, None without groups.
    passages: ids of the documents or chunks that hold the answer, when the row names them.
    source, line: where the row stands, for messages (1-based).
    """

    key: str
    turns: tuple[Message, ...]
    references: tuple[Any, ...]
    group: str | None = None
    passages: tuple[str, ...] = ()
    source: str = ""
    line: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def input(self) -> str:
        """The last user turn."""
        return self.turns[-1].content

    @property
    def answer(self) -> str:
        """The first reference as the text a model should write (JSON values in the row's key order)."""
        return reference_text(self.references[0])


def reference_text(reference: Any) -> str:
    """A reference as the text a model should write: strings as they are, JSON values serialised."""
    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False, default=str)


def example_key(turns: Sequence[Message], references: Sequence[Any]) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of turns and references."""
    body = {"turns": [[turn.role, turn.content] for turn in turns], "references": list(references)}
    text = json.dumps(body, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows of one file: examples in file order without exact duplicates.

    format: the recognised format in words. warnings: what the user should read.
    """

    examples: tuple[Example, ...]
    format: str
    warnings: tuple[str, ...] = ()


def read_examples(path: str | Path, group: str | None = None) -> ReadRows:
    """Read a data file of any accepted format (see ``formats``); ``group``: the field of ``split.group``.

    Raises DataError for a missing or empty file, another encoding, rows that are broken or lack an
    output (up to 10 with their lines); SettingError for Parquet without pyarrow.
    """
    return _read(Path(path), group, answered=True)


def read_inputs(path: str | Path) -> ReadRows:
    """Read rows to be answered: the same formats, where the answer may be missing (no references then).

    Repeated inputs are kept, so that there is one answer per row. Raises as ``read_examples``.
    """
    return _read(Path(path), None, answered=False)


def _read(path: Path, group: str | None, *, answered: bool) -> ReadRows:
    file = read_rows(path, "; at least 16 for certification alone are needed" if answered else "")
    broken = list(file.broken)
    name = ""
    examples: list[Example] = []
    if file.rows:
        try:
            name = recognise([row.fields for row in file.rows])
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    for row in file.rows:
        try:
            examples.append(_example(row, name, group, str(path), answered))
        except DataError as error:
            broken.append((row.place, str(error)))
    if broken:
        raise DataError(_all_broken(path, file.place_word, name, sorted(broken)))
    wording = f"{name} rows in {file.kind}"
    if not answered:
        return ReadRows(tuple(examples), wording)
    kept, warnings = _drop_duplicates(examples, path.name, file.place_word)
    return ReadRows(kept, wording, (*warnings, *_contradictions(kept, path.name, file.place_word)))


def _example(row: Row, name: str, group: str | None, source: str, answered: bool) -> Example:
    read = read_row(row.fields, name, answered=answered)
    turns = tuple(Message(role, content) for role, content in read.turns)
    return Example(
        key=example_key(turns, read.references),
        turns=turns,
        references=read.references,
        group=None if group is None else group_of(row.fields, group),
        passages=passages_of(row.fields),
        source=source,
        line=row.place,
        fields=row.fields,
    )


def _all_broken(path: Path, word: str, name: str, broken: list[tuple[int, str]]) -> str:
    listed = [f"{path}, {word} {place}: {text}" for place, text in broken[:MAX_SHOWN]]
    if len(broken) > MAX_SHOWN:
        listed.append(f"... and {len(broken) - MAX_SHOWN} more rows")
    if name and len(broken) > 1:
        listed.append(f"(most rows are of the format {name})")
    return "\n".join(listed)


def _drop_duplicates(
    examples: Sequence[Example], file: str, word: str
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The first of each key, and one warning with how many were dropped."""
    first: dict[str, Example] = {}
    dropped = [row for row in examples if first.setdefault(row.key, row) is not row]
    if not dropped:
        return tuple(examples), ()
    again = dropped[0]
    count = f"{len(dropped)} exact duplicate{'s' if len(dropped) > 1 else ''} dropped"
    seen = f"{word} {again.line} repeats {word} {first[again.key].line}"
    return tuple(first.values()), (f"{file}: {count} (the first: {seen})",)


def _contradictions(examples: Sequence[Example], file: str, word: str) -> tuple[str, ...]:
    """Rows with the input of an earlier row and other outputs, with both places."""
    first: dict[tuple[Message, ...], Example] = {}
    found: list[str] = []
    for row in examples:
        earlier = first.setdefault(row.turns, row)
        if earlier is not row:
            outputs = f"'{earlier.answer[:40]}' and '{row.answer[:40]}'"
            places = f"{word}s {earlier.line} and {row.line}"
            found.append(f"{file}: {places} have the same input and different outputs: {outputs}")
    if len(found) > MAX_SHOWN:
        more = f"{file}: {len(found) - MAX_SHOWN} more rows repeat an earlier input with another output"
        return (*found[:MAX_SHOWN], more)
    return tuple(found)
