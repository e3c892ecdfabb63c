"""A data file -> its rows with their places: JSONL, JSON, CSV, TSV and Parquet."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from tunewise.errors import DataError, SettingError

KINDS = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
}
MAX_SHOWN = 10  # broken rows that one message lists
MAX_CELL = (
    100_000_000  # characters of a CSV cell; the library stops at 131,072, which a saved web page passes
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file; ``place`` is its line (in Parquet: its number), 1-based."""

    place: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowFile:
    """The rows of a file, the rows that could not be read as (place, what is wrong), and the file's kind."""

    kind: str
    rows: tuple[Row, ...]
    broken: tuple[tuple[int, str], ...] = ()

    @property
    def place_word(self) -> str:
        """What a place counts."""
        return "row" if self.kind == "Parquet" else "line"


def read_rows(path: Path, wanted: str = "") -> RowFile:
    """All rows of a data file. Raises DataError where it is missing, empty or of another kind or encoding."""
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        endings = ", ".join(KINDS)
        raise DataError(f"{path}: the ending '{path.suffix}' is not one of {endings}; save the rows as JSONL")
    if not path.is_file():
        raise DataError(
            f"{path}: {'this is a folder, a file was expected' if path.is_dir() else 'no such file'}"
        )
    if kind == "Parquet":
        return _parquet(path, wanted)
    text = _decode(path)
    if kind in ("CSV", "TSV"):
        found = RowFile(kind, *_split(_table(text, "\t" if kind == "TSV" else None)))
    elif text.lstrip()[:1] == "[":
        found = RowFile("JSON", *_split(_list(text)))
    elif (keys := _keys_of_one(text)) is not None:
        raise DataError(
            f"{path}: rows were expected, one per line or in a list, got one JSON object over several lines"
            f" with the keys {', '.join(keys[:5])}; save the list of rows itself"
        )
    else:
        found = RowFile("JSONL", *_split(_lines(text)))
    if not found.rows and not found.broken:
        raise DataError(f"{path}: the file holds no rows{wanted}")
    return found


Found = Iterator[tuple[int, Any]]  # place, and the row or what is wrong with it (a DataError)


def _split(found: Found) -> tuple[tuple[Row, ...], tuple[tuple[int, str], ...]]:
    rows: list[Row] = []
    broken: list[tuple[int, str]] = []
    for place, value in found:
        if isinstance(value, dict):
            rows.append(Row(place, value))
        elif isinstance(value, DataError):
            broken.append((place, str(value)))
        else:
            got = json.dumps(value, ensure_ascii=False)[:60]
            broken.append((place, f"an object {{...}} was expected, got {got}"))
    return tuple(rows), tuple(broken)


def _decode(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DataError(f"{path}: the file is UTF-16; save it as UTF-8") from None
        line = raw[: error.start].count(b"\n") + 1
        where = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise DataError(f"{path}, line {line}: {where} is not UTF-8; save the file as UTF-8") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where a key stands twice, since only one of the values could count."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key '{_twice(key for key, _ in pairs)}' stands twice in one object")
    return found


def _twice(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _broken(error: Exception) -> DataError:
    """What is wrong with a value that is no row, where the parser names no column."""
    said = "a number has more digits than can be read" if "integer string" in str(error) else str(error)[:100]
    return DataError(f"broken JSON: {said}")


def _lines(text: str) -> Found:
    """JSONL. Lines end at a line feed only: U+2028 and its like may stand inside a text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, json_value(line)


def json_value(text: str) -> Any:
    """The value that a text is; a DataError, not raised, where it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return DataError(f"broken JSON at column {error.colno}: {error.msg}; got '{text.strip()[:60]}'")
    except (ValueError, RecursionError) as error:
        return _broken(error)


def _keys_of_one(text: str) -> list[str] | None:
    """The keys of a text that is one JSON object spread over lines; None for any other."""
    first = text.lstrip().split("\n", 1)[0]
    if not first.startswith("{") or isinstance(json_value(first), dict):
        return None
    whole = json_value(text)
    return list(whole) if isinstance(whole, dict) else None


def _list(text: str) -> Found:
    """A JSON list, value by value, so that each row has the line on which it begins."""
    decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        line, counted = line + text.count("\n", counted, at), at
        if text[at : at + 1] == "]":
            rest = text[at + 1 :].lstrip()
            if rest:
                line += text.count("\n", at, len(text) - len(rest))
                yield line, DataError(f"the list has ended, but more follows: '{rest[:40].rstrip()}'")
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            yield error.lineno, DataError(f"broken JSON at column {error.colno}: {error.msg}")
            return
        except (ValueError, RecursionError) as error:
            yield line, _broken(error)
            return
        yield line, value


def _table(text: str, delimiter: str | None) -> Found:
    """CSV with a header; the delimiter is the one of comma, semicolon and tab that the header has most of."""
    header_line = text.lstrip("\n").split("\n", 1)[0]
    mark = delimiter or max(",;\t", key=header_line.count)
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    header: list[str] | None = None
    begins = 1
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield (
                begins,
                DataError(f"broken CSV: {error}; look for a quote that is not closed"),
            )
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            if (name := _twice(filter(None, header))) is not None:
                yield (
                    begins,
                    DataError(f"the column '{name}' stands twice in the header; rename or remove one"),
                )
                return
        elif len(cells) != len(header):
            yield begins, DataError(f"{len(header)} cells were expected as in the header, got {len(cells)}")
        else:
            yield begins, dict(zip(header, cells, strict=True))


def _parquet(path: Path, wanted: str) -> RowFile:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SettingError(
            f"{path}: Parquet needs pyarrow; run: pip install 'tunewise[local]', or save the rows as JSONL"
        ) from None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: this is no Parquet file that pyarrow can read: {error}") from error
    if not rows:
        raise DataError(f"{path}: the file holds no rows{wanted}")
    return RowFile("Parquet", tuple(Row(number, _json_like(row)) for number, row in enumerate(rows, start=1)))


def _json_like(value: Any) -> Any:
    """A Parquet value as JSON would have it: bytes as text, decimals as numbers, dates and times in ISO 8601.

    Bytes that are no UTF-8 (a picture) stay bytes, which a row may hold beside what is read.
    """
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _json_like(one) for key, one in value.items()}
    return [_json_like(one) for one in value] if isinstance(value, list) else value
