"""The exact sequential test for 0/1 scores, and the rule that both tests share.

*meets* rejects p <= t - tol, *falls short* rejects p >= min(t + tol, (1 + t) / 2). Each side is a
group-sequential test whose boundaries come from exact error spending on the lattice (``lattice.py``);
neither side counts on the other to stop it, so each error bound holds whatever the other side does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import SettingError
from tunewise.evidence import lattice
from tunewise.evidence.records import Kind, Reading, Verdict

MAX_CAP = 1000  # a test never reads more items than this
FIRST_LOOK = 16
LOOK_EVERY = 8
POWER = 0.80
PRECISION = 1e-7  # of bounds found by bisection, in units of the metric


def looks_for(cap: int) -> tuple[int, ...]:
    """Item counts at which a test with this cap is read: 16, 24, 32, ... and the cap itself."""
    return (*range(FIRST_LOOK, cap, LOOK_EVERY), cap)


@dataclass(frozen=True)
class Rule:
    """What is to be shown, at which looks, and with what error. Data only: the tests read it.

    target, tolerance: in units of the metric. alpha_meets: chance of *meets* if the truth is at or
    below ``meets_null``; alpha_short: chance of *falls short* if it is at or above ``short_null``.
    looks: increasing item counts; the last is the cap.
    Raises SettingError when target is outside (0, 1), tolerance outside [0, target), an alpha outside
    (0, 0.2], or the looks are not increasing.
    """

    target: float
    tolerance: float
    alpha_meets: float
    alpha_short: float
    looks: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise SettingError(f"target must lie between 0 and 1 (both excluded), got {self.target!r}")
        if not 0 <= self.tolerance < self.target:
            raise SettingError(
                f"tolerance must be at least 0 and less than the target {self.target}, got"
                f" {self.tolerance!r}: 'meets' would prove a quality of at least"
                f" {self.target - self.tolerance:.3f}, which says nothing; choose a smaller tolerance"
            )
        for name, alpha in (("alpha_meets", self.alpha_meets), ("alpha_short", self.alpha_short)):
            if not 0 < alpha <= 0.2:
                raise SettingError(f"{name} must lie in (0, 0.2], got {alpha!r}")
        increasing = all(a < b for a, b in zip(self.looks, self.looks[1:], strict=False))
        if not self.looks or self.looks[0] < 1 or not increasing:
            raise SettingError(f"looks must be increasing item counts from 1 on, got {self.looks!r}")

    @property
    def cap(self) -> int:
        """The last look: no more items are read."""
        return self.looks[-1]

    @property
    def meets_null(self) -> float:
        """*meets* rejects every true quality up to this one."""
        return self.target - self.tolerance

    @property
    def short_null(self) -> float:
        """*falls short* rejects every true quality from this one on; always below 1."""
        return min(self.target + self.tolerance, (1 + self.target) / 2)


@dataclass(frozen=True)
class ExactTest(Rule):
    """Group-sequential test for 0/1 values, exact in finite samples.

    Where one look proves both sides (a wide zone and many items: p is shown to lie inside it), the
    verdict is *meets*, since what *meets* claims has been shown.
    """

    kind: ClassVar[Kind] = "binary"

    @property
    def meets_from(self) -> tuple[int, ...]:
        """Successes at each look that prove *meets*; one more than the items read where none would."""
        return lattice.boundary(self.meets_null, self.alpha_meets, self.looks, self.cap)

    @property
    def short_from(self) -> tuple[int, ...]:
        """Failures at each look that prove *falls short*."""
        return lattice.boundary(1 - self.short_null, self.alpha_short, self.looks, self.cap)

    def read(self, values: Sequence[float]) -> Reading:
        """The first look among these values that gives a verdict; verdict None where there is none yet.

        Raises ValueError for a value other than 0 and 1.
        """
        counts, looks = self._counts(values)
        failures = np.array(looks, dtype=np.int64) - counts
        meets = reaches(counts, self.meets_from)
        short = reaches(failures, self.short_from)
        stuck = ~reaches(counts, lattice.needed(self.looks, self.meets_from))
        stuck &= ~reaches(failures, lattice.needed(self.looks, self.short_from))
        return first_verdict(looks, meets, short, len(values), self.cap, stuck)

    def verdict_at(self, values: Sequence[float]) -> Verdict | None:
        """The verdict after these values (the first n items in order); None: go on. A verdict at the cap."""
        return self.read(values).verdict

    def interval(self, values: Sequence[float]) -> tuple[float | None, float | None]:
        """Bounds (low, high) from inverting both sides, up to the look that gave the verdict.

        low: the largest null that the *meets* side would have rejected by then, at level
        1 - alpha_meets; high likewise at 1 - alpha_short. So *meets* holds exactly where
        low >= t - tol, *falls short* exactly where high <= its null and low < t - tol. Each bound is
        widened to the mean where an early streak alone put it beyond. (None, None) without values.
        """
        if not values:
            return None, None
        stop = self.read(values).n
        counts, looks = self._counts(values[:stop])
        failures = np.array(looks, dtype=np.int64) - counts
        low = self._lower_bound(counts, looks, self.alpha_meets, self.meets_null)
        high = 1 - self._lower_bound(failures, looks, self.alpha_short, 1 - self.short_null)
        high = self.short_null if abs(high - self.short_null) < ROUND_TRIP else high
        mean = sum(values[:stop]) / stop
        return min(low, mean), max(high, mean)

    def _lower_bound(
        self, counts: NDArray[np.int64], looks: tuple[int, ...], alpha: float, null: float
    ) -> float:
        def rejected(tried: float) -> bool:
            crossing = lattice.compute_boundary(tried, alpha, looks, self.cap)
            return bool(np.any(counts >= np.array(crossing, dtype=np.int64)))

        return largest_rejected(rejected, null)

    def provable(self) -> float | None:
        """The smallest true quality that gives *meets* with 80 % power, exactly; None if even 1 would not."""

        def proved(p: float) -> bool:
            return self.fate(p).meets >= POWER

        if not proved(1.0):
            return None
        low, high = self.meets_null, 1.0
        while high - low > 1e-5:
            middle = (low + high) / 2
            low, high = (low, middle) if proved(middle) else (middle, high)
        return high

    def fate(self, p: float) -> lattice.Fate:
        """Exact chances of each verdict, and mean items read, for a true quality p."""
        return lattice.fate(p, self.looks, self.meets_from, self.short_from)

    def more_items(self, values: Sequence[float]) -> int | None:
        """How many more items would settle it with 80 % power if the truth is the mean of these values.

        Exact conditional power (Lan & Wittes 1988, Biometrics 44): the walk goes on from where it is,
        under the rule for the larger cap, with half of alpha_meets, since reading the same items in a
        new run is another opening. None when it is settled, without values, or when no cap up to
        MAX_CAP would do.
        """
        if not values or self.read(values).verdict in ("meets", "falls_short"):
            return None
        read, successes = len(values), round(sum(values))

        def settled(cap: int) -> bool:
            longer = ExactTest(
                self.target, self.tolerance, self.alpha_meets / 2, self.alpha_short, looks_for(cap)
            )
            end = lattice.fate(
                successes / read, longer.looks, longer.meets_from, longer.short_from, (read, successes)
            )
            return end.not_proved <= 1 - POWER

        return fewest_more(settled, read)

    def _counts(self, values: Sequence[float]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """Successes at each look that these values reach, and those looks."""
        read = np.asarray(values, dtype=np.float64)
        if read.size and not np.all((read == 0) | (read == 1)):
            odd = read[(read != 0) & (read != 1)][0]
            raise ValueError(f"a 0/1 test was given the value {odd}; graded values need BettingTest")
        looks = tuple(look for look in self.looks if look <= len(values))
        totals = np.concatenate([[0], np.cumsum(read)]).astype(np.int64)
        return totals[list(looks)], looks


ROUND_TRIP = 1e-12  # 1 - (1 - x) differs from x by less than this


def reaches(counts: NDArray[np.int64], least: Sequence[int]) -> NDArray[np.bool_]:
    """At which looks the counts are at least these; shape (looks reached,)."""
    return counts >= np.array(least[: len(counts)], dtype=np.int64)


def first_verdict(
    looks: Sequence[int],
    meets: NDArray[np.bool_],
    short: NDArray[np.bool_],
    read: int,
    cap: int,
    stuck: NDArray[np.bool_] | None = None,
) -> Reading:
    """The first look with a verdict, given which looks prove which side.

    *Not proved* at the cap, or at the first look from which neither side can be proved any more
    (``stuck``): the items that are left could not change it, so they are not paid for.
    """
    stops = np.flatnonzero(meets | short if stuck is None else meets | short | stuck)
    if stops.size:
        at = int(stops[0])
        return Reading(looks[at], "meets" if meets[at] else "falls_short" if short[at] else "not_proved")
    if read >= cap:
        return Reading(cap, "not_proved")
    return Reading(read, None)


def largest_rejected(rejected: Callable[[float], bool], null: float) -> float:
    """By bisection, the largest null in [0, 1) that is rejected; 0.0 where none is.

    The search starts from what the test said of ``null``, so that the bound falls on the side of it
    that the verdict chose.
    """
    low, high = (null, 1.0) if rejected(null) else (0.0, null)
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def fewest_more(settled: Callable[[int], bool], read: int) -> int | None:
    """The smallest step beyond ``read`` (in looks) to a cap that settles it; None up to MAX_CAP."""
    steps = range(1, (MAX_CAP - read) // LOOK_EVERY + 1)
    if not steps or not settled(read + steps[-1] * LOOK_EVERY):
        return None
    low, high = 0, steps[-1]  # settled at high; power grows with the cap
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(read + middle * LOOK_EVERY) else (middle, high)
    return high * LOOK_EVERY
