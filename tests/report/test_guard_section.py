"""The guard on the page and at the terminal: timeline, drop per benchmark, repair curve, symptoms."""

import io

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from tunewise.cli.guard_table import print_guard
from tunewise.guard_words import kept_in_words, on_b_in_words

NUMBER = {"estimate": 0.1, "low": 0.05, "high": 0.15}
BENCHMARK = {"name": "piqa", "metric": "acc_norm", "n": 90, "first": 0.7, "second": 0.6, "relative": NUMBER}
ENTRY = {
    "step": 4, "epoch": 1.0, "outcome": "clear", "n": 90, "drop": 0.01, "low": -0.02, "high": 0.04,
    "early": {"estimate": 0.02, "low": 0.01, "high": 0.03, "warns": True}, "benchmarks": [BENCHMARK],
}  # fmt: skip
GUARD = {
    "verdict": "clear", "why": "pooled drop 1.0 %", "items": 90, "used": ["piqa"], "checkpoints": 4,
    "smallest_visible_drop": None, "seconds": {"base": 1.0, "checkpoints": 2.0}, "share": 0.09,
    "time_share": 0.1,
    "benchmarks": [{"name": "mmlu", "why": "the base is at chance"}], "notes": [], "stopped_at": 8,
    "timeline": [ENTRY, ENTRY | {"step": 8, "outcome": "alarm", "drop": None, "low": None, "high": None}],
    "kept": {"step": 4, "epoch": 1.0, "scale": 1.0},
    "check": {
        "outcome": "clear", "n": 90, "drop": 0.01, "low": -0.03, "high": 0.045, "benchmarks": [BENCHMARK],
    },
    "confirmation": {"outcome": "alarm", "n": 77, "drop": 0.311, "low": 0.215, "high": 0.401},
    "repair": [
        {"scale": 0.5, "selection_score": None, "outcome": None, "n": 3, "why": "3 items"},
        {"scale": 0.0, "selection_score": 0.2, "outcome": "clear", "drop": 0.0, "low": 0.0, "high": 0.0},
    ],
    "symptoms": {"why": None, "prompts": 24, "answers": [], "signs": [
        {"name": "empty", "about": "nothing but white space", "base": 0.1, "tuned": 0.1, "fires": False}]},
    "stopped_symptoms": {"why": None, "prompts": 24, "signs": [
        {"name": "loops", "about": "ends in a loop", "base": 0.1, "tuned": 0.9, "fires": True}],
        "answers": [{"prompt": "Write <b>", "base": "A poem.", "tuned": "card card card"}]},
    "advice": ["lower training.learning_rate (now 0.001; try 0.00033)"],
}  # fmt: skip
OFF = {"verdict": "off", "why": "no general benchmark data is named"}


def page(guard):
    environment = Environment(
        loader=PackageLoader("tunewise.report"), autoescape=True, undefined=StrictUndefined
    )
    rungs = [{"rung": "zero-shot", "skipped_because": "x"}, {"rung": "lora", "guard": guard}]
    words = {"kept_in_words": kept_in_words, "on_b_in_words": on_b_in_words}
    return environment.get_template("guard.html").render(rungs=rungs, **words)


def terminal(guard):
    stream = io.StringIO()
    console = Console(file=stream, width=140)
    print_guard(console, {"rungs": [{"rung": "zero-shot", "guard": None}, {"rung": "lora", "guard": guard}]})
    return stream.getvalue()


@pytest.mark.parametrize("shown", [page, terminal])
def test_everything_that_was_measured_is_shown(shown):
    said = shown(GUARD)
    for words in ("clear", "alarm", "piqa", "10.0 %", "0.5", "loops", "try 0.00033", "9.0 %", "kept", "?"):
        assert words in said, words


@pytest.mark.parametrize("shown", [page, terminal])
def test_the_alarm_is_shown_by_benchmark_and_with_its_confirmation(shown):
    said = shown(GUARD)
    assert "At the alarm (step 8), on set A" in said
    assert "Training was stopped at step 8, kept is step 4 at 1 of its strength." in said
    assert "At full strength, on fresh items" in said
    for words in ("31.1 %", "21.5 %", "40.1 %", "77 items"):
        assert words in said, words


@pytest.mark.parametrize("shown", [page, terminal])
def test_after_an_alarm_on_set_b_alone_its_second_reading_is_called_one(shown):
    kept = {"step": 8, "epoch": 2.0, "scale": 0.5}
    said = shown(GUARD | {"stopped_at": None, "kept": kept})
    assert "The alarm came on fresh items (set B), kept is step 8 at 0.5 of its strength." in said
    assert "on set B, read once more after its alarm" in said
    assert "on set B, which chose nothing" in shown(GUARD)


@pytest.mark.parametrize("shown", [page, terminal])
def test_a_set_b_that_is_too_small_says_why(shown):
    assert "9 items, the test takes 40" in shown(
        GUARD | {"check": {"outcome": None, "n": 9, "why": "9 items, the test takes 40"}}
    )


def test_answers_can_be_read_on_the_page_as_text():
    said = page(GUARD)
    assert "card card card" in said
    assert "Write &lt;b&gt;" in said


@pytest.mark.parametrize("shown", [page, terminal])
def test_a_guard_that_was_off_says_why(shown):
    assert "general ability was not measured" in shown(OFF)
    assert "no general benchmark data is named" in shown(OFF)
    assert shown(OFF).count("step") == 0


@pytest.mark.parametrize("shown", [page, terminal])
def test_the_sign_on_running_text_is_shown_where_there_are_no_prompts(shown):
    text = {"name": "text", "about": "bits per byte", "base": 1.11, "tuned": 2.5, "fires": True}
    found = {"why": "there are no general prompts", "prompts": 0, "answers": [], "signs": [text]}
    said = " ".join(shown(GUARD | {"symptoms": found}).split())
    assert "there are no general prompts" in said
    assert "2.50" in said
