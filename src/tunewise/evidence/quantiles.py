"""Quantiles of measured times with bounds from order statistics. Undefined is None."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binom

SIDE = 0.95  # level of each bound by itself


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile with one-sided 95 % bounds; a bound is None where too few values were measured for it."""

    estimate: float | None
    low: float | None
    high: float | None


def quantile(values: Sequence[float], q: float) -> Quantile:
    """The q-quantile: the smallest value that at least q of the values do not exceed.

    Bounds by order statistics, whatever the distribution (Conover 1999, "Practical Nonparametric
    Statistics", section 3.2): below the true quantile lie Binomial(n, q) of n values, so the k-th
    smallest is an upper bound at level P(Bin(n, q) <= k - 1), and a lower bound at P(Bin(n, q) >= k).
    The upper bound of the 0.95-quantile needs 59 values, since 0.95^58 > 0.05.
    """
    ranked, n = sorted(values), len(values)
    if not ranked:
        return Quantile(None, None, None)
    estimate = ranked[max(math.ceil(round(q * n, 9)), 1) - 1]
    low = int(binom.ppf(1 - SIDE, n, q))  # the largest k with P(Bin >= k) >= SIDE
    while low > 0 and binom.sf(low - 1, n, q) < SIDE:
        low -= 1
    while binom.sf(low, n, q) >= SIDE:
        low += 1
    high = int(binom.ppf(SIDE, n, q)) + 1  # the smallest k with P(Bin <= k - 1) >= SIDE
    return Quantile(estimate, ranked[low - 1] if low >= 1 else None, ranked[high - 1] if high <= n else None)
