"""The nine scenarios: the textbook's answers for its six, and reasons of our own for three more."""

from pathlib import Path

import pytest

import tunewise
from tunewise.task import ScriptedSpec, load_task

SCENARIOS = Path(__file__).parents[1] / "examples" / "scenarios"

ANSWERS = {
    "policies": ("rag", "step2_changing_knowledge"),
    "soap-notes": ("fine-tuning", "step3_style_or_format"),
    "contracts": ("rag+fine-tuning", "both_gaps"),
    "catalogue": ("rag", "step2_changing_knowledge"),
    "code-review": ("fine-tuning", "step2_static_knowledge"),
    "news": ("rag", "step2_changing_knowledge"),
    "languages": ("prompting", "step1_prompting"),
    "meeting-titles": ("prompting", "step3_few_shot"),
    "typing-ahead": ("fine-tuning", "step4_latency_or_cost"),
}


def echo(messages):
    return messages[-1].content


def scripted(name: str, monkeypatch: pytest.MonkeyPatch):
    """The scenario's task, with a model that needs no weights."""
    import sys

    monkeypatch.setitem(sys.modules, "scenario_model", sys.modules[__name__])
    task = load_task(SCENARIOS / name / "task.yaml")
    return task.model_copy(update={"model": ScriptedSpec(scripted="scenario_model:echo")})


def test_every_scenario_has_an_answer_and_every_answer_a_scenario():
    assert {path.parent.name for path in SCENARIOS.glob("*/task.yaml")} == set(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_scenario_gives_its_answer(name, monkeypatch):
    plain = tunewise.advise(scripted(name, monkeypatch)).to_json()
    assert (plain["approach"], plain["rule"]) == ANSWERS[name]
    assert plain["sources"]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_scenario_passes_check(name, monkeypatch):
    plan = tunewise.check(scripted(name, monkeypatch))
    assert plan.facts["parts"]["certification_items"] >= 16
    assert not any(rung.skipped_because for rung in plan.rungs if rung.rung == "few-shot")
