"""What the guard asks: items of general benchmarks in two disjoint sets, A to watch and choose, B to check.

An item's place follows from its content, so that the sets stay the same in another order of the file.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.benchmarks.data import items_of, lies_in
from tunewise.benchmarks.guard_test import interleaved
from tunewise.benchmarks.item import Benchmark, Item
from tunewise.benchmarks.tasks import find
from tunewise.errors import DataError, SettingError

# What is tried where the task names none: five that differ in what they ask. A benchmark on which the base is
# at chance is left out, as MMLU is for small models.
DEFAULTS = ("hellaswag", "piqa", "arc_easy", "lambada", "mmlu")
FOR_SMALL_MODELS = DEFAULTS[:4]
MOST_A, MOST_B = 1000, 500  # of each benchmark
A_SHARE = 2 / 3  # of a benchmark with fewer items than both


@dataclass(frozen=True, slots=True)
class Asked:
    """One item with the place of its benchmark in the list of them."""

    benchmark: int
    item: Item


@dataclass(frozen=True, slots=True)
class GuardItems:
    """Benchmarks, and the items of set A and set B in their fixed interleaved orders."""

    benchmarks: tuple[Benchmark, ...]
    a: tuple[Asked, ...]
    b: tuple[Asked, ...]
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all items and their order, 64 hex digits."""
        body = [[self.benchmarks[one.benchmark].name, content(one.item)] for one in (*self.a, *self.b)]
        return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def content(item: Item) -> str:
    """SHA-256 of what an item asks."""
    body = json.dumps([item.context, item.endings, item.gold])
    return hashlib.sha256(body.encode()).hexdigest()


def gather_items(names: Sequence[str] | None, folder: Path | None) -> GuardItems:
    """The items of the named benchmarks. names None: the defaults whose rows are there; folder None: the hub.

    Raises DataError where rows of a named benchmark are missing or none of the defaults is there.
    """
    found: list[tuple[Benchmark, list[Item]]] = []
    notes = []
    for name in names or DEFAULTS:
        benchmark = find(name)
        if benchmark.kind not in ("choice", "word"):
            raise SettingError(f"guard.benchmarks: {name} has no right and wrong items to compare in pairs")
        try:
            found.append((benchmark, unique(items_of(benchmark, folder))))
        except DataError:
            if names is not None or folder is None or lies_in(benchmark, folder):
                raise  # rows that are there and cannot be read are a mistake
            notes.append(f"{name} is not used: its rows are not in {folder}")
    same = [b.name for b, _ in found]
    if twice := sorted({name for name in same if same.count(name) > 1}):
        raise SettingError(f"guard.benchmarks: two are called {twice[0]!r}; rename one of the files")
    if not found:
        raise DataError(
            f"{folder}: none of the benchmarks {', '.join(DEFAULTS)} is there. Put the rows of at least "
            "three into it (hellaswag/*.jsonl, piqa/*.jsonl, ...), or set guard.data: hub"
        )
    parts = [in_two(items) for _, items in found]
    return GuardItems(
        benchmarks=tuple(benchmark for benchmark, _ in found),
        a=mixed([a for a, _ in parts]),
        b=mixed([b for _, b in parts]),
        notes=tuple(notes),
    )


def unique(items: Sequence[Any]) -> list[Item]:
    """The items without repetitions, ordered by content."""
    by_content = {content(item): item for item in items}
    return [by_content[key] for key in sorted(by_content)]


def in_two(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Set A and set B of one benchmark, disjoint."""
    first = MOST_A if len(items) >= MOST_A + MOST_B else min(MOST_A, round(A_SHARE * len(items)))
    return list(items[:first]), list(items[first : first + MOST_B])


def mixed(lists: Sequence[Sequence[Item]]) -> tuple[Asked, ...]:
    """All items in one fixed order in which every stretch has its share of each benchmark."""
    order = interleaved({f"{place:03d}": len(items) for place, items in enumerate(lists) if items})
    return tuple(Asked(int(name), lists[int(name)][number]) for name, number in order)


def some_of(asked: Sequence[Asked], items: GuardItems, used: Sequence[str], most: int) -> list[Asked]:
    """The first ``most`` items of the benchmarks that are used, in their order."""
    names = [benchmark.name for benchmark in items.benchmarks]
    return [one for one in asked if names[one.benchmark] in used][:most]
