"""The interview: one question at a time, none that cannot change the answer, mistakes asked again."""

import pytest

from tunewise.advice.facts import FactMistake, Facts
from tunewise.advice.framework import decide_rule
from tunewise.advice.interview import QUESTIONS, interview, with_answer


def play(**answers: str):
    """The facts of an interview in which each fact is answered so; the others with Enter."""
    asked: list[str] = []
    told: list[str] = []

    def ask(number, question, why):
        assert number == len(set(asked) | {question.fact})
        assert why
        asked.append(question.fact)
        given = answers.get(question.fact, "")
        return given if isinstance(given, str) else given.pop(0)

    return interview(ask, told.append), asked, told


def test_a_prompt_that_meets_ends_it_after_two_questions():
    facts, asked, _ = play(can_be_described_in_prompt="yes", prompting_meets_quality="yes")
    assert asked == ["can_be_described_in_prompt", "prompting_meets_quality"]
    assert decide_rule(facts).approach == "prompting"


def test_changing_knowledge_ends_it_and_its_speed_is_asked_only_when_knowledge_is_needed():
    facts, asked, _ = play(
        prompting_meets_quality="no", requires_external_knowledge="y", knowledge_changes="Weekly"
    )
    assert asked[-1] == "knowledge_changes"
    assert decide_rule(facts).approach == "rag"
    _, asked, _ = play(prompting_meets_quality="no", requires_external_knowledge="no")
    assert "knowledge_changes" not in asked


def test_enter_is_unknown_and_every_question_has_its_reason():
    facts, _, _ = play()
    assert facts == Facts()
    assert all(question.why and question.asks.endswith(("?", ")")) for question in QUESTIONS)


def test_a_wrong_answer_is_told_and_asked_again():
    facts, asked, told = play(
        prompting_meets_quality=["perhaps", "no"],
        requires_external_knowledge="no",
        requires_specific_style="no",
        requires_specific_format="no",
        latency_budget_ms=["fast", "-3", "1,500"],
    )
    assert facts.prompting_meets_quality is False
    assert facts.latency_budget_ms == 1500
    assert len(told) == 3
    assert "yes or no was expected" in told[0]
    assert asked.count("latency_budget_ms") == 3


def test_an_answer_that_contradicts_an_earlier_one_is_refused():
    facts = with_answer(Facts(), "can_be_described_in_prompt", "no")
    with pytest.raises(FactMistake, match="contradict"):
        with_answer(facts, "prompting_meets_quality", "yes")
