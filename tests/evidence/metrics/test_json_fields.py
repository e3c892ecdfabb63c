"""``json_fields``: pairs counted by hand, and what is not JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score


def score(answer: str, *references: Any) -> Score:
    return METRICS["json_fields"].score(answer, references, MetricContext())


def test_invented_and_missing_keys_both_cost() -> None:
    right = {"name": "Ada", "city": "Rome", "age": 36}
    found = score('{"name": "Ada", "city": "Oslo", "age": 36, "vip": true}', right)
    assert found.value == pytest.approx(2 * 2 / (4 + 3))
    assert found.detail["field_recall"] == pytest.approx(2 / 3)
    assert found.detail["field_precision"] == pytest.approx(2 / 4)
    assert found.detail["repaired_value"] == found.value


def test_nested_values_are_pairs_by_path_and_arrays_have_no_order() -> None:
    right = {"to": {"city": "Rome"}, "items": [{"sku": 1, "n": 2}, {"sku": 3, "n": 4}]}
    answer = {"items": [{"n": 4, "sku": 3}, {"sku": 1, "n": 5}], "to": {"city": "Rome"}}
    assert score(json.dumps(answer), right).value == pytest.approx(2 * 4 / (5 + 5))
    assert score('{"city": "Rome"}', {"to": {"city": "Rome"}}).value == 0


def test_repeated_elements_count_as_often_as_they_stand() -> None:
    assert score("[1, 1, 1]", [1, 2]).value == pytest.approx(2 * 1 / (3 + 2))


@pytest.mark.parametrize(
    ("said", "right", "same"),
    [
        ("1", 1.0, True),
        ('"1"', 1, False),
        ("true", 1, False),
        ("null", "null", False),
        ("null", None, True),
        ('" Rome "', {"v": "Rome"}["v"], True),
        ('"rome"', "Rome", False),
        ('"Zu\\u0308rich"', "Zürich", True),
        ("{}", [], False),
        ("{}", {}, True),
        ("1e2", 100, True),
    ],
)
def test_leaves_are_compared_with_their_type(said: str, right: Any, same: bool) -> None:
    assert score(f'{{"v": {said}}}', {"v": right}).value == float(same)


def test_an_empty_object_is_a_pair_of_its_own() -> None:
    assert score("{}", {"a": 1}).value == 0
    assert score('{"a": {}, "b": 1}', {"a": {}, "b": 2}).value == pytest.approx(0.5)


def test_a_key_that_looks_like_an_array_is_not_one() -> None:
    assert score('{"[]": 1, "0": 1}', [1, 1]).value == 0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ('Here: {"a": 1}', "not JSON"),
        ('```json\n{"a": 1}\n```', "not JSON"),
        ('{"a": 1} done', "extra data"),
        ("{'a': 1}", "not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "beyond what a double holds"),
        ('{"a": 1, "a": 1}', "'a' stands twice"),
        ('{"a": "x\ny"}', "control character"),
        ('\ufeff{"a": 1}', "bom"),
        ("[" * 65 + "]" * 65, "deeper than 64"),
        ("[" * 100_000, "deeper than 64"),
        ('{"a":' * 100_000, "deeper than 64"),
        ("9" * 5000, "5000 digits"),
    ],
)
def test_what_is_not_json_and_nothing_but_json_is_unparseable(answer: str, why: str) -> None:
    found = score(answer, {"a": 1})
    assert (found.status, found.value, found.detail["field_recall"]) == ("unparseable", 0, 0)
    assert why in found.detail["why"]


def test_white_space_around_and_64_levels_are_json() -> None:
    assert score('\n {"a": 1}\t', {"a": 1}).value == 1
    assert score("[" * 64 + "]" * 64, {"a": 1}).status == "scored"


@pytest.mark.parametrize(
    "answer",
    [
        'Sure! Here it is:\n```json\n{"a": 1, "b": "}"}\n```\nAnything else?',
        'The object {x} is {"a": 1, "b": "}"}',
        '[1] {"a": 1, "b": "}"}{"a": 2}',
        '{"a": 1, "b": "}"} and so on',
    ],
)
def test_repair_cuts_the_json_out_of_the_prose(answer: str) -> None:
    found = score(answer, {"a": 1, "b": "}"})
    assert (found.status, found.value) == ("unparseable", 0)
    assert found.detail["repaired_value"] == 1


def test_repair_changes_nothing_in_the_json_itself() -> None:
    assert score("so: {'a': 1}", {"a": 1}).detail["repaired_value"] == 0
    assert score("no json here", {"a": 1}).detail["repaired_value"] == 0


def test_a_reference_that_is_json_text_is_read_as_json() -> None:
    assert score('{"a": 1}', '{"a": 1.0}').value == 1
    assert score('"plain words"', "plain words").value == 1


def test_the_best_reference_counts_for_value_and_recall() -> None:
    found = score('{"a": 1}', {"b": 2}, {"a": 1, "c": 3}, {"a": 1})
    assert (found.value, found.detail["field_recall"]) == (1, 1)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_every_json_value_equals_itself_written_out(value: Any) -> None:
    assert score(json.dumps(value), json.dumps(value)).value == 1


@given(values, values)
def test_f1_is_symmetric_and_swaps_recall_with_precision(one: Any, other: Any) -> None:
    there, back = score(json.dumps(one), [other]), score(json.dumps([other]), json.dumps(one))
    assert there.value == back.value
    assert there.detail["field_recall"] == back.detail["field_precision"]


def test_the_reason_names_the_fields_that_differ():
    said = '{"desk": "FIX", "item": "scale", "note": null, "tags": ["a"]}'
    right = {"desk": "BUY", "item": "scale", "cust": "C-1", "tags": ["a"]}
    found = METRICS["json_fields"].score(said, [right], MetricContext())
    assert found.detail["why"] == (
        "cust: 'C-1' was expected, but it is missing; desk: 'BUY' was expected, got 'FIX';"
        " note: not asked for"
    )
    assert "why" not in METRICS["json_fields"].score('{"a": 1}', [{"a": 1}], MetricContext()).detail
    many = METRICS["json_fields"].score("{}", [{str(n): n for n in range(9)}], MetricContext())
    assert many.detail["why"].endswith("; and 7 more")
