"""How good a candidate is by people's measure, when a judge has read all answers and people have read some.

Prediction-powered inference: the judge's mean over many items, corrected by what people say of a few.
Angelopoulos, Bates, Fannjiang, Jordan & Zrnic, Science 382, 2023; the weight of the judge is tuned as in
Angelopoulos, Duchi & Zrnic, "PPI++", 2023, section 6 (mean estimation).

For 0/1 values. The normal interval has variance 0 when judge and people agree on every label, however few.
So both samples are first lengthened by made-up items, as in Agresti & Coull, American Statistician 52, 1998
(z^2 / 2 of each value, for the items that the judge alone has read) and, for the pairs, Agresti & Min,
Biometrics 61, 2005 (z^2 / 8 in each cell of people x judge); z is Student's quantile with labels - 1 degrees
of freedom. Coverage is checked by simulation in the tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.stats import t as student

from tunewise.evidence.records import Verdict

FEWEST_LABELS = 20  # labelled answers of a rung; below, the intervals were not checked


@dataclass(frozen=True, slots=True)
class Powered:
    """What people would say of the candidate on the mean.

    estimate: PPI++ estimate on the data as they are, clipped to [0, 1]. low, high: one-sided bounds at the
    levels asked for. labels, judged: items that people and judge, and the judge alone, have read. weight:
    of the judge, in [0, 1]; 0 uses the labels alone.
    """

    estimate: float
    low: float
    high: float
    labels: int
    judged: int
    weight: float
    judge_mean: float
    label_mean: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def powered_mean(
    people: Sequence[float],
    judge_on_labelled: Sequence[float],
    judge_alone: Sequence[float],
    *,
    alpha_low: float,
    alpha_high: float,
) -> Powered:
    """Estimate and one-sided bounds, at levels 1 - alpha_low and 1 - alpha_high.

    people, judge_on_labelled: 0/1 values of the same labelled items. judge_alone: of the other items, drawn
    from the same population. Raises ValueError for no labels or unequal lengths.
    """
    if len(people) == 0 or len(people) != len(judge_on_labelled):
        raise ValueError(f"{len(people)} labels and {len(judge_on_labelled)} judgements of the same items")
    pairs = np.array([people, judge_on_labelled], dtype=float)
    alone = np.array(judge_alone, dtype=float)
    weight = _weight(pairs, np.ones(pairs.shape[1]), alone, np.ones(len(alone)))
    estimate = _estimate(pairs, np.ones(pairs.shape[1]), alone, np.ones(len(alone)), weight)
    return Powered(
        estimate=min(1.0, max(0.0, estimate)),
        low=_bound(pairs, alone, alpha_low, -1),
        high=_bound(pairs, alone, alpha_high, +1),
        labels=pairs.shape[1],
        judged=len(alone),
        weight=weight,
        judge_mean=float(np.mean([*pairs[1], *alone])),
        label_mean=float(pairs[0].mean()),
    )


def read_powered(found: Powered, target: float, tolerance: float) -> Verdict:
    """The verdict at fixed n: the same zone as the sequential tests', read from the two bounds.

    ``meets`` rejects p <= target - tolerance, ``falls_short`` rejects p >= min(target + tolerance,
    (1 + target) / 2); where both are rejected, within the zone, it meets. ``not_proved`` where neither is.
    """
    meets = found.low > target - tolerance
    short = found.high < min(target + tolerance, (1 + target) / 2)
    if meets:
        return "meets"
    return "falls_short" if short else "not_proved"


def more_labels(found: Powered, target: float, tolerance: float, alpha: float) -> int | None:
    """About how many more labels would settle it with 80 % power if the truth is the estimate.

    The interval shrinks with the square root of the labels as long as they are few beside the judged items.
    None when the estimate lies where no number would.
    """
    aim = (
        target - tolerance
        if found.estimate > target - tolerance
        else min(target + tolerance, (1 + target) / 2)
    )
    gap = abs(found.estimate - aim)
    normal = NormalDist()
    width = (found.estimate - found.low) / normal.inv_cdf(1 - alpha)  # one standard error, about
    if gap < 1e-3 or width <= 0:
        return None
    needed = found.labels * (width * (normal.inv_cdf(1 - alpha) + normal.inv_cdf(0.8)) / gap) ** 2
    return max(1, math.ceil(needed - found.labels))


def _bound(pairs: Any, alone: Any, alpha: float, side: int) -> float:
    z = float(student.ppf(1 - alpha, max(1, pairs.shape[1] - 1)))
    cells = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], dtype=float)
    both = np.hstack([pairs, cells])
    both_weights = np.concatenate([np.ones(pairs.shape[1]), np.full(4, z * z / 8)])
    more = np.concatenate([alone, [0.0, 1.0]])
    more_weights = np.concatenate([np.ones(len(alone)), np.full(2, z * z / 2)])
    weight = _weight(both, both_weights, more, more_weights) if len(alone) else 0.0
    estimate = _estimate(both, both_weights, more, more_weights, weight)
    variance = _variance(both[0] - weight * both[1], both_weights)
    if weight:
        variance += weight**2 * _variance(more, more_weights)
    return float(min(1.0, max(0.0, estimate + side * z * math.sqrt(variance))))


def _estimate(pairs: Any, weights: Any, alone: Any, alone_weights: Any, weight: float) -> float:
    corrected = float(np.average(pairs[0] - weight * pairs[1], weights=weights))
    return corrected + (weight * float(np.average(alone, weights=alone_weights)) if weight else 0.0)


def _weight(pairs: Any, weights: Any, alone: Any, alone_weights: Any) -> float:
    """Cov(people, judge) / ((1 + labels / judged) Var(judge)), in [0, 1]: the least variance."""
    if not len(alone):
        return 0.0
    people, judge = (row - np.average(row, weights=weights) for row in pairs)
    covariance = float(np.average(people * judge, weights=weights))
    spread = float(np.average(judge * judge, weights=weights))
    if spread == 0:
        return 0.0
    ratio = float(weights.sum() / alone_weights.sum())
    return min(1.0, max(0.0, covariance / ((1 + ratio) * spread)))


def _variance(values: Any, weights: Any) -> float:
    """Variance of the weighted mean, weights counted as numbers of items."""
    total = float(weights.sum())
    moved = values - np.average(values, weights=weights)
    return float(np.sum(weights * moved * moved)) / max(total - 1, 1.0) / total
