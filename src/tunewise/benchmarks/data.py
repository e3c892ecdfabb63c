"""Rows of a benchmark: from a local folder, or from the hub through the datasets library."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row
from tunewise.errors import DataError, DoorError, SettingError


def items_of(benchmark: Benchmark, folder: Path | None, limit: int | None = None) -> list[Item]:
    """The first ``limit`` items of a benchmark (None: all), in the order of the file.

    folder: where its rows lie; None: the hub. Raises DataError where the folder or the hub does not hold what
    is expected, and SettingError where the hub is not to be had without the extra.
    """
    source = f" of {benchmark.name}"
    needed = None if benchmark.grouped or benchmark.kind in ("text", "instructions") else limit
    rows = rows_of(benchmark.files, benchmark.hub, folder, source, needed)
    few = rows_of(benchmark.few, benchmark.few_hub, folder, f" (examples){source}") if benchmark.few else []
    items = spread(benchmark, benchmark.read(rows, few), limit)
    if not items:
        why = benchmark.unusable(rows[0]) if benchmark.unusable is not None and rows else None
        raise DataError(
            f"{benchmark.name}: no item was found in {folder or benchmark.hub}"
            + (f"; none of {len(rows)} rows can be asked, the first since {why}" if why else "")
        )
    return items


def lies_in(benchmark: Benchmark, folder: Path) -> bool:
    """Whether a folder holds files of a benchmark, and those of its examples where it has some."""
    wanted = [benchmark.files, *([benchmark.few] if benchmark.few else [])]
    return all(any(True for p in files.patterns for _ in folder.glob(p)) for files in wanted)


def left_out(benchmark: Benchmark, folder: Path | None) -> tuple[int, int] | None:
    """(rows that cannot be asked, all rows); None where every row of the benchmark can."""
    if benchmark.unusable is None:
        return None
    rows = rows_of(benchmark.files, benchmark.hub, folder, f" of {benchmark.name}")
    return sum(benchmark.unusable(row) is not None for row in rows), len(rows)


def spread(benchmark: Benchmark, items: list[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` items: the first; of grouped benchmarks the first of each group in turn; of a text
    passages at even distances. Those of one group stay together, in the order of the file."""
    if limit is None or len(items) <= limit:
        return items
    if benchmark.kind == "text":
        return [items[number * len(items) // limit] for number in range(limit)]
    seen: dict[str | None, int] = {}
    ranks = []
    for place, item in enumerate(items):
        seen[item.group] = seen.get(item.group, 0) + (item.group is not None)
        ranks.append((seen[item.group], place))
    return [items[place] for place in sorted(place for _, place in sorted(ranks)[:limit])]


def rows_of(
    files: Files, hub: Hub | None, folder: Path | None, what: str, limit: int | None = None
) -> list[Row]:
    """Rows of the first pattern that finds files in ``folder``, or of the hub."""
    absolute = [Path(pattern) for pattern in files.patterns if Path(pattern).is_absolute()]
    if absolute:
        found = [path for path in absolute if path.is_file()]
        if not found:
            raise DataError(f"{absolute[0]}: no such file")
    elif folder is None:
        return hub_rows(hub, what, limit)
    elif not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with benchmark files, there is none")
    else:
        found = next((hits for pattern in files.patterns if (hits := sorted(folder.glob(pattern)))), [])
    if not found:
        expected = " or ".join(str(folder / pattern) if folder else pattern for pattern in files.patterns)
        raise DataError(
            f"{folder}: the rows{what} are not there; expected {expected}. Put the file there, or name no "
            "folder to have them read from the hub"
        )
    return list(islice((row for path in found for row in file_rows(path)), limit))


def file_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file, each with its place; a plain text is one row {"text": ...}."""
    try:
        if path.suffix == ".txt":
            yield {"text": path.read_text(encoding="utf-8")}
            return
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield {**parsed(path, number, line), "__place__": f"{path}, line {number}"}
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, byte {error.start} is not") from error


def parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object on one line."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: broken JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: expected an object {{...}}, got {line.strip()[:60]}")
    return row


def hub_rows(hub: Hub | None, what: str, limit: int | None) -> list[Row]:
    """Rows from the hub. Raises SettingError without the extra, DoorError when the hub cannot be reached."""
    if hub is None:
        raise SettingError(f"the rows{what} are on no hub; say with --data in which folder they lie")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise SettingError(
            f"the rows{what} come from the hub, which needs the extra: pip install 'tunewise[local]'; "
            "or give a folder that holds them with --data"
        ) from error
    try:
        rows: Sequence[Any] = load_dataset(hub.path, hub.configuration, split=hub.split)
    except (OSError, ValueError, RuntimeError) as error:
        raise DoorError(
            f"the rows{what} could not be read from the hub ({hub.path}): {error}. Give a folder with --data"
        ) from error
    return [dict(rows[number]) for number in range(min(len(rows), limit if limit is not None else len(rows)))]
