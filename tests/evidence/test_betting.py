"""The betting test against its definition, Ville's bound by simulation, and the 0/1 lattice."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tunewise.evidence.betting import SHARES, BettingTest, log_wealth
from tunewise.evidence.sequential import looks_for


def betting_test(
    target: float = 0.7, tolerance: float = 0.03, alpha: float = 0.05, cap: int = 200
) -> BettingTest:
    return BettingTest(target, tolerance, alpha, 0.05, looks_for(cap))


def draw(mean: float, n: int, seed: int, spread: float = 4) -> list[float]:
    rng = np.random.default_rng(seed)
    return rng.beta(mean * spread, (1 - mean) * spread, n).tolist()


def test_the_wealth_is_the_mean_of_the_products() -> None:
    scores = np.array([0.2, 0.9, 1.0, 0.0, 0.65])
    by_hand = np.mean([math.prod(1 + c * (x - 0.6) / 0.6 for x in scores) for c in SHARES])
    assert log_wealth(scores, 0.6, [5])[0] == pytest.approx(math.log(by_hand))


@pytest.mark.parametrize("null", [0.2, 0.6, 0.9])
def test_the_mean_wealth_of_fair_items_is_1(null: float) -> None:
    expected = 0.0
    for path in itertools.product((0.0, 1.0), repeat=8):
        chance = null ** sum(path) * (1 - null) ** (8 - sum(path))
        expected += chance * math.exp(log_wealth(np.array(path), null, [8])[0])
    assert expected == pytest.approx(1.0)


def test_the_wealth_falls_as_the_null_grows() -> None:
    scores = np.array(draw(0.7, 100, 0))
    wealth = [log_wealth(scores, null, [100])[0] for null in np.linspace(0.05, 0.95, 30)]
    assert all(a >= b for a, b in itertools.pairwise(wealth))


@pytest.mark.parametrize("spread", [0.01, 2, 20])
def test_false_verdicts_are_rarer_than_alpha_at_both_nulls(spread: float) -> None:
    test = betting_test(alpha=0.05)
    allowed = binom.isf(1e-4, 1000, 0.05) / 1000
    for mean, verdict in ((test.meets_null, "meets"), (test.short_null, "falls_short")):
        ends = [test.verdict_at(draw(mean, 200, seed, spread)) for seed in range(1000)]
        assert ends.count(verdict) / 1000 <= allowed  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(
    target=st.floats(0.05, 0.97),
    zone=st.floats(0, 0.9),
    values=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    runs=st.integers(1, 6),
)
def test_the_interval_never_contradicts_the_verdict(
    target: float, zone: float, values: list[float], runs: int
) -> None:
    test = BettingTest(target, zone * target, 0.05 / 12, 0.05, looks_for(120))
    given_values = [v for v in values for _ in range(runs)][:120]
    reading = test.read(given_values)
    low, high = test.interval(given_values)
    assert low is not None
    assert high is not None
    assert low <= np.mean(given_values[: reading.n]) <= high
    assert (reading.verdict == "meets") == (low >= target - test.tolerance)
    below = high <= test.short_null and low < target - test.tolerance
    assert (reading.verdict == "falls_short") == below


@pytest.mark.parametrize("mean", [0.5, 0.7, 0.9])
def test_each_bound_covers_the_truth_as_often_as_it_promises(mean: float) -> None:
    test = betting_test(cap=80)
    bounds = [test.interval(draw(mean, 80, seed)) for seed in range(400)]
    allowed = binom.isf(1e-4, 400, 0.05) / 400
    assert np.mean([low > mean for low, _ in bounds]) <= allowed  # type: ignore[operator]
    assert np.mean([high < mean for _, high in bounds]) <= allowed  # type: ignore[operator]


def test_scores_that_vary_less_are_settled_sooner() -> None:
    test = betting_test(cap=1000)
    graded = np.mean([test.read(draw(0.75, 1000, seed, 20)).n for seed in range(30)])
    all_or_nothing = np.mean([test.read(draw(0.75, 1000, seed, 0.01)).n for seed in range(30)])
    assert graded < all_or_nothing / 2


def test_provable_holds_for_scores_of_0_and_1_and_is_cautious_for_others() -> None:
    test = betting_test(cap=300)
    started = time.perf_counter()
    quality = test.provable()
    assert time.perf_counter() - started < 1
    assert quality is not None
    rng = np.random.default_rng(2)
    hard = [
        test.verdict_at((rng.random(300) < quality).astype(float).tolist()) == "meets" for _ in range(600)
    ]
    easy = [test.verdict_at(draw(quality, 300, seed, 5)) == "meets" for seed in range(300)]
    assert np.mean(hard) == pytest.approx(0.8, abs=0.06)
    assert np.mean(easy) > 0.9
    assert betting_test(target=0.99, tolerance=0, cap=40).provable() is None


def test_more_items_are_enough_four_times_in_five() -> None:
    test = betting_test(cap=64)
    values = draw(0.71, 64, 5)
    assert test.verdict_at(values) == "not_proved"
    started = time.perf_counter()
    more = test.more_items(values)
    assert time.perf_counter() - started < 1
    assert more is not None
    longer = BettingTest(0.7, 0.03, 0.025, 0.05, looks_for(64 + more))
    rng = np.random.default_rng(9)
    futures = [rng.choice(values, more).tolist() for _ in range(300)]
    settled = np.mean([longer.verdict_at([*values, *future]) != "not_proved" for future in futures])
    assert settled == pytest.approx(0.8, abs=0.1)


def test_no_more_items_are_asked_for_where_it_is_settled() -> None:
    assert betting_test().more_items(draw(0.95, 200, 1)) is None
    assert betting_test().more_items([]) is None
    assert betting_test().interval([]) == (None, None)


def test_a_value_outside_0_and_1_is_refused() -> None:
    for odd in (1.01, -0.1, math.nan):
        with pytest.raises(ValueError, match="0, 1"):
            betting_test().verdict_at([0.5, odd])


def test_the_strict_test_proves_about_as_much_as_the_researched_e_process() -> None:
    """A beta mixture of likelihood ratios, read at every item, proves 36 % at 0.92 and all at 0.95."""
    test = BettingTest(0.9, 0.0, 0.05, 0.05, looks_for(1000))
    rng = np.random.default_rng(4)
    for p, least, most in ((0.92, 0.25, 0.45), (0.95, 0.98, 1.0), (0.9, 0.0, 0.05)):
        ends = [test.verdict_at((rng.random(1000) < p).astype(float).tolist()) == "meets" for _ in range(300)]
        assert least <= np.mean(ends) <= most
