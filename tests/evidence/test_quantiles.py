"""Quantiles with bounds from order statistics, against enumeration and simulation."""

import numpy as np
import pytest
from scipy.stats import binom

from tunewise.evidence.quantiles import quantile


def test_by_hand():
    values = list(range(1, 101))
    assert quantile(values, 0.5).estimate == 50
    assert quantile(values, 0.95).estimate == 95
    assert quantile([7.0], 0.95).estimate == 7.0


@pytest.mark.parametrize(("q", "fewest"), [(0.95, 59), (0.5, 5)])
def test_the_upper_bound_is_absent_below_the_count_that_can_give_it(q, fewest):
    assert quantile(list(range(fewest - 1)), q).high is None
    assert quantile(list(range(fewest)), q).high == fewest - 1


@pytest.mark.parametrize("q", [0.5, 0.95])
@pytest.mark.parametrize("n", [5, 20, 59, 60, 100, 500])
def test_each_bound_is_the_tightest_order_statistic_of_its_level(q, n):
    found = quantile(list(range(1, n + 1)), q)  # the k-th smallest value is k
    highs = [k for k in range(1, n + 1) if binom.cdf(k - 1, n, q) >= 0.95]
    lows = [k for k in range(1, n + 1) if binom.sf(k - 1, n, q) >= 0.95]
    assert found.high == (min(highs) if highs else None)
    assert found.low == (max(lows) if lows else None)


def test_bounds_cover_a_skewed_time_in_simulation():
    rng = np.random.default_rng(0)
    truth = np.exp(1.6448536)
    found = [quantile(np.exp(rng.normal(size=80)).tolist(), 0.95) for _ in range(1000)]
    assert sum(f.high is not None and f.high >= truth for f in found) / 1000 >= 0.94
    assert sum(f.low is not None and f.low <= truth for f in found) / 1000 >= 0.94


def test_nothing_measured_is_undefined():
    assert quantile([], 0.5).estimate is None
