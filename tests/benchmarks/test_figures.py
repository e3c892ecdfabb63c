"""Figures against their definitions, statsmodels and simulation."""

import math
import random

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from tunewise.benchmarks.figures import (
    UNDEFINED,
    Figure,
    drop_above,
    items_to_see,
    paired_difference,
    ratio,
    share,
    share_of_groups,
    smallest_visible_drop,
)
from tunewise.benchmarks.scores import exponential


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (37, 100), (1, 2000)])
def test_a_share_has_the_interval_that_statsmodels_gives(successes, n):
    low, high = proportion_confint(successes, n, method="wilson")
    figure = share(successes, n)
    assert (figure.low, figure.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))


def test_no_items_have_no_share():
    assert share(0, 0) == UNDEFINED
    assert paired_difference(0, 0, 0) == UNDEFINED


def test_a_paired_difference_without_changes_has_tangos_closed_form():
    z2 = 1.959963984540054**2
    figure = paired_difference(0, 0, 50)
    assert figure.estimate == 0
    assert figure.high == pytest.approx(z2 / (50 + z2), abs=1e-6)
    assert figure.low == pytest.approx(-z2 / (50 + z2), abs=1e-6)


def test_a_paired_difference_solves_the_score_equation_at_both_ends():
    lost, gained, n = 12, 3, 100
    figure = paired_difference(lost, gained, n)

    def z(delta):  # Tango 1998, written out anew
        b = -(lost + gained) + (2 * n - lost + gained) * delta
        q = (math.sqrt(b * b + 8 * n * gained * delta * (1 - delta)) - b) / (4 * n)
        return (lost - gained - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))

    assert z(figure.low) == pytest.approx(1.96, abs=1e-3)
    assert z(figure.high) == pytest.approx(-1.96, abs=1e-3)


def test_swapping_the_models_mirrors_the_paired_difference():
    one, other = paired_difference(9, 2, 60), paired_difference(2, 9, 60)
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    assert one.high == pytest.approx(-other.low, abs=1e-9)


@pytest.mark.parametrize(("lost", "gained", "n"), [(40, 0, 40), (0, 40, 40), (1, 0, 1)])
def test_a_paired_difference_at_the_edge_stays_within_one(lost, gained, n):
    figure = paired_difference(lost, gained, n)
    assert -1 <= figure.low <= figure.estimate <= figure.high <= 1


def test_the_paired_interval_covers_the_truth_in_about_95_of_100_cases():
    rng = random.Random(11)
    n, lost_rate, gained_rate, covered = 120, 0.08, 0.03, 0
    for _ in range(600):
        draws = [rng.random() for _ in range(n)]
        lost = sum(x < lost_rate for x in draws)
        gained = sum(lost_rate <= x < lost_rate + gained_rate for x in draws)
        figure = paired_difference(lost, gained, n)
        covered += figure.low <= lost_rate - gained_rate <= figure.high
    assert 0.925 <= covered / 600 <= 0.98


def test_the_ratio_of_equal_sizes_is_the_mean_with_students_interval():
    figure = ratio([1.0, 2.0, 3.0, 4.0], [1.0] * 4)
    assert figure.estimate == 2.5
    assert figure.high - figure.estimate == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2, abs=1e-5)


def test_one_unit_has_an_estimate_and_no_interval():
    figure = ratio([3.0], [2.0])
    assert (figure.estimate, figure.low, figure.high) == (1.5, None, None)


def test_the_items_needed_are_those_of_the_table_in_the_research():
    # base 0.60, churn 3 %: a true drop of 10 % needs about 1,062 items, one of 20 % about 168
    assert items_to_see(0.10, 0.6, 0.03) == pytest.approx(1062, abs=2)
    assert items_to_see(0.20, 0.6, 0.03) == pytest.approx(168, abs=2)
    assert items_to_see(0.05, 0.6, 0.03) is None


def test_fewer_items_see_only_larger_drops():
    drops = [smallest_visible_drop(n, 0.6) for n in (100, 200, 1000, 5000)]
    assert drops == sorted(drops, reverse=True)
    assert smallest_visible_drop(5, 0.3) is None


def test_shares_of_groups_have_a_width_within_zero_and_one_even_where_all_agree():
    none, every = share_of_groups([0] * 6, [1, 2, 3, 1, 2, 3]), share_of_groups([2] * 6, [2] * 6)
    assert (none.estimate, none.low, none.high) == (0.0, 0.0, pytest.approx(share(0, 6).high))
    assert (every.estimate, every.low, every.high) == (1.0, pytest.approx(share(6, 6).low), 1.0)
    one = share_of_groups([1, 0, 0, 0, 0, 0], [1] * 6)
    assert 0 <= one.low < one.estimate < one.high <= 1
    assert share_of_groups([], []).estimate is None


@pytest.mark.parametrize("alike", [0.0, 0.6], ids=["apart", "alike"])
def test_the_interval_of_shares_of_groups_covers_the_truth_in_about_95_of_100_cases(alike):
    rng, covered, runs = random.Random(4), 0, 1500
    for _ in range(runs):
        sizes = [rng.choice((1, 2, 3)) for _ in range(60)]
        successes = []
        for size in sizes:
            shared = rng.random() < 0.3
            same = rng.random() < alike
            successes.append(size * shared if same else sum(rng.random() < 0.3 for _ in range(size)))
        found = share_of_groups(successes, sizes)
        covered += found.low <= 0.3 <= found.high
    assert 0.93 <= covered / runs <= 0.975


@pytest.mark.parametrize(("both", "lost", "gained", "floor"), [(120, 40, 10, 0.25), (300, 0, 20, 0.5)])
def test_a_drop_above_chance_has_fiellers_interval(both, lost, gained, floor):
    """At its ends the mean of after - (1 - d) before - d floor is 1.96 standard errors from nothing."""
    n = 400
    before = np.array([1] * (both + lost) + [0] * (n - both - lost))
    after = np.array([1] * both + [0] * lost + [1] * gained + [0] * (n - both - lost - gained))
    found = drop_above(both, lost, gained, n, floor)
    assert found.estimate == pytest.approx((lost - gained) / n / ((both + lost) / n - floor))
    for end in (found.low, found.high):
        z = after - (1 - end) * before - end * floor
        assert abs(z.mean()) / (z.std() / math.sqrt(n)) == pytest.approx(1.959964, rel=1e-6)
    assert found.low < found.estimate < found.high


def test_without_a_base_shown_above_chance_a_drop_above_it_has_no_interval():
    assert drop_above(90, 20, 5, 400, 0.25).low is None
    assert drop_above(90, 20, 5, 400, 0.25).estimate == pytest.approx(15 / 400 / (110 / 400 - 0.25))
    assert drop_above(50, 20, 5, 400, 0.25) == UNDEFINED


def test_a_perplexity_beyond_what_a_float_holds_is_undefined():
    assert exponential(Figure(2.0, 1.0, 800.0)) == Figure(math.exp(2), math.e, None)
