"""The five steps: facts -> the approach they point to, with the rule that said so.

A step fires on what is known. An unknown fact never makes a step fire and never counts as false where
that would speak for a heavier approach: see ``LIGHTEST_FIRST``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from tunewise.advice.facts import FREQUENT, NO_LIMIT, STATIC, Facts, contradictions

Approach = Literal["prompting", "rag", "fine-tuning", "rag+fine-tuning"]
APPROACHES: tuple[Approach, ...] = ("prompting", "rag", "fine-tuning", "rag+fine-tuning")  # light to heavy

STATIC_ROWS = 10_000  # labelled rows: above it, static knowledge is better learned than looked up
LATENCY_MS = 200.0  # below it, prompts with examples or passages in them are too slow
COST_PER_QUERY_USD = 0.001  # below it, long prompts or large models are too dear


@dataclass(frozen=True)
class Thresholds:
    """The framework's three numbers; each comparison is strict (more than, below)."""

    static_rows: int = STATIC_ROWS
    latency_ms: float = LATENCY_MS
    cost_per_query_usd: float = COST_PER_QUERY_USD


DEFAULT = Thresholds()


@dataclass(frozen=True)
class Rule:
    """One rule of the walk. ``id`` is stable; ``step``: 1 to 5, 0 for none of the five."""

    id: str
    step: int
    approach: Approach
    fires: Callable[[Facts, Thresholds], bool]
    says: str


def _gap_of_form(f: Facts) -> bool:
    return f.requires_specific_style is True or f.requires_specific_format is True


def _tight(f: Facts, t: Thresholds) -> bool:
    latency, cost = f.latency_budget_ms, f.cost_per_query_budget_usd
    return (latency is not None and latency < t.latency_ms) or (
        cost is not None and cost < t.cost_per_query_usd
    )


def _static_knowledge(f: Facts) -> bool:
    return f.requires_external_knowledge is True and f.knowledge_changes in STATIC


def _many_rows(f: Facts, t: Thresholds) -> bool:
    return f.dataset_size is not None and f.dataset_size > t.static_rows


def _untried(f: Facts) -> bool:
    """Nothing says that a prompt falls short."""
    return f.can_be_described_in_prompt is not False and f.prompting_meets_quality is None


PROMPT_MEETS = Rule(
    "step1_prompting",
    1,
    "prompting",
    lambda f, t: f.prompting_meets_quality is True,
    "It can be said in a prompt and the prompt meets the quality: the simplest way that works.",
)
KNOWLEDGE_CHANGES = Rule(
    "step2_changing_knowledge",
    2,
    "rag",
    lambda f, t: f.requires_external_knowledge is True and f.knowledge_changes in FREQUENT,
    "Knowledge is missing and it changes often: what is looked up stays current, what is trained in goes"
    " stale.",
)
STATIC_MANY = Rule(
    "step2_static_knowledge",
    2,
    "fine-tuning",
    lambda f, t: _static_knowledge(f) and _many_rows(f, t),
    "Knowledge is missing, it is static, and there are enough rows to train it into the weights.",
)
BOTH_GAPS = Rule(
    "both_gaps",
    0,
    "rag+fine-tuning",
    lambda f, t: (
        _static_knowledge(f)
        and not _many_rows(f, t)
        and _gap_of_form(f)
        and f.few_shot_meets_quality is not True
    ),
    "Two gaps: static knowledge with too few rows to train it in, which has to be looked up, and a style or"
    " format that examples in the prompt are not known to close, which has to be trained.",
)
FEW_SHOT_MEETS = Rule(
    "step3_few_shot",
    3,
    "prompting",
    lambda f, t: _gap_of_form(f) and f.few_shot_meets_quality is True,
    "The gap is style or format, and a few examples in the prompt close it.",
)
STYLE_OR_FORMAT = Rule(
    "step3_style_or_format",
    3,
    "fine-tuning",
    lambda f, t: _gap_of_form(f),
    "The gap is style or format, and examples in the prompt are not known to close it: form is learned by"
    " training.",
)
LATENCY_OR_COST = Rule(
    "step4_latency_or_cost",
    4,
    "fine-tuning",
    _tight,
    "The budget for one answer is tight: a smaller tuned model with a short prompt is faster and cheaper.",
)
LIGHTEST_FIRST_RAG = Rule(
    "lightest_first_rag",
    0,
    "rag",
    lambda f, t: (
        f.requires_external_knowledge is True
        and f.knowledge_changes is None
        and (f.few_shot_meets_quality is not True if _gap_of_form(f) else not _tight(f, t))
    ),
    "Knowledge is missing and nobody has said how fast it changes: looking it up is the lightest way that"
    " closes this gap at any rate.",
)
LIGHTEST_FIRST = Rule(
    "lightest_first",
    0,
    "prompting",
    lambda f, t: _untried(f) and f.requires_external_knowledge is not True,
    "No fact that is known speaks for more than a prompt, and no prompt was tried: start with the lightest.",
)
COMBINE = Rule(
    "step5_combine",
    5,
    "rag+fine-tuning",
    lambda f, t: True,
    "No single gap explains it: combine retrieval with a tuned model.",
)

WALK = (
    PROMPT_MEETS,
    KNOWLEDGE_CHANGES,
    STATIC_MANY,
    BOTH_GAPS,
    LIGHTEST_FIRST_RAG,
    FEW_SHOT_MEETS,
    STYLE_OR_FORMAT,
    LATENCY_OR_COST,
    LIGHTEST_FIRST,
    COMBINE,
)
LITERAL_WALK = tuple(rule for rule in WALK if rule.step)

# Why the answer is another than that of the plain walk, by the rule that gave it.
DIFFERENCES = {
    "both_gaps": "The plain walk stops at the first gap that asks for training and leaves the missing"
    " knowledge open; tuning on few rows teaches form, not facts, so retrieval stays beside it.",
    "lightest_first": "The plain walk reads what is unknown as no and ends at its last and heaviest step;"
    " without any evidence against a prompt the lightest approach comes first.",
    "lightest_first_rag": "The plain walk reads an unknown rate of change as neither fast nor static and"
    " goes on to a heavier answer; retrieval closes the gap of knowledge at any rate.",
    "step1_prompting": "The plain walk asks first whether the task can be said in a prompt, which is unknown;"
    " a prompt that meets the quality answers that.",
}


def decide_rule(facts: Facts, thresholds: Thresholds = DEFAULT) -> Rule:
    """The rule that fires first. Every combination of facts gives one."""
    return next(rule for rule in WALK if rule.fires(facts, thresholds))


def literal_rule(facts: Facts, thresholds: Thresholds = DEFAULT) -> Rule:
    """The rule that the plain five-step walk ends at, with unknown facts read as not true."""
    for rule in LITERAL_WALK:
        if rule is PROMPT_MEETS and facts.can_be_described_in_prompt is not True:
            continue
        if rule.fires(facts, thresholds):
            return rule
    raise AssertionError("the last rule always fires")


def alternatives(name: str, thresholds: Thresholds) -> tuple[Any, ...]:
    """Values of a fact that between them show every way in which the rules read it."""
    return {
        "knowledge_changes": ("never", "daily"),
        "dataset_size": (thresholds.static_rows, thresholds.static_rows + 1),
        "latency_budget_ms": (NO_LIMIT, thresholds.latency_ms / 2),
        "cost_per_query_budget_usd": (NO_LIMIT, thresholds.cost_per_query_usd / 2),
        "queries_per_day": (),
    }.get(name, (True, False))


@dataclass(frozen=True)
class Flip:
    """If ``fact`` were ``value``, the others as they are, ``rule`` would answer instead."""

    fact: str
    value: Any
    rule: Rule


def flips(facts: Facts, names: tuple[str, ...], thresholds: Thresholds = DEFAULT) -> Iterator[Flip]:
    """Single facts among ``names`` with a value at which the approach is another one."""
    now = decide_rule(facts, thresholds)
    for name in names:
        for value in alternatives(name, thresholds):
            other = replace(facts, **{name: value})
            if any(True for _ in contradictions(other)):
                continue
            rule = decide_rule(other, thresholds)
            if rule.approach != now.approach:
                yield Flip(name, value, rule)


def possible(facts: Facts, thresholds: Thresholds = DEFAULT) -> tuple[Approach, ...]:
    """The approaches that remain possible whatever the unknown facts turn out to be, light to heavy."""
    names = [name for name in facts.unknown() if alternatives(name, thresholds)]
    found = set()
    for values in product(*(alternatives(name, thresholds) for name in names)):
        whole = replace(facts, **dict(zip(names, values, strict=True)))
        if not any(True for _ in contradictions(whole)):
            found.add(decide_rule(whole, thresholds).approach)
    return tuple(approach for approach in APPROACHES if approach in found)
