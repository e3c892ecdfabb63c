"""The betting test for graded scores in [0, 1].

Against "the mean is at most m" one bets a share of one's wealth on every score being above m: with
share c the wealth is multiplied by 1 + c (x - m) / m, never negative and, were the claim true, no
larger on average. The mean over a grid of shares is an e-process, so by Ville's inequality it reaches
1 / alpha with probability at most alpha, however often it is looked at and whenever one stops.
Waudby-Smith & Ramdas (2024), JRSS-B 86(1), section 4; the even mixture over a grid of shares is their
"diversified Kelly betting".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewise.evidence import lattice
from tunewise.evidence.records import Kind, Reading, Verdict
from tunewise.evidence.sequential import (
    LOOK_EVERY,
    MAX_CAP,
    POWER,
    ROUND_TRIP,
    Rule,
    first_verdict,
    largest_rejected,
)

Floats = NDArray[np.float64]

# Shares of the wealth that are bet, evenly mixed, from timid to bold by equal factors: against a null of
# 0.88 the best share for 0.90 is 0.17 and for 0.95 it is 0.58; against failures above 0.08 it is 0.02 to 0.1.
SHARES: Floats = np.geomspace(0.02, 0.99, 10)
CONTINUATIONS = 400  # resampled futures behind ``more_items``


@dataclass(frozen=True)
class BettingTest(Rule):
    """Betting test for values in [0, 1], valid at any stopping time; read at the looks.

    Only the wealth at looks counts (not between them), so that the mean read always lies on the side
    of the null that the verdict names. Where one look proves both sides the verdict is *meets*.
    """

    kind: ClassVar[Kind] = "graded"

    def read(self, values: Sequence[float]) -> Reading:
        """The first look among these values that gives a verdict; verdict None where there is none yet.

        Raises ValueError for a value outside [0, 1].
        """
        scores, looks = self._at_looks(values)
        meets = log_wealth(scores, self.meets_null, looks) >= -np.log(self.alpha_meets)
        short = log_wealth(1 - scores, 1 - self.short_null, looks) >= -np.log(self.alpha_short)
        return first_verdict(looks, meets, short, len(values), self.cap)

    def verdict_at(self, values: Sequence[float]) -> Verdict | None:
        """The verdict after these values (the first n items in order); None: go on. A verdict at the cap."""
        return self.read(values).verdict

    def interval(self, values: Sequence[float]) -> tuple[float | None, float | None]:
        """Bounds (low, high) from inverting both sides, up to the look that gave the verdict.

        The wealth against "mean <= m" falls as m grows, so the bounds are exact inversions: *meets*
        holds exactly where low >= t - tol, *falls short* exactly where high <= its null and
        low < t - tol. Each is widened to the mean where an early streak alone put it beyond.
        (None, None) without values.
        """
        if not values:
            return None, None
        stop = self.read(values).n
        scores, looks = self._at_looks(values[:stop])
        low = _lower_bound(scores, looks, self.alpha_meets, self.meets_null)
        high = 1 - _lower_bound(1 - scores, looks, self.alpha_short, 1 - self.short_null)
        high = self.short_null if abs(high - self.short_null) < ROUND_TRIP else high
        mean = float(np.mean(np.asarray(values[:stop], dtype=np.float64)))
        return min(low, mean), max(high, mean)

    def provable(self) -> float | None:
        """The smallest true mean that ends in *meets* with 80 % power; None if not even 1 would.

        Exact for scores of 0 and 1 only. Those let the wealth grow slowest for a given mean (its
        logarithm is concave in the score), so the figure is cautious: scores in between can usually be
        proved from a lower mean on.
        """
        meets_from = self._lattice_boundary(self.meets_null, self.alpha_meets)
        short_from = self._lattice_boundary(1 - self.short_null, self.alpha_short)

        def proved(p: float) -> bool:
            return lattice.fate(p, self.looks, meets_from, short_from).meets >= POWER

        if not proved(1.0):
            return None
        low, high = self.meets_null, 1.0
        while high - low > 1e-5:
            middle = (low + high) / 2
            low, high = (low, middle) if proved(middle) else (middle, high)
        return high

    def more_items(self, values: Sequence[float]) -> int | None:
        """How many more items would settle it with 80 % power if the future is like these values.

        The wealth goes on from where it is over CONTINUATIONS futures resampled from the values (fixed
        seed), against 1 / (alpha_meets / 2), since reading the same items in a new run is another
        opening. None when it is settled, without values, or when MAX_CAP items would not do.
        """
        if not values or self.read(values).verdict in ("meets", "falls_short"):
            return None
        steps = (MAX_CAP - len(values)) // LOOK_EVERY
        if steps < 1:
            return None
        past = np.asarray(values, dtype=np.float64)
        draws = np.random.default_rng(0).integers(0, len(past), (CONTINUATIONS, steps * LOOK_EVERY))
        future = past[draws]
        settled = _settled_at(past, future, self.meets_null, self.alpha_meets / 2)
        settled |= _settled_at(1 - past, 1 - future, 1 - self.short_null, self.alpha_short)
        share = np.maximum.accumulate(settled, axis=1).mean(axis=0)
        enough = np.flatnonzero(share >= POWER)
        return (int(enough[0]) + 1) * LOOK_EVERY if enough.size else None

    def _at_looks(self, values: Sequence[float]) -> tuple[Floats, tuple[int, ...]]:
        scores = np.asarray(values, dtype=np.float64)
        if scores.size and not bool(np.all((scores >= 0) & (scores <= 1))):
            odd = scores[~((scores >= 0) & (scores <= 1))][0]
            raise ValueError(f"a graded test reads values in [0, 1], got {odd}")
        return scores, tuple(look for look in self.looks if look <= len(values))

    def _lattice_boundary(self, null: float, alpha: float) -> tuple[int, ...]:
        """Successes at each look from which the wealth of 0/1 scores reaches 1 / alpha."""
        win, lose = np.log1p(SHARES * (1 - null) / null), np.log1p(-SHARES)
        crossing = []
        for look in self.looks:
            counts = np.arange(look + 1, dtype=np.float64)[:, None]
            wealth = log_mean_exp(counts * win + (look - counts) * lose)
            crossing.append(int(np.searchsorted(wealth, -np.log(alpha))))  # wealth grows with successes
        return tuple(crossing)


def log_wealth(scores: Floats, null: float, looks: Sequence[int]) -> Floats:
    """Log of the mixture wealth against "mean <= null" at each look. scores in [0, 1], null in (0, 1)."""
    if not looks:
        return np.empty(0)
    growth = np.log1p(SHARES * ((scores[: looks[-1], None] - null) / null))
    return log_mean_exp(np.cumsum(growth, axis=0)[np.array(looks) - 1])


def log_mean_exp(logs: Floats) -> Floats:
    """Log of the mean of exp(logs) over the last axis, without overflow."""
    top = logs.max(axis=-1, keepdims=True)
    mean: Floats = np.log(np.exp(logs - top).mean(axis=-1)) + top[..., 0]
    return mean


def _lower_bound(scores: Floats, looks: tuple[int, ...], alpha: float, null: float) -> float:
    def rejected(tried: float) -> bool:
        return bool(np.any(log_wealth(scores, tried, looks) >= -np.log(alpha)))

    return largest_rejected(rejected, null)


def _settled_at(past: Floats, future: Floats, null: float, alpha: float) -> NDArray[np.bool_]:
    """For each future (rows) and each further look (columns): has the wealth reached 1 / alpha there?"""
    wealth = np.log1p(SHARES * ((past[:, None] - null) / null)).sum(axis=0) + np.zeros((len(future), 1))
    reached = []
    for first in range(0, future.shape[1], LOOK_EVERY):
        block = future[:, first : first + LOOK_EVERY, None]
        wealth = wealth + np.log1p(SHARES * ((block - null) / null)).sum(axis=1)
        reached.append(log_mean_exp(wealth) >= -np.log(alpha))
    return np.stack(reached, axis=1)
