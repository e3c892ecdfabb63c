"""What the ladder simulation counts as wrong, on ladders whose truth is written down by hand."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "climb.py"


@pytest.fixture(scope="module")
def climb() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_climb", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SHORT, MEETS, OPEN = "falls_short", "meets", "not_proved"


@pytest.mark.parametrize(
    ("p", "verdicts", "choice", "by_estimate", "wrong"),
    [
        ((0.80, 0.91), (SHORT, MEETS), 1, 1, set()),
        ((0.80, 0.89), (SHORT, MEETS), 1, 1, set()),  # within 2 points: not wrong
        ((0.80, 0.87), (SHORT, MEETS), 1, 1, {"false meets", "wrong claim", "wrong pick", "by estimate"}),
        ((0.93, 0.95), (SHORT, MEETS), 1, 1, {"wrong claim", "wrong pick", "by estimate"}),
        ((0.93, 0.95), (OPEN, MEETS), 1, 0, {"wrong pick"}),
        ((0.93, 0.95), (OPEN, MEETS), 1, 1, {"wrong pick", "by estimate"}),
        ((0.93, 0.80), (OPEN, SHORT), None, 0, {"wrong pick"}),
        ((0.91, 0.80), (SHORT, SHORT), None, None, set()),
        ((0.80, 0.93), (OPEN,), None, None, set()),  # stopped at the first: the second was never said to fail
    ],
)
def test_what_counts_as_wrong(
    climb: ModuleType,
    p: tuple[float, ...],
    verdicts: tuple[str, ...],
    choice: int | None,
    by_estimate: int | None,
    wrong: set[str],
) -> None:
    end = climb.Ending(choice, by_estimate, verdicts, (100,) * len(verdicts))
    marks = climb.marks(np.array(p), end)
    assert {
        name for name in ("false meets", "wrong claim", "wrong pick", "by estimate") if marks[name]
    } == wrong


def test_a_small_simulation_climbs_as_the_exact_recursion_says(climb: ModuleType) -> None:
    setting = climb.Setting("worst", rungs=1, cap=200)
    found = climb.rates(setting, 1500, seed=1)
    expected = setting.test().fate(0.88)
    assert found["calls"] == pytest.approx(expected.items, abs=6)
    assert found["any meets"] <= 0.025 + 0.02


def test_answers_are_right_as_often_as_the_quality_says_and_correlate_between_rungs(
    climb: ModuleType,
) -> None:
    quality = np.full((200, 2), [0.6, 0.9])
    drawn = np.stack(list(climb.answers(quality, 300, np.random.default_rng(0))))
    assert drawn.mean(axis=(0, 2)) == pytest.approx([0.6, 0.9], abs=0.01)
    assert np.corrcoef(drawn[:, 0].ravel(), drawn[:, 1].ravel())[0, 1] > 0.15
