"""``token_f1`` against the SQuAD evaluation script's arithmetic."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise.evidence.metrics import METRICS, MetricContext


def f1(answer: str, *references: str) -> float:
    value = METRICS["token_f1"].score(answer, references, MetricContext()).value
    assert value is not None
    return value


def squad_f1(prediction: str, truth: str) -> float:
    """evaluate-v2.0.py of SQuAD, rewritten from its published definition; ASCII only."""

    def tokens(text: str) -> list[str]:
        text = "".join(ch for ch in text.lower() if ch not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    said, right = tokens(prediction), tokens(truth)
    if not said or not right:
        return float(said == right)
    same = sum((Counter(said) & Counter(right)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(said), same / len(right)
    return 2 * precision * recall / (precision + recall)


def test_a_hand_count() -> None:
    assert f1("the red red car", "a red car") == pytest.approx(2 * 2 / (3 + 2))


@given(st.text("abe then.,-' \n", max_size=40), st.text("abe then.,-' \n", max_size=40))
def test_it_is_squads_f1_on_ascii(answer: str, reference: str) -> None:
    assert f1(answer, reference) == pytest.approx(squad_f1(answer, reference))


def test_the_best_reference_counts() -> None:
    assert f1("blue", "red", "dark blue") == pytest.approx(2 / 3)


def test_punctuation_of_other_scripts_is_dropped_too() -> None:
    assert f1("«Zürich»", "zürich。") == 1
