"""``json_schema``: raw first, then extracted, then repaired; and the figures of many answers."""

import pytest

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score
from tunewise.forms import OutputSpec
from tunewise.forms.json_schema import JsonSchema

SCHEMA = {
    "type": "object",
    "properties": {"queue": {"enum": ["billing", "sales"]}, "urgent": {"type": "boolean"}},
    "required": ["queue", "urgent"],
}
RIGHT = {"queue": "billing", "urgent": True}


def score(answer: str, *references, schema=SCHEMA) -> Score:
    context = MetricContext(output=OutputSpec(json_schema=JsonSchema(schema)))
    return METRICS["json_schema"].score(answer, references, context)


def figures(found: Score) -> tuple:
    return found.status, found.value, found.detail["extracted_value"], found.detail["repaired_value"]


def test_a_compliant_answer_needs_no_mending():
    found = score('{"queue": "sales", "urgent": true}', RIGHT)
    assert figures(found) == ("scored", 1, 1, 1)
    assert found.detail["completeness"] == 1
    assert found.detail["field_correctness"] == pytest.approx(0.5)
    assert "why" not in found.detail


@pytest.mark.parametrize(
    "answer",
    ['Sure: {"queue": "sales", "urgent": true}', '```json\n{"queue": "sales", "urgent": true}\n```\nDone.'],
)
def test_json_within_prose_or_a_fence_counts_only_after_extraction(answer):
    found = score(answer)
    assert figures(found) == ("unparseable", 0, 1, 1)
    assert "not JSON" in found.detail["why"]


@pytest.mark.parametrize(
    "answer",
    [
        "{'queue': 'sales', 'urgent': True}",
        '{"queue": "sales", "urgent": true',
        '```json\n{"queue": "sales", "urgent": true,}\n```',
    ],
)
def test_broken_json_counts_only_after_repair(answer):
    assert figures(score(answer)) == ("unparseable", 0, 0, 1)


def test_repair_does_not_make_json_of_prose_or_a_wrong_value_right():
    assert figures(score("queue sales, urgent")) == ("unparseable", 0, 0, 0)
    assert figures(score('{"queue": "post", "urgent": true}')) == ("scored", 0, 0, 0)


def test_a_missing_field_is_counted_and_named():
    found = score('{"queue": "sales"}')
    assert figures(found) == ("scored", 0, 0, 0)
    assert (found.detail["completeness"], found.detail["valid_json"]) == (0.5, 1)
    assert found.detail["why"] == "the required field 'urgent' missing"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ('{"a": 1, "a": 1}', "the key 'a' stands twice"),
        ("1e999", "beyond what a double holds"),
        ("1" * 500, "a whole number of 500 digits"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
        ("", "the answer is empty"),
        ("{} {}", "extra data"),
        ("\ufeff{}", "not JSON"),
    ],
)
def test_what_is_no_json_is_decided(answer, why):
    found = score(answer, schema=True)
    assert found.status == "unparseable"
    assert why in found.detail["why"]


@pytest.mark.parametrize("answer", ["[]", "3", '"text"', "null", "true", " {} \n"])
def test_any_json_value_may_stand_at_the_top(answer):
    assert score(answer, schema=True).value == 1
    assert score(answer, schema={"required": []}).detail["completeness"] is None


def test_a_missing_schema_is_the_users_mistake():
    with pytest.raises(SettingError, match=r"output\.json_schema"):
        METRICS["json_schema"].score("{}", [], MetricContext())


def test_the_summary_counts_and_means():
    answers = [
        '{"queue": "sales", "urgent": true}',
        '{"queue": "sales"}',
        'It is {"queue": "sales", "urgent": false}.',
        "no",
    ]
    scores = [score(a) for a in answers] + [Score("errored", None), Score("refused", 0.0)]
    summary = METRICS["json_schema"].summary
    assert summary is not None
    found = summary(scores)
    assert {name: found[name] for name in ("total", "valid_json", "schema_compliant")} == {
        "total": 5,
        "valid_json": 2,
        "schema_compliant": 1,
    }
    assert found["json_rate"] == pytest.approx(2 / 5)
    assert found["compliance_rate"] == pytest.approx(1 / 5)
    assert found["avg_completeness"] == pytest.approx((1 + 0.5 + 0 + 0 + 0) / 5)
    assert found["extracted_rate"] == found["repaired_rate"] == pytest.approx(2 / 5)
    assert found["avg_field_correctness"] is None


def test_the_summary_of_nothing_has_no_rates():
    summary = METRICS["json_schema"].summary
    assert summary is not None
    assert summary([]) == {"total": 0, "valid_json": 0, "schema_compliant": 0} | dict.fromkeys(
        (
            "json_rate",
            "compliance_rate",
            "avg_completeness",
            "extracted_rate",
            "repaired_rate",
            "avg_field_correctness",
        )
    )


def test_refusals_alone_have_rates_of_0_and_not_none():
    found = METRICS["json_schema"].summary([Score("refused", 0.0, {"why": "refused"})] * 3)
    assert (found["total"], found["json_rate"], found["compliance_rate"]) == (3, 0.0, 0.0)
    assert found["avg_field_correctness"] is None  # whether there were references is not known
