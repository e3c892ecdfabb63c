"""Paired comparisons against scipy, statsmodels, enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from tunewise.evidence.paired import compare_binary, compare_graded, mcnemar, tango


def pairs(only_a: int, only_b: int, both: int, neither: int) -> tuple[list[float], list[float]]:
    rows = [(1.0, 0.0)] * only_a + [(0.0, 1.0)] * only_b + [(1.0, 1.0)] * both + [(0.0, 0.0)] * neither
    return [a for a, _ in rows], [b for _, b in rows]


@pytest.mark.parametrize("table", [(3, 12, 40, 5), (0, 0, 5, 5), (7, 7, 1, 1), (0, 6, 0, 0), (25, 4, 9, 1)])
def test_mcnemar_is_statsmodels_exact_test(table):
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    only_a, only_b, both, neither = table
    expected = contingency.mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(expected)


def score_statistic(only_a: int, only_b: int, n: int, d: float) -> float:
    """Tango's statistic with its nuisance share found by maximising the trinomial likelihood numerically."""

    def minus_log_likelihood(q: float) -> float:
        shares = np.array([q, q + d, 1 - 2 * q - d])
        return -float(np.array([only_a, only_b, n - only_a - only_b]) @ np.log(np.maximum(shares, 1e-300)))

    lowest, highest = max(0.0, -d), (1 - d) / 2
    q = minimize_scalar(
        minus_log_likelihood, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}
    ).x
    return (only_b - only_a - n * d) / math.sqrt(n * (2 * q + d * (1 - d)))


@pytest.mark.parametrize("table", [(3, 12, 60), (8, 5, 44), (1, 9, 20), (14, 2, 100)])
def test_tango_s_limits_are_where_the_constrained_score_test_just_rejects(table):
    only_a, only_b, n = table
    low, high = tango(only_a, only_b, n)
    assert score_statistic(only_a, only_b, n, low) == pytest.approx(norm.ppf(0.975), abs=1e-4)
    assert score_statistic(only_a, only_b, n, high) == pytest.approx(-norm.ppf(0.975), abs=1e-4)
    mirrored = tango(only_b, only_a, n)
    assert mirrored == pytest.approx((-high, -low))


def test_without_a_discordant_pair_the_interval_still_has_a_width():
    z2 = norm.ppf(0.975) ** 2
    assert tango(0, 0, 50) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-9)
    assert tango(50, 0, 50)[0] == -1.0
    assert tango(0, 50, 50)[1] == 1.0


@pytest.mark.parametrize(("a_alone", "b_alone"), [(0.1, 0.1), (0.05, 0.2), (0.02, 0.05), (0.3, 0.3)])
def test_tango_s_interval_covers_by_enumeration(a_alone, b_alone):
    n, covered = 40, 0.0
    for only_a, only_b in itertools.product(range(n + 1), repeat=2):
        rest = n - only_a - only_b
        if rest < 0:
            continue
        ways = math.factorial(n) // (math.factorial(only_a) * math.factorial(only_b) * math.factorial(rest))
        chance = ways * a_alone**only_a * b_alone**only_b * (1 - a_alone - b_alone) ** rest
        if chance > 1e-9:
            low, high = tango(only_a, only_b, n)
            covered += chance * (low <= b_alone - a_alone <= high)
    assert covered > 0.935


def test_the_three_answers_and_their_mirror():
    assert compare_binary(*pairs(2, 20, 50, 28), margin=0.02).answer == "better"
    assert compare_binary(*pairs(3, 4, 900, 93), margin=0.02).answer == "not_worse"
    assert compare_binary(*pairs(5, 8, 50, 37), margin=0.02).answer == "cannot_tell"
    assert compare_binary(*pairs(20, 2, 50, 28), margin=0.02).answer == "worse"
    assert compare_binary(*pairs(8, 0, 990, 2), margin=0.05).answer == "not_worse"


def test_counts_and_means_by_hand():
    found = compare_binary(*pairs(2, 20, 50, 28), margin=0.02)
    assert (found.only_a, found.only_b, found.both, found.neither, found.n) == (2, 20, 50, 28, 100)
    assert (found.mean_a, found.mean_b) == (0.52, 0.70)
    assert found.difference == pytest.approx(0.18)
    assert found.more is None


def test_more_items_of_a_0_1_comparison_settle_it_four_times_of_five():
    found = compare_binary(*pairs(10, 16, 60, 14), margin=0.0)
    assert found.answer == "cannot_tell"
    assert found.more is not None
    rng = np.random.default_rng(4)
    n = found.n + found.more
    wins = 0
    for _ in range(2000):
        only_a, only_b, _ = rng.multinomial(n, [0.10, 0.16, 0.74])
        wins += only_b > only_a and mcnemar(only_a, only_b) <= 0.05
    assert 0.74 < wins / 2000 < 0.88


def test_no_number_of_items_is_promised_where_none_would_do():
    assert compare_binary(*pairs(10, 8, 50, 32), margin=0.0).more is None
    assert compare_binary(*pairs(10, 8, 50, 32), margin=0.05).more is not None


def test_two_systems_without_a_difference_need_the_items_that_prove_it():
    found = compare_binary(*pairs(0, 0, 30, 0), margin=0.02)
    assert found.answer == "cannot_tell"
    n = found.n + (found.more or 0)
    assert compare_binary(*pairs(0, 0, n, 0), margin=0.02).answer == "not_worse"
    assert compare_binary(*pairs(0, 0, n - 2, 0), margin=0.02).answer == "cannot_tell"


def test_graded_differences_cover_their_mean_in_simulation():
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(150):
        a = rng.beta(2, 2, 40)
        b = np.clip(a + rng.normal(0.0, 0.1, 40) * (a * (1 - a) * 4), 0, 1)
        found = compare_graded(a.tolist(), b.tolist(), margin=0.02, seed=trial)
        covered += found.low <= 0.0 <= found.high
    assert covered / 150 > 0.89


def test_graded_comparison_is_repeatable_and_names_its_method():
    rng = np.random.default_rng(1)
    a, b = rng.random(30).tolist(), rng.random(30).tolist()
    first, second = compare_graded(a, b, 0.02), compare_graded(a, b, 0.02)
    assert first == second
    assert first.method == "BCa bootstrap, 9999 resamples, seed 0"
    mirrored = compare_graded(b, a, 0.02)
    assert mirrored.difference == pytest.approx(-first.difference)


@pytest.mark.parametrize(("a", "b"), [([0.5] * 30, [0.5] * 30), ([0.1, 0.9], [0.2, 0.8])])
def test_where_a_bootstrap_says_nothing_the_interval_is_the_betting_one(a, b):
    found = compare_graded(a, b, margin=0.02)
    assert found.method == "betting"
    assert found.low < found.difference < found.high


def test_three_gains_among_ties_are_no_proof():
    """Of ten units three differ, all for b: by the exact sign test p is 0.25."""
    found = compare_graded([0.5] * 10, [0.5] * 7 + [0.9] * 3, 0.02)
    assert (found.answer, found.method) == ("cannot_tell", "betting")
