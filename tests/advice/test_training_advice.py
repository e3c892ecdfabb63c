"""Stage and method of training, and the warnings: each rule by a case that makes it hold."""

import math

import pytest

import tunewise
from tunewise.advice.facts import Domain, Facts, Tuning
from tunewise.advice.methods import advise_method
from tunewise.advice.stages import advise_stage
from tunewise.advice.warnings import all_right_proves

FOREIGN = {
    "tokens_per_word": 2.0,
    "general_tokens_per_word": 1.3,
    "perplexity": 40.0,
    "general_perplexity": 20.0,
}
KNOWN = {**FOREIGN, "tokens_per_word": 1.35, "perplexity": 21.0}


@pytest.mark.parametrize(
    ("facts", "domain", "stage", "rule"),
    [
        ({"dataset_size": 5000}, {}, "instruction tuning", "pairs_only"),
        ({"dataset_size": 5000}, {"tokens": 1e5}, "instruction tuning", "pairs_only"),
        ({"dataset_size": 50}, {"tokens": 1e7}, "continual pre-training", "raw_text_only"),
        ({"dataset_size": 5000}, {"tokens": 1e7}, "both", "two_stages"),
        ({"dataset_size": 5000}, {"tokens": 1e7, **FOREIGN}, "both", "two_stages"),
        ({"dataset_size": 5000}, {"tokens": 1e7, **KNOWN}, "instruction tuning", "domain_is_familiar"),
    ],
)
def test_the_stage_follows_kind_and_amount_of_data_and_how_foreign_it_is(facts, domain, stage, rule):
    found = advise_stage(Facts(**facts), Domain(**domain), tunes=True)
    assert (found.stage, found.rule) == (stage, rule)


def test_unmeasured_familiarity_is_said_and_measured_one_is_shown():
    open_still = advise_stage(Facts(dataset_size=5000), Domain(tokens=1e7), tunes=True)
    assert "Measure tokens per word" in open_still.why
    measured = advise_stage(Facts(dataset_size=5000), Domain(tokens=1e7, **FOREIGN), tunes=True)
    assert "1.54x" in measured.signs[0]
    assert "2.00x" in measured.signs[1]
    assert advise_stage(Facts(), Domain(), tunes=False).stage is None


@pytest.mark.parametrize(
    ("facts", "tuning", "method", "rule"),
    [
        ({}, {}, "lora", "lora_by_default"),
        ({}, {"tasks_served": 4, "quality_ceiling": True}, "lora", "many_tasks"),
        ({}, {"keep_general": True, "quality_ceiling": True}, "lora", "keep_general"),
        ({"dataset_size": 20_000}, {"quality_ceiling": True}, "full", "quality_ceiling"),
        ({"dataset_size": 500}, {"quality_ceiling": True}, "lora", "too_few_rows_for_full"),
        (
            {"dataset_size": 20_000},
            {"quality_ceiling": True, "memory_gib": 24, "needs_gib": {"full": 120, "lora": 20, "qlora": 9}},
            "lora",
            "full_does_not_fit",
        ),
        ({}, {"memory_gib": 12, "needs_gib": {"full": 120, "lora": 20, "qlora": 9}}, "qlora", "memory"),
        ({}, {"memory_gib": 6, "needs_gib": {"full": 120, "lora": 20, "qlora": 9}}, "qlora", "nothing_fits"),
    ],
)
def test_the_method_follows_memory_tasks_forgetting_and_ceiling(facts, tuning, method, rule):
    found = advise_method(Facts(**facts), Tuning(**tuning), tunes=True)
    assert (found.method, found.rule) == (method, rule)


STYLE = {"requires_specific_style": True, "few_shot_meets_quality": False, "prompting_meets_quality": False}


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({**STYLE, "dataset_size": 200}, "too_few_rows_to_tune"),
        ({**STYLE, "dataset_size": 60}, "certification_too_small"),
        (
            {**STYLE, "domain": {"tokens": 5e6, "instruct_model": True}, "dataset_size": 2000},
            "instruct_start_of_pretraining",
        ),
        (
            {**STYLE, "few_shot_meets_quality": True, "requires_specific_style": False},
            "few_shot_already_meets",
        ),
        ({"requires_external_knowledge": False, "knowledge_changes": "daily"}, "change_without_need"),
        ({"prompting_meets_quality": False}, "rests_on_exclusion"),
        (
            {"requires_external_knowledge": True, "knowledge_changes": "daily", "latency_budget_ms": 100},
            "lookup_against_latency",
        ),
        (
            {"cost_per_query_budget_usd": 0.0001, "queries_per_day": 20},
            "volume_pays_nothing",
        ),
    ],
)
def test_each_warning_is_given_where_it_applies_and_not_on_facts_without_it(facts, rule):
    assert rule in tunewise.advise(facts=facts).to_json()["warning_rules"]
    assert rule not in tunewise.advise(facts={"prompting_meets_quality": True}).to_json()["warning_rules"]


def test_what_a_perfect_score_proves_is_the_exact_binomial_bound():
    scipy_stats = pytest.importorskip("scipy.stats")
    for items in (5, 21, 100):
        bound = scipy_stats.beta.ppf(0.005, items, 1)
        assert math.isclose(all_right_proves(items), bound, rel_tol=1e-9)
    assert all_right_proves(0) == 0.0


def test_a_named_model_brings_estimates_and_its_memory_decides_the_method():
    facts = {**STYLE, "dataset_size": 3000, "tuning": {"memory_gib": 12}}
    plain = tunewise.advise(facts=facts, model="meta-llama/Llama-3.1-8B").to_json()
    assert plain["method"]["advice"] == "qlora"
    low, high = plain["estimates"]["lora"]["memory_gib"]
    assert 10 < low < high < 40


@pytest.mark.model
def test_general_text_is_more_familiar_to_the_embedded_model_than_shuffled_words():
    from tunewise.advice.general_text import GENERAL_TEXT
    from tunewise.models.familiarity import familiarity

    words = GENERAL_TEXT.split()
    mixed = " ".join(words[place * 61 % len(words)] for place in range(len(words)))
    plain, shuffled = familiarity("embedded", [GENERAL_TEXT]), familiarity("embedded", [mixed])
    assert 1.0 < plain.tokens_per_word < 1.6
    assert shuffled.perplexity > 5 * plain.perplexity
