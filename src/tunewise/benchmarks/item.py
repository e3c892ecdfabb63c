"""What a benchmark asks, and what it needs to ask it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["choice", "word", "text", "instructions"]


@dataclass(frozen=True, slots=True)
class Item:
    """One item as text, before any tokenizer has seen it.

    context: what the model reads. endings: the continuations to score, each with the space before it.
    gold: place of the right ending. group: items with one name begin with the same examples. An empty
    context stands for the tokenizer's start token.
    """

    id: str
    context: str
    endings: tuple[str, ...]
    gold: int = 0
    group: str | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """Characters of each ending without the space before it."""
        return tuple(len(ending.removeprefix(" ")) for ending in self.endings)


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Files:
    """Where rows lie in a local folder: the first pattern that finds files wins (``arc/arc_easy*.jsonl``)."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where rows lie on the hub. split and configuration as the datasets library names them."""

    path: str
    split: str
    configuration: str | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: its rows, how a row becomes an item, and what is counted.

    read: rows and the rows of the examples ("shots") -> items; raises DataError with the key that is missing.
    main: the figure that comparisons use, ``acc`` or ``acc_norm``, ``bits_per_byte`` for running text,
    ``prompts_followed`` for instructions. shots: examples before each item; few:
    where those rows lie. grouped: items belong to subjects. unusable: why
    a row cannot be asked, None where it can; such rows are left out and counted.
    """

    name: str
    about: str
    kind: Kind
    main: str
    files: Files
    read: Callable[[Sequence[Row], Sequence[Row]], list[Any]]
    hub: Hub | None = None
    shots: int = 0
    grouped: bool = False
    few: Files | None = None
    few_hub: Hub | None = None
    unusable: Callable[[Row], str | None] | None = None


def multiple_choice(
    identifier: str, context: str, choices: Sequence[str], gold: int, group: str | None = None
) -> Item:
    """An item whose endings are the choices, a space before each."""
    return Item(identifier, context, tuple(f" {choice}" for choice in choices), gold, group)
