"""The facts file: what is accepted, and every mistake at once with its line."""

import math

import pytest

from tunewise.advice.facts import NAMES, Facts, read_facts
from tunewise.errors import TaskFileError, UserError


def read(tmp_path, text: str):
    path = tmp_path / "facts.yaml"
    path.write_text(text, encoding="utf-8")
    return read_facts(path)


def mistakes(tmp_path, text: str) -> list[str]:
    with pytest.raises(TaskFileError) as caught:
        read(tmp_path, text)
    assert isinstance(caught.value, UserError)
    assert "in the facts file" in str(caught.value)
    return list(caught.value.problems)


def test_the_facts_are_exactly_those_of_the_framework():
    assert NAMES == (
        "can_be_described_in_prompt",
        "prompting_meets_quality",
        "few_shot_meets_quality",
        "requires_external_knowledge",
        "knowledge_changes",
        "dataset_size",
        "requires_specific_style",
        "requires_specific_format",
        "latency_budget_ms",
        "cost_per_query_budget_usd",
        "queries_per_day",
    )


def test_each_kind_of_value_is_read_and_what_is_left_out_stays_unknown(tmp_path):
    facts = read(
        tmp_path,
        "prompting_meets_quality: false\nknowledge_changes: weekly\ndataset_size: 1e4\n"
        "latency_budget_ms: none\ncost_per_query_budget_usd: 0.0005\nrequires_specific_style: unknown\n",
    ).facts
    assert facts == Facts(
        prompting_meets_quality=False,
        knowledge_changes="weekly",
        dataset_size=10_000,
        latency_budget_ms=math.inf,
        cost_per_query_budget_usd=0.0005,
    )
    assert "requires_specific_style" in facts.unknown()
    assert facts.to_json()["latency_budget_ms"] == "none"
    assert facts.to_json()["queries_per_day"] == "unknown"


def test_all_mistakes_are_reported_at_once_each_with_line_and_key(tmp_path):
    said = mistakes(
        tmp_path,
        "requires_specific_style: yes\nknowledge_changes: dayly\ndataset_size: -3\n"
        "latency_budget_ms: true\ncan_be_described: true\ndomain: {tokens: 0, tokenz: 3}\n",
    )
    assert len(said) == 7
    assert said[0] == (
        "line 1: requires_specific_style: true, false or unknown was expected, got 'yes'; write true"
    )
    assert "did you mean 'daily'" in said[1]
    assert "0 or more" in said[2]
    assert "line 4: latency_budget_ms: a number" in said[3]
    assert "did you mean 'can_be_described_in_prompt'" in said[4]
    assert "domain.tokens: a number above 0" in said[5]
    assert "did you mean 'tokens'" in said[6]


def test_a_fraction_of_a_row_and_a_whole_file_of_another_kind_are_refused(tmp_path):
    assert "whole number" in mistakes(tmp_path, "dataset_size: 10.5\n")[0]
    assert "key: value" in mistakes(tmp_path, "- a\n- b\n")[0]


def test_the_frameworks_own_names_are_pointed_to_the_fact_that_says_them(tmp_path):
    assert "knowledge_changes: never" in mistakes(tmp_path, "knowledge_is_static: true\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        "can_be_described_in_prompt: false\nprompting_meets_quality: true\n",
        "prompting_meets_quality: true\n\ncan_be_described_in_prompt: false\n",
    ],
)
def test_facts_that_contradict_each_other_are_named_together_in_one_mistake(tmp_path, text):
    said = mistakes(tmp_path, text)
    assert len(said) == 1
    assert "can_be_described_in_prompt: false" in said[0]
    assert "prompting_meets_quality: true" in said[0]
    assert "lines 1, " in said[0]


def test_knowledge_that_is_static_and_daily_is_named_with_both_values(tmp_path):
    twice = mistakes(tmp_path, "knowledge_changes: never\nknowledge_changes: daily\n")
    assert twice == ["line 2: knowledge_changes: stands twice (first in line 1: never, here daily); keep one"]
    listed = mistakes(tmp_path, "knowledge_changes: [never, daily]\n")
    assert "never and daily contradict each other" in listed[0]
