"""Drift: the slope is statsmodels' within slope with cluster-robust errors, and a fading voice is seen."""

import numpy as np
import pytest
import statsmodels.api as sm

from tunewise.evidence.style import Turn, drift, slope


def test_the_slope_and_its_interval_agree_with_statsmodels():
    rng = np.random.default_rng(0)
    names, turns, values = [], [], []
    for conversation in range(12):
        level, own = rng.normal(), rng.normal(-0.05, 0.05)
        for turn in range(1, int(rng.integers(4, 9))):
            names.append(str(conversation))
            turns.append(float(turn))
            values.append(level + own * turn + rng.normal(0, 0.1))
    found = slope(names, turns, values)
    dummies = np.array([[name == other for other in dict.fromkeys(names)] for name in names], dtype=float)
    fitted = sm.OLS(values, np.column_stack([turns, dummies])).fit()
    robust = fitted.get_robustcov_results(
        "cluster", groups=np.array([int(n) for n in names]), use_correction=False, df_correction=True
    )
    error = robust.bse[0] * np.sqrt(12 / 11)
    assert found.estimate == pytest.approx(fitted.params[0])
    from scipy.stats import t

    assert found.high - found.estimate == pytest.approx(error * t.ppf(0.975, 11))


def test_the_interval_covers_the_true_slope():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        level, own = rng.normal(size=(12, 1)), rng.normal(-0.03, 0.05, size=(12, 1))
        turns = np.tile(np.arange(1.0, 9.0), (12, 1))
        values = level + own * turns + rng.normal(0, 0.2, size=(12, 8))
        names = [str(n) for n in range(12) for _ in range(8)]
        found = slope(names, turns.ravel().tolist(), values.ravel().tolist())
        covered += found.low <= -0.03 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_one_conversation_has_a_slope_without_an_interval_and_single_turns_have_none():
    assert slope(["a", "a"], [1, 2], [0.0, 1.0]).low is None
    assert slope(["a", "a"], [1, 2], [0.0, 1.0]).estimate == 1
    assert slope(["a", "b"], [1, 1], [0.0, 1.0]).estimate is None


def conversations(made, shares: list[float]) -> list[Turn]:
    return [
        Turn(f"c{c}", turn, made.write(made.OLD, "harbour", 1, 1000 * c + turn, own=share)[0])
        for c in range(25)
        for turn, share in enumerate(shares, 1)
    ]


def test_a_fading_voice_is_seen_and_a_steady_one_is_not_said_to_fade(old_voice, made):
    fading = drift(old_voice, conversations(made, [1, 0.9, 0.7, 0.5, 0.3, 0.1]))
    assert fading["drift"] == "the voice fades"
    assert fading["per_turn"][0]["estimate"] > 0.8 > 0.4 > fading["per_turn"][-1]["estimate"]
    steady = drift(old_voice, conversations(made, [1.0] * 6))
    assert steady["drift"] == "no drift is shown"
    assert abs(steady["slope"]["estimate"]) < 0.02
