"""0/1 outcomes as a walk on the lattice of (items read, successes): exact boundaries and exact chances.

A boundary is one count per look: the walk crosses when its count reaches it; n + 1 successes in n items
can never be reached. Everything here is exact up to rounding in double precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

Floats = NDArray[np.float64]

ROUNDING = 1e-15  # slack when a tail is compared with what may be spent; far below any budget in use
SPENDING_POWER = 0.5  # alpha * (n / cap) ** 0.5 may be spent by item n


@dataclass(frozen=True, slots=True)
class Fate:
    """Where the walk ends: chances of each end (they sum to 1) and the mean number of items read."""

    meets: float
    falls_short: float
    not_proved: float
    items: float


@lru_cache(maxsize=512)
def boundary(null: float, alpha: float, looks: tuple[int, ...], horizon: int) -> tuple[int, ...]:
    """Smallest success count at each look that rejects "p <= null", by exact error spending.

    By the look at n the walk may have crossed with probability at most alpha * (n / horizon) ** 0.5
    under p = null; what a look cannot spend (counts are whole numbers) is left to later looks.
    Lan & DeMets (1983), Biometrika 70, with the binomial law in place of Brownian motion; the power
    family of spending functions is that of Jennison & Turnbull (2000), section 7.2.

    null in (0, 1), alpha in (0, 1), looks increasing and at most ``horizon``.
    """
    return compute_boundary(null, alpha, looks, horizon)


def compute_boundary(null: float, alpha: float, looks: Sequence[int], horizon: int) -> tuple[int, ...]:
    """``boundary`` without memory, for the many nulls that inverting the test tries once each."""
    alive: Floats = np.array([1.0])  # alive[s]: chance of s successes without having crossed yet
    spent, before = 0.0, 0
    crossing = []
    for look in looks:
        alive = np.convolve(alive, binomial_law(look - before, null))
        before = look
        tails = np.cumsum(alive[::-1])  # tails[k]: chance of one of the k + 1 highest counts
        may_spend = alpha * (look / horizon) ** SPENDING_POWER - spent
        counts = int(np.searchsorted(tails, may_spend + ROUNDING, side="right"))
        if counts:
            spent += float(tails[counts - 1])
            alive = alive[: len(alive) - counts]
        crossing.append(len(alive))  # higher counts cross here, or have crossed at an earlier look
    return tuple(crossing)


def binomial_law(items: int, p: float) -> Floats:
    """Chances of 0..items successes in ``items`` independent items of success chance p."""
    return _binomial_law(items, float(p))


@lru_cache(maxsize=4096)
def _binomial_law(items: int, p: float) -> Floats:
    law: Floats = binom.pmf(np.arange(items + 1), items, p)
    law.setflags(write=False)
    return law


@lru_cache(maxsize=512)
def needed(looks: tuple[int, ...], crossing: tuple[int, ...]) -> tuple[int, ...]:
    """Fewest counts at each look from which a later look can still cross, if all coming items count.

    One more than the items read at the last look, where nothing comes later.
    """
    least = []
    slack = None  # fewest of (count to cross - items) over the looks after this one
    for look, count in zip(reversed(looks), reversed(crossing), strict=True):
        least.append(look + 1 if slack is None else look + slack)
        slack = count - look if slack is None else min(slack, count - look)
    return tuple(reversed(least))


def fate(
    p: float,
    looks: Sequence[int],
    meets_from: Sequence[int],
    short_from: Sequence[int],
    start: tuple[int, int] = (0, 0),
) -> Fate:
    """Exact chances of each end for items of success chance p, from ``start`` = (items, successes).

    meets_from: successes at each look that end in ``meets``; short_from: failures at each look that
    end in ``falls_short``. Where both hold, ``meets`` counts. A walk from which neither can be reached
    any more ends in ``not_proved`` at once. Looks at or before ``start`` are over.
    """
    before, offset = start
    alive: Floats = np.array([1.0])  # alive[i]: chance of offset + i successes, still undecided
    meets = short = lost = items = 0.0
    right = needed(tuple(looks), tuple(meets_from))
    wrong = needed(tuple(looks), tuple(short_from))
    for look, high, failures, can_meet, can_fall in zip(
        looks, meets_from, short_from, right, wrong, strict=True
    ):
        if look <= before:
            continue
        alive = np.convolve(alive, binomial_law(look - before, p))
        before = look
        top = max(high - offset, 0)
        crossed = float(alive[top:].sum())
        alive = alive[:top]
        bottom = min(max(look - failures - offset + 1, 0), len(alive))
        fell = float(alive[:bottom].sum())
        alive = alive[bottom:]
        offset += bottom
        dead = slice(max(look - can_fall + 1 - offset, 0), max(can_meet - offset, 0))
        stuck = float(alive[dead].sum())
        alive[dead] = 0.0
        meets, short, lost = meets + crossed, short + fell, lost + stuck
        items += look * (crossed + fell + stuck)
        if len(alive) == 0:
            alive = np.array([0.0])
    left = float(alive.sum())
    return Fate(meets, short, lost + left, items + before * left)
