"""Two systems on the same items: is b better than a, not worse within a margin, or can one not tell?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, bootstrap, norm

from tunewise.evidence.intervals import LEVEL, betting_interval

Answer = Literal["better", "not_worse", "worse", "cannot_tell"]
Floats = NDArray[np.float64]

POWER = 0.80
RESAMPLES = 9999
FEWEST_FOR_BOOTSTRAP = 10  # units that differ; below, the betting interval, which is valid at any n
MOST_ITEMS = 1_000_000  # a larger "N more" is no advice


@dataclass(frozen=True, slots=True)
class Paired:
    """The paired difference b - a on n units, and what follows from it.

    low, high: interval of the difference. only_a, only_b, both, neither: counts of 0/1 values, None for
    graded ones. p: exact McNemar, two-sided; None for graded ones. answer: ``better`` b is better;
    ``not_worse`` b is worse by less than ``margin`` if at all; ``worse`` b is worse (and not within the
    margin); ``cannot_tell``. more: about how many more units would settle it with 80 % power if the truth is
    the estimate; None when it is settled or no number would.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    method: str
    margin: float
    answer: Answer
    more: int | None
    p: float | None = None
    only_a: int | None = None
    only_b: int | None = None
    both: int | None = None
    neither: int | None = None


def compare_binary(a: Sequence[float], b: Sequence[float], margin: float) -> Paired:
    """Compare 0/1 values of the same items, at least one.

    better (worse): the exact McNemar test (McNemar 1947, Psychometrika 12: binomial on the discordant
    pairs) rejects equality at two-sided 5 % in that direction. not worse: the lower limit of Tango's
    score interval is above -margin.
    """
    if not a or len(a) != len(b):
        raise ValueError("pairs are needed, at least one")
    both = sum(x == 1 and y == 1 for x, y in zip(a, b, strict=True))
    only_a = sum(x == 1 and y == 0 for x, y in zip(a, b, strict=True))
    only_b = sum(x == 0 and y == 1 for x, y in zip(a, b, strict=True))
    n = len(a)
    p = mcnemar(only_a, only_b)
    low, high = tango(only_a, only_b, n)
    significant = p <= 1 - LEVEL
    answer = _answer(significant and only_b > only_a, significant and only_a > only_b, low, margin)
    share, difference = (only_a + only_b) / n, (only_b - only_a) / n
    more = None
    if answer == "cannot_tell":
        more = _more(difference, share - difference**2, share, n, margin, _fewest_equal(margin))
    return Paired(
        n=n,
        mean_a=(both + only_a) / n,
        mean_b=(both + only_b) / n,
        difference=difference,
        low=low,
        high=high,
        method="exact McNemar; interval: Tango's score",
        margin=margin,
        answer=answer,
        more=more,
        p=p,
        only_a=only_a,
        only_b=only_b,
        both=both,
        neither=n - both - only_a - only_b,
    )


def compare_graded(a: Sequence[float], b: Sequence[float], margin: float, seed: int = 0) -> Paired:
    """Compare values in [0, 1] of the same units, at least one, by the mean of their differences.

    The interval is the BCa bootstrap of the differences (Efron 1987, JASA 82; 9,999 resamples from
    ``seed``). With fewer than 10 units that differ, or when all differences are the same, a bootstrap says
    too much (three gains among ties would do), and the betting interval stands in. better: low > 0; worse:
    high < 0; not worse: low > -margin.
    """
    if not a or len(a) != len(b):
        raise ValueError("pairs are needed, at least one")
    differences = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    low, high, method = difference_interval(differences, seed)
    answer = _answer(low > 0, high < 0, low, margin)
    variance = float(differences.var(ddof=1)) if n > 1 else 0.0
    more = _more(mean, variance, variance, n, margin) if answer == "cannot_tell" and variance else None
    return Paired(
        n=n,
        mean_a=float(np.mean(a)),
        mean_b=float(np.mean(b)),
        difference=mean,
        low=low,
        high=high,
        method=method,
        margin=margin,
        answer=answer,
        more=more,
    )


def _answer(better: bool, worse: bool, low: float, margin: float) -> Answer:
    if better:
        return "better"
    if low > -margin:
        return "not_worse"
    return "worse" if worse else "cannot_tell"


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p of "right for a alone is as likely as right for b alone"; 1 without such pairs."""
    discordant = only_a + only_b
    return float(binomtest(only_b, discordant, 0.5).pvalue) if discordant else 1.0


def tango(only_a: int, only_b: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of the difference of two paired shares, b - a.

    The differences d that the score test does not reject, with the discordant share at its maximum
    likelihood under d. Tango (1998), Statistics in Medicine 17, equations 3 and 5. It does not shrink to
    nothing where no pair is discordant.
    """
    z = float(norm.ppf((1 + level) / 2))

    def statistic(d: float) -> float:
        quadratic = -only_b - only_a + (2 * n - only_b + only_a) * d
        root = math.sqrt(max(quadratic**2 + 8 * n * only_a * d * (1 - d), 0.0))
        q = (root - quadratic) / (4 * n)
        variance = n * (2 * q + d * (1 - d))
        return (only_b - only_a - n * d) / math.sqrt(max(variance, 1e-300))

    estimate, edge = (only_b - only_a) / n, 1 - 1e-12
    low = -1.0 if only_a == n else brentq(lambda d: statistic(d) - z, -edge, min(estimate, edge))
    high = 1.0 if only_b == n else brentq(lambda d: statistic(d) + z, max(estimate, -edge), edge)
    return float(low), float(high)


def difference_interval(differences: Floats, seed: int) -> tuple[float, float, str]:
    """Interval of the mean of differences in [-1, 1], and how it was found."""
    if np.count_nonzero(differences) >= FEWEST_FOR_BOOTSTRAP and np.ptp(differences) > 0:
        found: Any = bootstrap(
            (differences,),
            np.mean,
            confidence_level=LEVEL,
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // len(differences)),
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            return float(found.low), float(found.high), f"BCa bootstrap, {RESAMPLES} resamples, seed {seed}"
    low, high = betting_interval(((differences + 1) / 2).tolist())
    return 2 * low - 1, 2 * high - 1, "betting"


def _fewest_equal(margin: float) -> float:
    """Units from which Tango's lower limit without a discordant pair, -z^2 / (n + z^2), is above -margin."""
    z = float(norm.ppf((1 + LEVEL) / 2))
    return z**2 * (1 - margin) / margin if margin > 0 else math.inf


def _more(
    difference: float, variance: float, null_variance: float, n: int, margin: float, fewest: float = 0.0
) -> int | None:
    """More units until better, or not worse, would be shown with 80 % power; the smaller of the two.

    Normal approximation for the mean of paired differences; for 0/1 values it is Connor (1987),
    Biometrics 43, equation 2: n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2. fewest: units below
    which "not worse" cannot be shown however alike the two are.
    """
    z_alpha, z_beta = float(norm.ppf((1 + LEVEL) / 2)), float(norm.ppf(POWER))
    spread = (z_alpha * math.sqrt(null_variance) + z_beta * math.sqrt(max(variance, 0.0))) ** 2
    needed = [spread / difference**2] if difference > 0 else []
    if difference + margin > 0:
        equal = (z_alpha + z_beta) ** 2 * max(variance, 0.0) / (difference + margin) ** 2
        needed.append(max(equal, fewest))
    if not needed or min(needed) > MOST_ITEMS:
        return None
    return max(math.ceil(min(needed)) - n, 1)
