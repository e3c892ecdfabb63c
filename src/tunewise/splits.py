"""Train / selection / certification: stable parts, groups and near-duplicates together, overlaps reported."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewise.data import Example
from tunewise.task import Split

PartName = Literal["train", "selection", "certification"]
OverlapKind = Literal["exact", "normalised", "near"]

MIN_CERTIFICATION = 16  # the first look of the sequential test
NEAR = 0.8  # word 3-gram Jaccard from which two inputs are near-duplicates


@dataclass(frozen=True, slots=True)
class Overlap:
    """A certification row that also stands, or nearly, in a part that rungs learn from.

    similarity: word 3-gram Jaccard of the last user turns, in [0.8, 1].
    """

    kind: OverlapKind
    certification: Example
    other: Example
    part: Literal["train", "selection"]
    similarity: float


@dataclass(frozen=True, slots=True)
class Parts:
    """The three disjoint parts, rows in file order.

    clusters: how many clusters of near-duplicates and groups the rows form.
    notes: what the user should read. overlaps: only where the user gave the parts.
    """

    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    certification: tuple[Example, ...]
    clusters: int
    notes: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()

    def blocked_reason(self, learns_from: Collection[str] = ("train", "selection")) -> str | None:
        """Why a rung that learns from these parts cannot be certified; None when it can."""
        raise RuntimeError


def split_examples(rows: Sequence[Example], split: Split) -> Parts:
    """Assign each row to a part by content, near-duplicates and groups together."""
    raise RuntimeError


def parts_from_files(
    train: Sequence[Example], selection: Sequence[Example], certification: Sequence[Example]
) -> Parts:
    """Parts as the user gave them, with the overlaps of certification with the other two."""
    raise RuntimeError


def certification_order(parts: Parts, seed: int) -> tuple[Example, ...]:
    """The fixed random order shared by all rungs; with groups one random row of each group."""
    raise RuntimeError
