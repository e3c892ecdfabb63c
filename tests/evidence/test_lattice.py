"""The lattice against plain enumeration of every sequence of outcomes, with exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from tunewise.evidence.lattice import boundary, fate
from tunewise.evidence.sequential import ExactTest, looks_for

LOOKS = (4, 7, 10, 12)


def crossing_chance(p: Fraction, looks: tuple[int, ...], crossing: list[int]) -> Fraction:
    """Chance of reaching a boundary at any of these looks, summed over all sequences."""
    chance = Fraction(0)
    for path in itertools.product((0, 1), repeat=looks[-1]):
        if any(sum(path[:look]) >= least for look, least in zip(looks, crossing, strict=True)):
            ones = sum(path)
            chance += p**ones * (1 - p) ** (len(path) - ones)
    return chance


def enumerated_boundary(p: Fraction, alpha: float, looks: tuple[int, ...], horizon: int) -> list[int]:
    """By trying every count at every look: the smallest that keeps the spending promise."""
    crossing: list[int] = []
    for upto, look in enumerate(looks, start=1):
        may_spend = alpha * math.sqrt(look / horizon)
        for least in range(look + 2):
            if float(crossing_chance(p, looks[:upto], [*crossing, least])) <= may_spend + 1e-15:
                crossing.append(least)
                break
    return crossing


@pytest.mark.parametrize(("null", "alpha"), [("1/2", 0.05), ("4/5", 0.2), ("3/10", 0.01)])
def test_the_boundary_is_the_one_that_enumeration_finds(null: str, alpha: float) -> None:
    p = Fraction(null)
    found = boundary(float(p), alpha, LOOKS, 12)
    expected = enumerated_boundary(p, alpha, LOOKS, 12)
    for look, ours, theirs in zip(LOOKS, found, expected, strict=True):
        reachable = min([look + 1, *(b + look - a for a, b in zip(LOOKS, expected, strict=True) if a < look)])
        assert min(ours, reachable) == min(theirs, reachable)


@pytest.mark.parametrize("p", [0.3, 0.5, 0.85])
def test_the_fate_is_the_sum_over_all_sequences(p: float) -> None:
    high, failures = (4, 6, 8, 9), (4, 5, 6, 7)
    chances = {"meets": 0.0, "short": 0.0, "open": 0.0}
    items = 0.0
    for path in itertools.product((0, 1), repeat=12):
        weight = p ** sum(path) * (1 - p) ** (12 - sum(path))
        end, stop = "open", 12
        for look, h, f in zip(LOOKS, high, failures, strict=True):
            ones = sum(path[:look])
            if ones >= h or look - ones >= f:
                end, stop = ("meets" if ones >= h else "short"), look
                break
            if not any(
                ones + sum(rest[: b - look]) >= later_h or b - ones - sum(rest[: b - look]) >= later_f
                for rest in itertools.product((0, 1), repeat=12 - look)
                for b, later_h, later_f in zip(LOOKS, high, failures, strict=True)
                if b > look
            ):
                stop = look  # no continuation reaches either side: the rest is not paid for
                break
        chances[end] += weight
        items += weight * stop
    found = fate(p, LOOKS, high, failures)
    assert [found.meets, found.falls_short, found.not_proved] == pytest.approx(
        list(chances.values()), abs=1e-12
    )
    assert found.items == pytest.approx(items)


def test_stopping_where_neither_side_is_in_reach_changes_no_verdict() -> None:
    test = ExactTest(0.9, 0.02, 0.05 / 12, 0.05, looks_for(150))
    rng = np.random.default_rng(3)
    stopped_early = 0
    for _ in range(2000):
        values = (rng.random(150) < rng.uniform(0.86, 0.94)).astype(float)
        reading = test.read(values)
        counts = np.cumsum(values)[np.array(test.looks) - 1]
        meets = counts >= np.array(test.meets_from)
        short = np.array(test.looks) - counts >= np.array(test.short_from)
        stops = np.flatnonzero(meets | short)
        full = "not_proved" if not stops.size else "meets" if meets[stops[0]] else "falls_short"
        assert reading.verdict == full
        stopped_early += full == "not_proved" and reading.n < 150
    assert stopped_early > 100


def test_a_fate_from_the_middle_of_the_walk_counts_only_what_is_left() -> None:
    found = fate(0.7, (10, 20), (99, 16), (99, 99), start=(10, 8))
    assert found.meets == pytest.approx(binom.sf(7, 10, 0.7))
    assert found.items == 20


def test_a_single_look_is_the_one_sided_binomial_test() -> None:
    least = boundary(0.9, 0.05, (200,), 200)[0]
    assert binom.sf(least - 1, 200, 0.9) <= 0.05 < binom.sf(least - 2, 200, 0.9)


@pytest.mark.parametrize(("null", "alpha"), [(0.88, 0.05 / 6), (0.08, 0.05), (0.5, 0.05), (0.98, 0.05 / 12)])
def test_crossing_anywhere_up_to_the_cap_never_exceeds_alpha(null: float, alpha: float) -> None:
    looks = (*range(16, 1000, 8), 1000)
    crossing = boundary(null, alpha, looks, 1000)
    never = [look + 1 for look in looks]
    spent = fate(null, looks, crossing, never).meets
    assert 0.9 * alpha < spent <= alpha + 1e-12
