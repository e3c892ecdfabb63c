"""The guard's test against published constants, exact cases and simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from tunewise.benchmarks.guard_test import (
    FEWEST,
    GuardTest,
    boundaries,
    interleaved,
    relative_drop,
    spent_boundaries,
    statistic,
)


def outcomes(rng, n, base, churn, drop):
    """0/1 of base and tuned: ``churn`` newly right, churn + drop * base newly wrong."""
    draw = rng.random(n)
    right = (draw < base).astype(int)
    lost = draw < drop * base + churn
    gained = (draw >= base) & (draw < base + churn)
    return right, np.where(lost, 0, np.where(gained, 1, right))


def test_one_look_has_the_quantile_of_the_normal_distribution():
    assert boundaries([1.0], [0.0125]) == (pytest.approx(norm.isf(0.0125), abs=2e-3),)


def test_pococks_constants_come_out_of_what_they_spend():
    # Pocock 1977: two equal looks at 2.178, one-sided 0.025; four at 2.361.
    two = boundaries([0.5, 1.0], [norm.sf(2.178), 0.025])
    assert two == (pytest.approx(2.178, abs=3e-3), pytest.approx(2.178, abs=3e-3))


def test_boundaries_spend_what_they_promise():
    rng = np.random.default_rng(2)
    shares = np.array([0.25, 0.5, 0.75, 1.0])
    sums = np.cumsum(rng.standard_normal((200_000, 4)) * np.sqrt(0.25), axis=1) / np.sqrt(shares)
    crossed = (sums >= np.array(spent_boundaries(tuple(shares), 0.05, 1.0))).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.002)


def test_the_statistic_is_the_mean_of_z_over_its_standard_error():
    rng = np.random.default_rng(3)
    base, tuned = outcomes(rng, 20_000, 0.6, 0.03, 0.1)
    z = tuned - 0.95 * base
    both, lost, gained = (base * tuned).sum(), (base * (1 - tuned)).sum(), ((1 - base) * tuned).sum()
    expected = z.mean() / z.std() * np.sqrt(len(z))
    assert statistic(both, lost, gained, len(z), 0.05) == pytest.approx(expected, rel=2e-3)


def test_nothing_lost_is_clear_early_and_much_lost_is_an_alarm():
    rng = np.random.default_rng(4)
    test = GuardTest(items=3000)
    base, tuned = outcomes(rng, 3000, 0.6, 0.03, 0.0)
    assert test.read(base, tuned).outcome == "clear"
    base, tuned = outcomes(rng, 3000, 0.6, 0.03, 0.3)
    reading = test.read(base, tuned)
    assert (reading.outcome, reading.n) == ("alarm", 750)
    assert reading.low < 0.3 < reading.high


def test_before_the_first_look_nothing_is_said():
    reading = GuardTest(items=400).read([1] * 50, [0] * 50)
    assert (reading.outcome, reading.drop) == (None, 1.0)
    assert GuardTest(items=400).read([], []).drop is None


def test_few_items_without_a_change_prove_nothing():
    assert GuardTest(items=FEWEST).read([1, 0] * 20, [1, 0] * 20).outcome == "not_proved"


def test_a_base_that_has_nothing_right_has_no_relative_drop():
    assert relative_drop(0, 0, 5, 100, 2.0, 2.0) == (None, None, None)


def test_the_interval_never_contradicts_the_outcome():
    rng = np.random.default_rng(11)
    seen = set()
    for items in (60, 200, 800):
        for test in (GuardTest(items), GuardTest(items, 1, look_at=(1.0,))):
            for drop in (0.0, 0.03, 0.05, 0.1, 0.3):
                for _ in range(40):
                    reading = test.read(*outcomes(rng, items, 0.6, rng.choice([0.0, 0.02, 0.06]), drop))
                    assert (reading.outcome == "alarm") == (reading.low >= 0.05)
                    assert (reading.outcome == "clear") == (reading.high <= 0.05)
                    assert reading.low <= reading.drop <= reading.high
                    seen.add(reading.outcome)
    assert seen == {"alarm", "clear", "not_proved"}


def test_the_bounds_are_wrong_as_seldom_as_the_test():
    rng = np.random.default_rng(12)
    test, runs = GuardTest(800), 1500
    found = [test.read(*outcomes(rng, 800, 0.6, 0.03, 0.12)) for _ in range(runs)]
    too_high = sum(reading.low > 0.12 for reading in found) / runs
    too_low = sum(reading.high < 0.12 for reading in found) / runs
    assert too_high <= 0.0125 + 3 * (0.0125 / runs) ** 0.5
    assert too_low <= 0.05 + 3 * (0.05 / runs) ** 0.5


@pytest.mark.parametrize(("items", "base", "churn"), [(3000, 0.6, 0.03), (300, 0.6, 0.03), (100, 0.8, 0.02)])
def test_a_drop_of_exactly_the_limit_stops_at_most_one_run_in_twenty(items, base, churn):
    rng = np.random.default_rng(items)
    test = GuardTest(items=items)
    runs = 1000
    alarms = sum(
        any(test.read(*outcomes(rng, items, base, churn, 0.05)).outcome == "alarm" for _ in range(4))
        for _ in range(runs)
    )
    assert alarms / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_a_drop_of_ten_per_cent_is_caught_with_3000_items():
    rng = np.random.default_rng(8)
    test = GuardTest(items=3000)
    caught = sum(test.read(*outcomes(rng, 3000, 0.6, 0.03, 0.1)).outcome == "alarm" for _ in range(400))
    assert caught / 400 >= 0.95


def test_fewer_items_see_only_larger_drops():
    drops = [GuardTest(items=n).smallest_visible_drop(0.6) for n in (200, 1000, 3000)]
    assert drops == sorted(drops, reverse=True)
    assert 0.08 <= drops[-1] <= 0.10
    assert GuardTest(items=40).smallest_visible_drop(0.1) is None


@pytest.mark.parametrize(
    ("base", "tuned"),
    [([1, 0], [1]), ([2], [1]), ([1] * 500, [1] * 500)],
    ids=["lengths", "values", "too many"],
)
def test_outcomes_that_cannot_be_paired_are_refused(base, tuned):
    with pytest.raises(ValueError, match="expected"):
        GuardTest(items=400).read(base, tuned)


def test_every_stretch_of_the_order_has_its_share_of_each_benchmark():
    order = interleaved({"hellaswag": 1000, "piqa": 500, "lambada": 500})
    assert order == interleaved({"lambada": 500, "piqa": 500, "hellaswag": 1000})
    assert len(set(order)) == 2000
    for begin in range(0, 2000, 200):
        stretch = [name for name, _ in order[begin : begin + 200]]
        assert 90 <= stretch.count("hellaswag") <= 110
