"""Intervals for a mean at fixed n: Wilson for 0/1 values, betting for graded ones. Undefined is None."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from tunewise.evidence.betting import log_wealth
from tunewise.evidence.sequential import PRECISION

LEVEL = 0.95  # of every interval that is displayed


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its interval, as ``tunewise score`` shows it.

    n: how many units it is the mean of. method: how low and high were found. why: why a part is None.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    method: str
    why: str | None = None


def wilson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided score interval of a share. Wilson (1927), JASA 22; n at least 1."""
    found = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(found.low), float(found.high)


def betting_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval for the mean of values in [0, 1], valid at every n whatever their distribution.

    The means that the betting test (``betting.py``; Waudby-Smith & Ramdas 2024, JRSS-B 86(1), section 4)
    does not reject at n, each side at (1 - level) / 2. At least one value.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.size == 0 or not bool(np.all((scores >= 0) & (scores <= 1))):
        raise ValueError("values in [0, 1] are needed, at least one")
    alpha = (1 - level) / 2
    low, high = _largest_rejected(scores, alpha), 1 - _largest_rejected(1 - scores, alpha)
    mean = float(scores.mean())
    return min(low, mean), max(high, mean)


def _largest_rejected(scores: np.ndarray, alpha: float) -> float:
    """By bisection, the largest m for which "the mean is at most m" is rejected; 0 where none is."""
    low, high = 0.0, 1.0
    while high - low > PRECISION:
        middle = (low + high) / 2
        rejected = float(log_wealth(scores, middle, [len(scores)])[0]) >= -math.log(alpha)
        low, high = (middle, high) if rejected else (low, middle)
    return low


def figure(
    values: Sequence[float | None], level: float = LEVEL, unit: str = "", *, confined: bool = True
) -> Figure:
    """The mean of values with its interval; None stands for an answer without a value (errored).

    0/1 values: Wilson. Values in [0, 1]: betting. Others: no interval. Values that are missing are left
    out of the estimate; the interval is the widest over what they could have been in [0, 1].
    unit: what one value belongs to where it is no single answer ("conversation"). confined: whether every
    value there may be lies in [0, 1], not only those that came: the betting interval rests on that.
    """
    known = [value for value in values if value is not None]
    per = f" over {unit}s" if unit else ""
    if not known:
        return Figure(None, None, None, 0, "none", "no answer has a value")
    estimate = math.fsum(known) / len(known)
    if not confined or not all(0 <= value <= 1 for value in known):
        return Figure(estimate, None, None, len(known), "none", "no interval: not confined to 0 to 1")
    missing = len(values) - len(known)
    if all(value in (0, 1) for value in known):
        hits, n = sum(map(int, known)), len(values)
        low, high = wilson(hits, n, level)[0], wilson(hits + missing, n, level)[1]
        return Figure(estimate, low, high, len(known), f"Wilson{per}", _missing(missing))
    low = betting_interval([*known, *[0.0] * missing], level)[0]
    high = betting_interval([*known, *[1.0] * missing], level)[1]
    return Figure(estimate, low, high, len(known), f"betting{per}", _missing(missing))


def _missing(count: int) -> str | None:
    return f"{count} without a value: tried as 0 for low and as 1 for high" if count else None
