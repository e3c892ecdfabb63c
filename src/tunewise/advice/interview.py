"""The interview: one question at a time, only those that can still change the answer or a warning."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunewise.advice.facts import BOOLEANS, UNKNOWN, FactMistake, Facts, contradictions, read_value
from tunewise.advice.framework import DEFAULT, Thresholds, possible


@dataclass(frozen=True)
class Question:
    """One question: the fact it asks for, the words, why it is asked, and what may be answered."""

    fact: str
    asks: str
    why: str
    answers: str = "yes, no"


QUESTIONS = (
    Question(
        "can_be_described_in_prompt",
        "Could you explain in a page of text, to a capable stranger, what a right answer is?",
        "What can be said can be prompted, and a prompt is the lightest way there is.",
    ),
    Question(
        "prompting_meets_quality",
        "Have you tried a prompt, and is it good enough?",
        "A prompt that meets the quality ends the search: nothing heavier is needed.",
    ),
    Question(
        "requires_external_knowledge",
        "Do right answers need facts that the model cannot know (your documents, your products)?",
        "Missing facts are looked up; no wording and little training supplies them.",
    ),
    Question(
        "knowledge_changes",
        "How often do these facts change?",
        "What changes often must be looked up, since what is trained in goes stale.",
        "never, yearly, monthly, weekly, daily",
    ),
    Question(
        "dataset_size",
        "How many labelled rows (input with its right answer) do you have?",
        "More than {static_rows:,} rows of static knowledge can be trained in; few rows teach only form.",
        "a number",
    ),
    Question(
        "requires_specific_style",
        "Must answers keep a voice or style of their own?",
        "A voice is hard to hold with instructions alone, and training makes it the default.",
    ),
    Question(
        "requires_specific_format",
        "Must answers follow a strict format (JSON with a schema, XML, a report's sections)?",
        "A strict format can be shown, enforced by a grammar, or trained.",
    ),
    Question(
        "few_shot_meets_quality",
        "Have you tried a few examples in the prompt, and are they enough?",
        "If examples close the gap of style or format, no training is needed.",
    ),
    Question(
        "latency_budget_ms",
        "How many milliseconds may one answer take? (none: no limit)",
        "Below {latency_ms:g} ms, long prompts are too slow and a smaller tuned model is the way.",
        "a number, none",
    ),
    Question(
        "cost_per_query_budget_usd",
        "How many USD may one answer cost? (none: no limit)",
        "Below {cost_per_query_usd:g} USD, long prompts are too dear and a smaller tuned model is the way.",
        "a number, none",
    ),
    Question(
        "queries_per_day",
        "How many queries a day do you expect?",
        "Training pays back with volume.",
        "a number",
    ),
)

Asker = Callable[[int, Question, str], str]  # number, question, why -> the answer as typed
_WORDS: Mapping[str, Any] = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


def interview(ask: Asker, tell: Callable[[str], None], thresholds: Thresholds = DEFAULT) -> Facts:
    """Ask until the answer cannot change any more. An empty answer is unknown; a wrong one is asked again."""
    facts = Facts()
    number = 0
    for question in QUESTIONS:
        if not matters(question.fact, facts, thresholds):
            continue
        number += 1
        why = question.why.format(
            static_rows=thresholds.static_rows,
            latency_ms=thresholds.latency_ms,
            cost_per_query_usd=thresholds.cost_per_query_usd,
        )
        while True:
            try:
                facts = with_answer(facts, question.fact, ask(number, question, why))
                break
            except FactMistake as mistake:
                tell(str(mistake))
    return facts


def with_answer(facts: Facts, name: str, typed: str) -> Facts:
    """The facts with one typed answer. Raises FactMistake, also for one that contradicts an earlier one."""
    text = typed.strip().lower()
    value: Any = _WORDS.get(text, text or UNKNOWN)
    if isinstance(value, str) and name not in ("knowledge_changes",):
        value = _as_number(text) if text else UNKNOWN
    if isinstance(value, str) and name in BOOLEANS and value not in (UNKNOWN, "?"):
        raise FactMistake(f"yes or no was expected (Enter alone: not known), got '{typed.strip()}'")
    found = replace(facts, **{name: read_value(name, UNKNOWN if value == "?" else value)})
    for _, says in contradictions(found):
        raise FactMistake(says)
    return found


def _as_number(text: str) -> Any:
    plain = text.replace("_", "")
    if re.fullmatch(r"-?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", plain):
        plain = plain.replace(
            ",", ""
        )  # else a comma is a decimal one somewhere, and dropping it a factor of 1000
    try:
        return int(plain) if plain.lstrip("-").isdigit() else float(plain)
    except ValueError:
        return text


def matters(name: str, facts: Facts, thresholds: Thresholds = DEFAULT) -> bool:
    """Whether this fact can still change the approach, or, for size and volume, a warning on training."""
    open_now = possible(facts, thresholds)
    if name == "can_be_described_in_prompt":
        return True
    if name == "few_shot_meets_quality" and not (
        facts.requires_specific_style or facts.requires_specific_format
    ):
        return False
    if name == "knowledge_changes" and not facts.requires_external_knowledge:
        return False
    trains = any("fine-tuning" in approach for approach in open_now)
    if name == "dataset_size":
        return trains
    if name == "queries_per_day":
        budget = facts.cost_per_query_budget_usd
        return trains and budget is not None and budget < thresholds.cost_per_query_usd
    return _can_change(name, facts, thresholds)


def _can_change(name: str, facts: Facts, thresholds: Thresholds) -> bool:
    """Whether two answers to this leave other approaches possible."""
    from tunewise.advice.framework import alternatives

    seen = set()
    for value in alternatives(name, thresholds):
        other = replace(facts, **{name: value})
        if not any(True for _ in contradictions(other)):
            seen.add(possible(other, thresholds))
    return len(seen) > 1
