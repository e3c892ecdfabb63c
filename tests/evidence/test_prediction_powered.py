"""Prediction-powered bounds: coverage with judges of known error, and what they reduce to."""

import numpy as np
import pytest

from tunewise.evidence.prediction_powered import Powered, more_labels, powered_mean, read_powered


def judged(rng, quality, hits, rejects, count):
    """People's values, and a judge's that is right on ``hits`` of the good, ``rejects`` of the bad."""
    people = (rng.random(count) < quality).astype(float)
    judge = np.where(people == 1, rng.random(count) < hits, rng.random(count) >= rejects).astype(float)
    return people, judge


@pytest.mark.parametrize(
    ("quality", "hits", "rejects"),
    [(0.7, 0.9, 0.9), (0.9, 0.95, 0.8), (0.3, 0.98, 0.8), (0.5, 0.8, 0.8), (0.95, 1.0, 1.0), (0.9, 0.5, 0.5)],
)
def test_at_least_93_percent_of_1000_intervals_cover(quality, hits, rejects):
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        people, judge = judged(rng, quality, hits, rejects, 250)
        found = powered_mean(people[:50], judge[:50], judge[50:], alpha_low=0.025, alpha_high=0.025)
        covered += found.low <= quality <= found.high
    assert covered >= 930


def test_a_false_meets_stays_near_its_budget_at_the_tail_and_a_small_sample():
    """Truth exactly at target - tolerance, alpha 0.005, 50 labels: the budget is 5 in 1,000; MC error 2."""
    rng = np.random.default_rng(8)
    meets = 0
    for _ in range(1000):
        people, judge = judged(rng, 0.85, 0.9, 0.9, 250)
        found = powered_mean(people[:50], judge[:50], judge[50:], alpha_low=0.005, alpha_high=0.05)
        meets += read_powered(found, 0.87, 0.02) == "meets"
    assert meets <= 11


def test_a_judge_that_agrees_on_every_label_is_not_taken_to_be_perfect():
    found = powered_mean(
        [1.0] * 20 + [0.0] * 5, [1.0] * 20 + [0.0] * 5, [1.0] * 300, alpha_low=0.025, alpha_high=0.025
    )
    assert found.high - found.low > 0.05


def test_the_estimate_is_the_ppi_plus_plus_formula():
    rng = np.random.default_rng(9)
    people, judge = judged(rng, 0.7, 0.9, 0.8, 300)
    y, f, rest = people[:60], judge[:60], judge[60:]
    weight = np.cov(y, f, bias=True)[0, 1] / ((1 + 60 / 240) * f.var())
    found = powered_mean(y, f, rest, alpha_low=0.025, alpha_high=0.025)
    assert found.weight == pytest.approx(weight)
    assert found.estimate == pytest.approx(weight * rest.mean() + (y - weight * f).mean())


def test_a_useless_judge_is_left_out_and_a_good_one_narrows_the_interval():
    rng = np.random.default_rng(10)
    people, judge = judged(rng, 0.7, 0.95, 0.95, 600)
    noise = (rng.random(600) < 0.5).astype(float)
    arguments = {"alpha_low": 0.025, "alpha_high": 0.025}
    good = powered_mean(people[:60], judge[:60], judge[60:], **arguments)
    useless = powered_mean(people[:60], noise[:60], noise[60:], **arguments)
    alone = powered_mean(people[:60], judge[:60], [], **arguments)
    assert useless.weight < 0.3
    assert good.high - good.low < 0.7 * (alone.high - alone.low)
    assert alone.estimate == pytest.approx(people[:60].mean())
    assert alone.weight == 0


def test_no_labels_is_an_error_of_the_caller():
    with pytest.raises(ValueError):
        powered_mean([], [], [1.0], alpha_low=0.05, alpha_high=0.05)


def powered(estimate: float, low: float, high: float) -> Powered:
    return Powered(estimate, low, high, 60, 240, 0.9, estimate, estimate)


def test_verdicts_read_the_zone_from_both_bounds():
    assert read_powered(powered(0.95, 0.90, 0.98), 0.90, 0.02) == "meets"
    assert read_powered(powered(0.70, 0.60, 0.80), 0.90, 0.02) == "falls_short"
    assert read_powered(powered(0.90, 0.80, 0.96), 0.90, 0.02) == "not_proved"
    assert (
        read_powered(powered(0.90, 0.885, 0.915), 0.90, 0.02) == "meets"
    )  # more evidence takes nothing back


def test_more_labels_shrink_with_the_distance_to_the_bar():
    far, near = (more_labels(powered(e, e - 0.1, e + 0.05), 0.80, 0.02, 0.025) for e in (0.9, 0.83))
    assert near > far > 0
    assert more_labels(powered(0.7802, 0.7, 0.85), 0.80, 0.02, 0.025) is None
