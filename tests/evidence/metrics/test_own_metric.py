"""A metric of the user's own: what it may say, and what becomes of a crash, a hang and nonsense."""

import json
import time

import pytest

from tunewise.errors import SettingError
from tunewise.evidence.metrics import MetricContext, metric_named
from tunewise.task_metric import OwnOptions

MODULE = """
import os, sys, time

def share(output, references):
    print("this goes to standard error")
    return len(set(output) & set(references[0])) / len(set(references[0]))

def of_input(output, references, input):
    return {"value": input in output, "words": len(output.split()), "why": "said so"}

def crash(output, references):
    return 1 / 0

def nonsense(output, references):
    return {"text": "good", "number": 7, "nan": float("nan"), "none": None, "list": [1]}[output]

def hang(output, references):
    if output == "hang":
        while True: pass
    return True

def gone(output, references):
    os._exit(3)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("own")
    (path / "own_metrics_here.py").write_text(MODULE)
    return path


def score(folder, function, output, references=("abc",), input="", **options):
    metric = metric_named(f"python:own_metrics_here:{function}", OwnOptions(**options))
    return metric.score(output, references, MetricContext(input=input, folder=folder))


def test_a_number_is_the_value_and_a_mapping_has_figures_beside_it(folder):
    assert score(folder, "share", "ab").value == pytest.approx(2 / 3)
    found = score(folder, "of_input", "x why", input="why", kind="binary")
    assert (found.status, found.value) == ("scored", 1.0)
    assert found.detail == {"words": 2.0, "why": "said so"}


def test_a_crash_is_errored_with_its_line_never_a_zero(folder):
    found = score(folder, "crash", "x")
    assert (found.status, found.value) == ("errored", None)
    assert "ZeroDivisionError: division by zero (line 12 of own_metrics_here.py)" in found.detail["why"]


@pytest.mark.parametrize("output", ["text", "number", "nan", "none", "list"])
def test_what_is_no_number_in_0_to_1_is_errored(folder, output):
    found = score(folder, "nonsense", output)
    assert (found.status, found.value) == ("errored", None)
    assert "a number in [0, 1] was expected, got" in found.detail["why"]
    json.dumps(dict(found.detail), allow_nan=False)


def test_a_graded_value_of_a_binary_metric_is_errored(folder):
    assert "0 or 1 was expected, got 0.33" in score(folder, "share", "a", kind="binary").detail["why"]


def test_a_hang_is_cut_and_the_next_answer_is_scored(folder):
    assert score(folder, "hang", "fine").value == 1
    began = time.monotonic()
    found = score(folder, "hang", "hang", seconds=0.5)
    assert (found.status, found.value) == ("errored", None)
    assert "no answer within 0.5 s" in found.detail["why"]
    assert time.monotonic() - began < 10
    assert score(folder, "hang", "fine").value == 1


def test_a_process_that_ends_is_errored_and_started_again(folder):
    for _ in range(2):
        assert "its process ended" in score(folder, "gone", "x").detail["why"]


def test_any_text_reaches_it_unharmed(folder):
    assert score(folder, "share", "\ud800\x00\n\u2028 abc", ("abc\ud800",)).value == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("python:no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("python:own_metrics_here:nothing", "has no attribute 'nothing'"),
        ("python:own_metrics_here:os", "is no function but module"),
    ],
)
def test_a_metric_that_cannot_be_loaded_is_the_user_s_mistake(folder, name, message):
    with pytest.raises(SettingError, match=message):
        metric_named(name).score("a", ["b"], MetricContext(folder=folder))
