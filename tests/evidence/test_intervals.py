"""Intervals at fixed n against statsmodels and by exact enumeration of their coverage."""

import numpy as np
import pytest
from scipy.stats import binom

from tunewise.evidence.intervals import betting_interval, figure, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (0, 20), (7, 20), (20, 20), (93, 100)])
def test_wilson_is_statsmodels(successes, n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(successes, n, method="wilson")
    assert wilson(successes, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_the_betting_interval_covers_0_1_values_by_enumeration(p):
    n = 40
    chances = binom.pmf(range(n + 1), n, p)
    ends = [betting_interval([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)]
    covered = sum(c for c, (low, high) in zip(chances, ends, strict=True) if low <= p <= high)
    assert covered >= 0.95


def test_the_betting_interval_covers_graded_values_and_narrows():
    rng = np.random.default_rng(0)
    covered, widths = 0, {}
    for n in (30, 300):
        ends = [betting_interval(rng.beta(4, 2, n).tolist()) for _ in range(100)]
        covered += sum(low <= 4 / 6 <= high for low, high in ends)
        widths[n] = np.mean([high - low for low, high in ends])
    assert covered / 200 >= 0.95
    assert widths[300] < widths[30] / 2


def test_equal_values_do_not_give_an_interval_of_no_width():
    low, high = betting_interval([0.5] * 20)
    assert low < 0.5 < high


def test_a_figure_names_its_method_and_undefined_is_none():
    assert figure([1, 0, 1, 1]).method == "Wilson"
    assert figure([0.5, 0.2]).method == "betting"
    nothing = figure([])
    assert (nothing.estimate, nothing.low, nothing.why) == (None, None, "no answer has a value")
    beyond = figure([3.0, 5.0])
    assert (beyond.estimate, beyond.low) == (4.0, None)
    assert figure([0.1, 0.9], unit="conversation").method == "betting over conversations"


def test_answers_without_a_value_are_tried_both_ways():
    found = figure([1, 1, 0, None])
    assert found.estimate == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((wilson(2, 4)[0], wilson(3, 4)[1]))
    assert "1 without a value" in found.why


def test_values_that_only_happen_to_lie_in_0_to_1_have_no_interval():
    found = figure([0.0, 0.1, 0.0, 0.2], confined=False)
    assert (found.estimate, found.low, found.high) == (pytest.approx(0.075), None, None)
    assert found.why == "no interval: not confined to 0 to 1"
