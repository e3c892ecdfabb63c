"""Has tuning cost more than 5 % of what the base model could do? The paired test behind the forgetting
guard. Pure.

Per item z = tuned - (1 - d) * base, with 0/1 outcomes of both models on the same item and d = 0.05: the mean
of z is below 0 exactly where the pooled relative drop exceeds d. Each planned checkpoint has an equal part
of the budget for false alarms (a union bound, whatever the checkpoints have in common), spent within the
checkpoint over looks at a quarter, half, three quarters and all of the items, so that a checkpoint at which
nothing is wrong costs a part of the items. Group-sequential with error spending: Lan & DeMets 1983,
Biometrika 70:659; the recursion for the boundaries: Armitage, McPherson & Rowe 1969; the benchmark simulates
the error rates through this code.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tunewise.benchmarks.figures import crossing, items_to_see

Outcome = Literal["clear", "alarm", "not_proved"]
LOOKS = (0.25, 0.5, 0.75, 1.0)
FEWEST = 40  # items at a look: below that the normal approximation says nothing
ALARM_SPENDING = 2.0  # cumulative error t^2: sparing at first, a stopped run is expensive
CLEAR_SPENDING = 1.0  # evenly: an early all-clear is what saves time
PSEUDO = 1.0  # one more item lost and one more gained in the spread: without changes it would be nil


@dataclass(frozen=True, slots=True)
class GuardReading:
    """What a checkpoint shows. outcome None: read on. n: items read up to the look that decided.

    drop: relative, 1 - tuned right / base right, over those items; low, high: the drops that this look does
    not reject, by its own boundaries, so that they never contradict the outcome: above the limit with ``low``
    it is an alarm, below it with ``high`` clear (repeated confidence intervals: Jennison & Turnbull 1989,
    JRSS B 51:305). Over all looks of a checkpoint ``low`` is too high in at most alpha / checkpoints of cases
    (0.0125 by default) and ``high`` too low in about clear_alpha (0.05). Before the first look its boundaries
    are taken. All None where the base has none right. looks: how many were used.
    """

    outcome: Outcome | None
    n: int
    drop: float | None
    low: float | None
    high: float | None
    looks: int

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class GuardTest:
    """The test of one training run, fixed before it starts.

    items: per checkpoint, the same at each. checkpoints: planned. max_relative_drop: d. alpha: probability of
    an alarm in the whole run when every checkpoint has lost exactly d; clear_alpha: of an all-clear at one
    checkpoint that has (simulated: 0.05, up to 0.08 where nothing is newly right). look_at: shares of the
    items; (1.0,) where all are read anyway. Raises ValueError for settings that cannot be used.
    """

    items: int
    checkpoints: int = 4
    max_relative_drop: float = 0.05
    alpha: float = 0.05
    clear_alpha: float = 0.05
    look_at: tuple[float, ...] = LOOKS

    def __post_init__(self) -> None:
        if self.items < FEWEST or self.checkpoints < 1:
            raise ValueError(f"expected at least {FEWEST} items and 1 checkpoint, got {self}")
        if not (0 < self.max_relative_drop < 1 and 0 < self.alpha < 0.5 and 0 < self.clear_alpha < 0.5):
            raise ValueError(f"expected a drop in (0, 1) and errors in (0, 0.5), got {self}")

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """Items read at each look; those of fewer than FEWEST items are left out."""
        places = dict.fromkeys(math.ceil(share * self.items) for share in self.look_at)
        return tuple(place for place in places if place >= FEWEST or place == self.items)

    @cached_property
    def alarm_from(self) -> tuple[float, ...]:
        """z-value at each look from which on (downwards) it is an alarm."""
        return spent_boundaries(self._shares(), self.alpha / self.checkpoints, ALARM_SPENDING)

    @cached_property
    def clear_from(self) -> tuple[float, ...]:
        """z-value at each look from which on (upwards) it is clear."""
        return spent_boundaries(self._shares(), self.clear_alpha, CLEAR_SPENDING)

    def _shares(self) -> tuple[float, ...]:
        return tuple(look / self.items for look in self.looks)

    def read(self, base: Sequence[int], tuned: Sequence[int]) -> GuardReading:
        """The first look among these items (in the fixed order) that decides; at the last, not proved.

        Raises ValueError for unequal lengths, values other than 0 and 1, or more items than planned.
        """
        one, other = checked(base, tuned, self.items)
        counts = np.cumsum(np.stack((one * other, one * (1 - other), (1 - one) * other)), axis=1)
        used = 0
        for used, look in enumerate((look for look in self.looks if look <= len(one)), start=1):
            both, lost, gained = counts[:, look - 1].tolist()
            z = statistic(both, lost, gained, look, self.max_relative_drop)
            if z <= -self.alarm_from[used - 1]:
                return self._reading("alarm", counts, look, used)
            if z >= self.clear_from[used - 1]:
                return self._reading("clear", counts, look, used)
        return self._reading("not_proved" if len(one) == self.items else None, counts, len(one), used)

    def _reading(
        self, outcome: Outcome | None, counts: NDArray[np.float64], n: int, used: int
    ) -> GuardReading:
        if n == 0:
            return GuardReading(outcome, 0, None, None, None, used)
        both, lost, gained = counts[:, n - 1].tolist()
        place = max(used, 1) - 1
        bounds = self.alarm_from[place], self.clear_from[place]
        return GuardReading(outcome, n, *relative_drop(both, lost, gained, n, *bounds), used)

    def smallest_visible_drop(self, base: float, churn: float = 0.03, power: float = 0.9) -> float | None:
        """The smallest true relative drop that one checkpoint shows with that power; None if none.

        base: share of right answers of the base model; churn: share of items only the tuned one has right.
        """
        for permille in range(round(1000 * self.max_relative_drop) + 5, 1001, 5):
            drop = permille / 1000
            if churn + drop * base > base:
                return None
            level = float(norm.sf(self.alarm_from[-1]))
            need = items_to_see(drop, base, churn, power, level, self.max_relative_drop)
            if need is not None and need <= self.items:
                return drop
        return None


def checked(
    base: Sequence[int], tuned: Sequence[int], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two arrays of 0 and 1 of one length."""
    one, other = np.asarray(base, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or len(one) > most:
        raise ValueError(
            f"expected two lists of one length, at most {most}, got {one.shape} and {other.shape}"
        )
    if not bool(np.isin(one, (0, 1)).all() and np.isin(other, (0, 1)).all()):
        raise ValueError("expected outcomes of 0 and 1 only")
    return one, other


def statistic(both: float, lost: float, gained: float, n: int, drop: float) -> float:
    """Mean of z over its standard error; negative where more was lost than ``drop`` of the right ones."""
    mean = (gained + drop * both - (1 - drop) * lost) / n
    squares = gained + PSEUDO + drop**2 * both + (1 - drop) ** 2 * (lost + PSEUDO)
    spread = math.sqrt(max(squares / n - mean * mean, 1e-12))
    return mean / spread * math.sqrt(n)


def relative_drop(
    both: float, lost: float, gained: float, n: int, below: float, above: float
) -> tuple[float | None, float | None, float | None]:
    """1 - tuned right / base right, and the drops between z-values of -``below`` and ``above``."""
    right = both + lost
    if right == 0:
        return None, None, None
    estimate = (lost - gained) / right

    def against(tried: float) -> float:
        return -statistic(both, lost, gained, n, tried)  # falls as the tried drop grows

    low = crossing(against, below, estimate - 3, estimate)
    high = crossing(against, -above, estimate, estimate + 3)
    return estimate, low, min(high, 1.0)


@lru_cache(maxsize=64)
def spent_boundaries(shares: tuple[float, ...], alpha: float, power: float) -> tuple[float, ...]:
    """z-values that are exceeded for the first time at look k with probability alpha (t_k^p - t_{k-1}^p).

    shares: t_k, the part of all items read at each look. For a mean of zero and independent, equal steps.
    """
    return boundaries(shares, [alpha * share**power for share in shares])


def boundaries(shares: Sequence[float], spent: Sequence[float]) -> tuple[float, ...]:
    """z-values at each look for given cumulative errors, by integrating the sum that has not crossed yet."""
    grid = np.linspace(-8.0, 8.0, 4001)  # the sum of the steps, in units of its final standard deviation
    step = grid[1] - grid[0]
    density = np.zeros_like(grid)
    found: list[float] = []
    before, paid = 0.0, 0.0
    for share, cumulative in zip(shares, spent, strict=True):
        if not found:
            density = norm.pdf(grid, scale=math.sqrt(share))
        else:
            width = math.sqrt(share - before)
            kernel = norm.pdf(np.arange(-2000, 2001) * step, scale=width) * step
            density = np.convolve(density, kernel, mode="same")
        tail = np.cumsum(density[::-1])[::-1] * step  # probability of a sum from here on
        # Between grid places the tail is taken as linear; the first place where it is spent no more.
        place = int(np.searchsorted(-tail, -(cumulative - paid)))
        edge = float(
            np.interp(-(cumulative - paid), -tail[place - 1 : place + 1], grid[place - 1 : place + 1])
        )
        edge -= step / 2  # a rectangle belongs to its middle
        found.append(edge / math.sqrt(share))
        density = np.where(grid > edge, 0.0, density)
        before, paid = share, cumulative
    return tuple(found)


def interleaved(sizes: Mapping[str, int], seed: int = 0) -> list[tuple[str, int]]:
    """(benchmark, item) in one fixed random order in which every stretch has its share of each benchmark."""
    rng = random.Random(seed)
    placed = []
    for name in sorted(sizes):
        order = list(range(sizes[name]))
        rng.shuffle(order)
        placed += [((rank + rng.random()) / len(order), name, item) for rank, item in enumerate(order)]
    return [(name, item) for _, name, item in sorted(placed)]
