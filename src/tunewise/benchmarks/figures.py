"""Counts of right answers as figures with intervals; pure.

Undefined is None, never a number: an interval of no items, a drop relative to a base at chance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import norm, t

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate and its two-sided 95 % interval; None where undefined."""

    estimate: float | None
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        """The three numbers by name."""
        return asdict(self)

    def over(self, divisor: float) -> "Figure":
        """Each number divided by a positive one."""
        parts = (None if x is None else x / divisor for x in (self.estimate, self.low, self.high))
        return Figure(*parts)


UNDEFINED = Figure(None, None, None)


def share(successes: int, n: int, level: float = LEVEL) -> Figure:
    """A proportion with Wilson's score interval (Wilson 1927). Undefined for n = 0."""
    if n == 0:
        return UNDEFINED
    return wilson(successes / n, n, level)


def wilson(p: float, n: float, level: float = LEVEL) -> Figure:
    """A proportion p of n units, which need not be whole, with Wilson's score interval."""
    z = float(norm.ppf((1 + level) / 2))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Figure(p, max(0.0, middle - half) if p > 0 else 0.0, min(1.0, middle + half) if p < 1 else 1.0)


def share_of_groups(successes: Sequence[int], sizes: Sequence[int], level: float = LEVEL) -> Figure:
    """sum(successes) / sum(sizes) where those of one group hang together: instructions of a prompt.

    Wilson's interval for as many independent units as the spread between the groups leaves (Korn & Graubard
    1998, Survey Methodology 24:193), at most as many as there are, one a group where all groups agree: it
    stays within 0 and 1 and always has a width. Undefined without units.
    """
    n, whole = len(sizes), sum(sizes)
    if n == 0 or whole <= 0:
        return UNDEFINED
    p = sum(successes) / whole
    squares = sum((s - p * size) ** 2 for s, size in zip(successes, sizes, strict=True))
    variance = n * squares / (n - 1) / whole**2 if n > 1 else 0.0
    units = p * (1 - p) / variance if variance > 0 else n
    return wilson(p, min(max(units, 1.0), whole), level)


def paired_difference(lost: int, gained: int, n: int, level: float = LEVEL) -> Figure:
    """(lost - gained) / n for 0/1 outcomes of two models on the same items, with Tango's score interval.

    lost: items that only the first has right; gained: only the second. Tango 1998, Statistics in Medicine
    17:891, section 3. Undefined for n = 0.
    """
    if n == 0:
        return UNDEFINED
    z = float(norm.ppf((1 + level) / 2))

    def statistic(delta: float) -> float:
        a, b, c = 2 * n, -lost - gained + (2 * n - lost + gained) * delta, -gained * delta * (1 - delta)
        other = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * other + delta * (1 - delta))
        distance = lost - gained - n * delta
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    estimate = (lost - gained) / n
    low = crossing(statistic, z, -1.0, estimate)
    high = crossing(statistic, -z, estimate, 1.0)
    return Figure(estimate, low, high)


def drop_above(both: int, lost: int, gained: int, n: int, floor: float, level: float = LEVEL) -> Figure:
    """(first - second) / (first - floor), shares of right answers, with Fieller's interval.

    both, lost, gained: items right before and after, before only, after only. The divisor is measured on the
    same items and varies with the drop; the interval holds the d for which after - (1 - d) before - d floor
    has a mean of zero (Fieller 1954, JRSS B 16:175). By normal theory: too narrow where few items changed
    sides (0.65 for one item in a hundred). Undefined where the first is not above ``floor``, its ends also
    where that is not shown at ``level``.
    """
    first, change = (both + lost) / n - floor, (gained - lost) / n
    if first <= 0:
        return UNDEFINED
    estimate = -change / first
    k = float(norm.ppf((1 + level) / 2)) ** 2 / n
    before = (both + lost) / n
    spread = before * (1 - before)
    moves = (lost + gained) / n - change * change
    along = -lost / n - change * before
    a, b, c = first * first - k * spread, first * change - k * along, change * change - k * moves
    if a <= 0:
        return Figure(estimate, None, None)
    half = math.sqrt(max(0.0, b * b - a * c)) / a
    return Figure(estimate, -b / a - half, -b / a + half)


def wider(one: Figure, other: Figure) -> Figure:
    """``one`` with an interval that holds those of both; undefined where one of them is."""
    ends = (one.low, other.low, one.high, other.high)
    if any(end is None for end in ends):
        return Figure(one.estimate, None, None)
    low, other_low, high, other_high = (float(end) for end in ends if end is not None)
    return Figure(one.estimate, min(low, other_low), max(high, other_high))


def crossing(falling: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Where a falling function passes ``level`` between two places; the end where it does not."""
    for _ in range(60):
        middle = (low + high) / 2
        if falling(middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def ratio(totals: Sequence[float], sizes: Sequence[float], level: float = LEVEL) -> Figure:
    """sum(totals) / sum(sizes) over independent units, with the interval of the ratio estimator.

    Cochran 1977, Sampling Techniques, section 6.3: the spread of totals - ratio * sizes, Student's t with one
    unit fewer. The interval is undefined for fewer than two units.
    """
    n, whole = len(totals), sum(sizes)
    if n == 0 or whole <= 0:
        return UNDEFINED
    estimate = sum(totals) / whole
    if n < 2:
        return Figure(estimate, None, None)
    squares = sum((total - estimate * size) ** 2 for total, size in zip(totals, sizes, strict=True))
    error = math.sqrt(n * squares / (n - 1)) / whole
    half = float(t.ppf((1 + level) / 2, n - 1)) * error
    return Figure(estimate, estimate - half, estimate + half)


def items_to_see(
    drop: float, base: float, churn: float, power: float = 0.9, level: float = 0.05, limit: float = 0.05
) -> int | None:
    """Items in a paired comparison that show a relative drop above ``limit`` when it truly is ``drop``.

    Normal theory on z = tuned - (1 - limit) * base: n = ((z_level + z_power) * s / mean)^2. base: the base's
    share of right answers; churn: share of items that only the tuned model has right. None when ``drop`` does
    not exceed ``limit``.
    """
    mean = (drop - limit) * base
    if mean <= 0 or not 0 < base < 1:
        return None
    spread = paired_spread(base, churn, drop, limit)
    need = float(norm.ppf(1 - level) + norm.ppf(power)) * spread / mean
    return math.ceil(need * need)


def paired_spread(base: float, churn: float, drop: float, limit: float = 0.05) -> float:
    """Standard deviation of tuned - (1 - limit) * base for one item, given the shares that changed sides."""
    lost = drop * base + churn
    both = base - lost
    mean = churn + limit * both - (1 - limit) * lost
    square = churn + limit**2 * both + (1 - limit) ** 2 * lost
    return math.sqrt(max(0.0, square - mean * mean))


def smallest_visible_drop(n: int, base: float, churn: float = 0.03) -> float | None:
    """Smallest true relative drop that n paired items show in nine of ten cases; None if none is seen."""
    for percent in range(6, 101):
        if churn + percent / 100 * base > base:
            return None
        need = items_to_see(percent / 100, base, churn)
        if need is not None and need <= n:
            return percent / 100
    return None
