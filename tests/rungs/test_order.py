"""The rungs are one explicit list, from light to heavy."""

import pytest

from tunewise.errors import SettingError
from tunewise.rungs.order import LEARNS_FROM_ROWS, WEIGHTS, rungs_for

NAMES = [
    *("zero-shot", "few-shot", "few-shot-nearest", "constrained", "rag"),
    *("lora", "qlora", "full", "distilled", "cpt-sft", "rag-lora"),
]


def test_rungs_come_from_light_to_heavy_whatever_order_they_are_asked_in():
    assert [rung.name for rung in rungs_for()] == NAMES
    assert [rung.name for rung in rungs_for(["lora", "zero-shot"])] == ["zero-shot", "lora"]
    assert rungs_for([]) == ()


def test_weights_say_the_same_order():
    assert sorted(WEIGHTS, key=WEIGHTS.__getitem__) == NAMES
    assert set(LEARNS_FROM_ROWS) < set(NAMES)


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(SettingError, match=r"unknown rung 'zeroshot'.*did you mean 'zero-shot'"):
        rungs_for(["zeroshot"])
