"""How far two raters agree: raw, Cohen's kappa, Gwet's AC1, from their table of counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two raters on ``n`` items. Figures that are undefined are None, with ``why``.

    kappa_low: lower end of kappa's two-sided 90 % interval. confusion: counts, rows the first rater
    (people), columns the second (the judge), both in the order of ``classes``.
    """

    n: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    raw: float | None
    kappa: float | None
    kappa_low: float | None
    ac1: float | None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        said = {
            "n": self.n,
            "raw": self.raw,
            "kappa": self.kappa,
            "kappa_low_90": self.kappa_low,
            "gwet_ac1": self.ac1,
            "classes": list(self.classes),
            "confusion_people_by_judge": [list(row) for row in self.confusion],
        }
        return said if self.why is None else {**said, "why": self.why}


def agreement(first: Sequence[str], second: Sequence[str], classes: Sequence[str]) -> Agreement:
    """Agreement of two raters on the same items. ``first`` is the one to be believed (people).

    kappa is None when there are no items, or when the first rater knows one class only: then no agreement
    beyond chance can show. Raises ValueError for unequal lengths or a class that is not listed.
    """
    table = counts(first, second, classes)
    n = int(table.sum())
    cells = tuple(tuple(int(count) for count in row) for row in table)
    if n == 0:
        return Agreement(0, tuple(classes), cells, None, None, None, None, "no items")
    raw = float(np.trace(table) / n)
    if np.count_nonzero(table.sum(axis=1)) < 2:
        only = classes[int(table.sum(axis=1).argmax())]
        why = (
            f"the labels hold one class only ({only}): agreement beyond chance cannot show; label others too"
        )
        return Agreement(n, tuple(classes), cells, raw, None, None, gwet_ac1(table), why)
    kappa, error = cohen_kappa(table)
    low = kappa - NormalDist().inv_cdf(0.95) * error
    return Agreement(n, tuple(classes), cells, raw, kappa, low, gwet_ac1(table))


def counts(first: Sequence[str], second: Sequence[str], classes: Sequence[str]) -> Table:
    """The table classes x classes of how often the raters said what."""
    place = {name: number for number, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)))
    for one, other in zip(first, second, strict=True):
        if one not in place or other not in place:
            raise ValueError(f"unknown class {one if one not in place else other!r}; there are {classes}")
        table[place[one], place[other]] += 1
    return table


def cohen_kappa(table: Table) -> tuple[float, float]:
    """Kappa = (po - pe) / (1 - pe) and its large-sample standard error.

    Cohen, Educational and Psychological Measurement 20(1), 1960, p. 40; the error is that of Fleiss, Cohen &
    Everitt, Psychological Bulletin 72(5), 1969, eq. 13. Raises ValueError where pe is 1 (one class only).
    """
    p = table / table.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    seen, chance = float(np.trace(p)), float(rows @ columns)
    if math.isclose(chance, 1.0):
        raise ValueError("kappa is undefined: both raters know one class only")
    kappa = (seen - chance) / (1 - chance)
    sums = rows[:, None] + columns[None, :]  # of cell (i, j): row margin of i and column margin of j
    swapped = columns[:, None] + rows[None, :]
    on = float(np.sum(np.diag(p) * (1 - np.diag(sums) * (1 - kappa)) ** 2))
    off = p * swapped**2
    rest = (1 - kappa) ** 2 * float(off.sum() - np.trace(off))
    last = (kappa - chance * (1 - kappa)) ** 2
    variance = (on + rest - last) / ((1 - chance) ** 2 * table.sum())
    return kappa, math.sqrt(max(variance, 0.0))


def gwet_ac1(table: Table) -> float | None:
    """AC1 = (po - pe) / (1 - pe), pe = sum of q (1 - q) over classes / (classes - 1), q the mean margin.

    Gwet, British Journal of Mathematical and Statistical Psychology 61, 2008, section 3. Unlike kappa it
    does not fall where nearly all items are of one class. None for a single class.
    """
    classes = len(table)
    if classes < 2:
        return None
    p = table / table.sum()
    margin = (p.sum(axis=1) + p.sum(axis=0)) / 2
    chance = float(np.sum(margin * (1 - margin))) / (classes - 1)
    return (float(np.trace(p)) - chance) / (1 - chance)
