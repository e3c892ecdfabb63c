"""The walk over the whole space of facts: against a transcription of its own, monotone, and never silent."""

from dataclasses import replace
from itertools import product

import pytest

from tunewise.advice.facts import CHANGES, NO_LIMIT, Facts, contradictions
from tunewise.advice.framework import (
    APPROACHES,
    DIFFERENCES,
    WALK,
    Thresholds,
    decide_rule,
    flips,
    literal_rule,
    possible,
)

THREE = (None, True, False)
BOOLEANS = (
    "can_be_described_in_prompt",
    "prompting_meets_quality",
    "few_shot_meets_quality",
    "requires_external_knowledge",
    "requires_specific_style",
    "requires_specific_format",
)
VALUES = {
    **dict.fromkeys(BOOLEANS, THREE),
    "knowledge_changes": (None, *CHANGES),
    "dataset_size": (None, 10_000, 10_001),
    "latency_budget_ms": (None, NO_LIMIT, 200.0, 199.9),
    "cost_per_query_budget_usd": (None, NO_LIMIT, 0.001, 0.0009),
}


def contradict(facts: Facts) -> bool:
    return any(True for _ in contradictions(facts))


def space(**narrowed):
    """Every combination of facts that does not contradict itself."""
    values = {**VALUES, **narrowed}
    for combination in product(*values.values()):
        facts = Facts(**dict(zip(values, combination, strict=True)))
        if not contradict(facts):
            yield facts


SMALL = {
    "can_be_described_in_prompt": (None, True),
    "knowledge_changes": (None, "never", "daily"),
    "dataset_size": (None, 10_000, 10_001),
    "latency_budget_ms": (None, NO_LIMIT, 100.0),
    "cost_per_query_budget_usd": (None, 0.0001),
}


def walk_on_paper(f: Facts) -> str:
    """The five steps, written down once more; what is unknown is not true."""
    latency = f.latency_budget_ms if f.latency_budget_ms is not None else 1e9
    cost = f.cost_per_query_budget_usd if f.cost_per_query_budget_usd is not None else 1e9
    if f.can_be_described_in_prompt and f.prompting_meets_quality:
        return "prompting"
    if f.requires_external_knowledge:
        if f.knowledge_changes in ("monthly", "weekly", "daily"):
            return "rag"
        if f.knowledge_changes in ("never", "yearly") and (f.dataset_size or 0) > 10_000:
            return "fine-tuning"
    if f.requires_specific_style or f.requires_specific_format:
        return "prompting" if f.few_shot_meets_quality else "fine-tuning"
    if latency < 200 or cost < 0.001:
        return "fine-tuning"
    return "rag+fine-tuning"


def test_the_literal_walk_equals_its_transcription_and_every_difference_has_a_reason():
    seen = set()
    for facts in space():
        literal, rule = literal_rule(facts), decide_rule(facts)
        assert literal.approach == walk_on_paper(facts), facts
        assert rule.approach in APPROACHES
        if literal.id != rule.id:
            assert rule.id in DIFFERENCES, (facts, rule.id)
        seen.add(rule.id)
    assert seen == {rule.id for rule in WALK}, "a rule that never fires is no rule"


def test_the_answer_differs_from_the_literal_walk_only_by_both_gaps_when_all_is_known():
    known = dict.fromkeys(BOOLEANS, (True, False)) | {
        "knowledge_changes": CHANGES,
        "dataset_size": (10_000, 10_001),
        "latency_budget_ms": (NO_LIMIT, 100.0),
        "cost_per_query_budget_usd": (NO_LIMIT, 0.0001),
    }
    for facts in space(**known):
        rule, literal = decide_rule(facts), literal_rule(facts)
        if rule.approach == literal.approach:
            continue
        assert rule.id == "both_gaps"
        assert facts.requires_external_knowledge
        assert facts.knowledge_changes in ("never", "yearly")
        assert facts.dataset_size <= 10_000
        assert facts.requires_specific_style or facts.requires_specific_format
        assert not facts.few_shot_meets_quality


def weight(facts: Facts) -> int:
    return APPROACHES.index(decide_rule(facts).approach)


def test_a_prompt_that_meets_always_ends_the_search():
    for facts in space(prompting_meets_quality=(True,)):
        assert decide_rule(facts).id == "step1_prompting"


def test_few_shot_that_meets_never_makes_the_answer_heavier():
    for facts in space(few_shot_meets_quality=(False,), **SMALL):
        assert weight(replace(facts, few_shot_meets_quality=True)) <= weight(facts)


def test_a_tighter_budget_never_leads_away_from_tuning():
    for facts in space(**SMALL | {"latency_budget_ms": (NO_LIMIT,)}):
        if decide_rule(facts).approach == "fine-tuning":
            assert decide_rule(replace(facts, latency_budget_ms=50.0)).approach == "fine-tuning"


def test_knowledge_that_changes_often_is_never_answered_by_tuning_alone():
    for facts in space(requires_external_knowledge=(True,), knowledge_changes=("monthly", "weekly", "daily")):
        assert decide_rule(facts).approach in ("prompting", "rag")


def test_no_fact_at_all_gives_the_lightest_approach_not_the_heaviest():
    assert decide_rule(Facts()).id == "lightest_first"
    assert literal_rule(Facts()).approach == "rag+fine-tuning"


def test_the_heaviest_answer_by_exclusion_needs_a_prompt_known_to_fall_short_or_a_known_gap():
    for facts in space(**SMALL):
        if decide_rule(facts).id == "step5_combine":
            assert (
                facts.prompting_meets_quality is False
                or facts.can_be_described_in_prompt is False
                or facts.requires_external_knowledge is True
            )


def test_the_unknown_facts_said_to_matter_do_and_the_others_do_not():
    narrow = SMALL | {"can_be_described_in_prompt": (None, True), "requires_specific_format": (None, False)}
    for facts in space(**narrow):
        unknown = facts.unknown()
        matter = {flip.fact for flip in flips(facts, unknown)}
        now = decide_rule(facts).approach
        for name in unknown:
            values = VALUES.get(name, (None,))[1:]
            others = [replace(facts, **{name: value}) for value in values]
            changed = {decide_rule(o).approach for o in others if not contradict(o)} - {now}
            assert bool(changed) == (name in matter), (facts, name)


def test_what_remains_possible_holds_the_answer_and_shrinks_with_knowledge():
    """But where examples are known to meet: then the answer may be lighter than all that remains."""
    narrow = SMALL | {
        "can_be_described_in_prompt": (None,),
        "requires_specific_format": (None, True),
        "cost_per_query_budget_usd": (NO_LIMIT,),
        "requires_specific_style": (None, False),
    }
    for facts in space(**narrow):
        left = set(possible(facts))
        rule = decide_rule(facts)
        assert rule.approach in left or rule.id == "step3_few_shot", facts
        more = replace(facts, requires_specific_style=True)
        if facts.requires_specific_style is None:
            assert set(possible(more)) <= left


@pytest.mark.parametrize(
    ("facts", "approach", "rule"),
    [
        ({"knowledge_changes": "monthly"}, "rag", "step2_changing_knowledge"),
        ({"knowledge_changes": "yearly", "dataset_size": 10_001}, "fine-tuning", "step2_static_knowledge"),
        (
            {"knowledge_changes": "yearly", "dataset_size": 10_000, "requires_specific_style": True},
            "rag+fine-tuning",
            "both_gaps",
        ),
        (
            {"knowledge_changes": "never", "dataset_size": 10_000, "requires_specific_style": False},
            "rag+fine-tuning",
            "step5_combine",
        ),
    ],
)
def test_missing_knowledge_is_decided_as_the_thresholds_say(facts, approach, rule):
    given = Facts(
        can_be_described_in_prompt=True,
        prompting_meets_quality=False,
        few_shot_meets_quality=False,
        requires_external_knowledge=True,
        **facts,
    )
    assert (decide_rule(given).approach, decide_rule(given).id) == (approach, rule)


def test_the_thresholds_can_be_overridden_and_are_strict():
    facts = Facts(prompting_meets_quality=False, latency_budget_ms=200)
    assert decide_rule(facts).id == "step5_combine"
    assert decide_rule(facts, Thresholds(latency_ms=201)).id == "step4_latency_or_cost"
    known = Facts(requires_external_knowledge=True, knowledge_changes="never", dataset_size=501)
    assert decide_rule(known, Thresholds(static_rows=500)).id == "step2_static_knowledge"
