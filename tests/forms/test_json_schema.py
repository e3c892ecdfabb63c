"""A compiled schema agrees with the official suite, never fetches, and says where and why."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.forms import OutputSpec, json_schema, json_time
from tunewise.forms.bounded import TookTooLong
from tunewise.forms.json_schema import JsonSchema

DATA = Path(__file__).parents[3] / "shared" / "data"
SUITE = DATA / "json_schema_test_suite" / "draft2020_12.jsonl"
BENCH = DATA / "json_schema_bench" / "schemas_with_instances.jsonl"
KNOWN = Path(__file__).with_name("json_schema_bench_known.json")
# Tests of the suite whose schema refers to documents of another host, by keyword and group.
ELSEWHERE = [
    ("dynamicRef", "strict-tree schema, guards against misspelled properties", 2),
    ("dynamicRef", "tests for implementation dynamic anchor and reference link", 3),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $defs first", 3),
    ("dynamicRef", "$ref and $dynamicAnchor are independent of order - $ref first", 3),
    ("dynamicRef", "$ref to $dynamicRef finds detached $dynamicAnchor", 2),
    ("refRemote", "remote ref", 2),
    ("refRemote", "fragment within remote ref", 2),
    ("refRemote", "anchor within remote ref", 2),
    ("refRemote", "ref within remote ref", 2),
    ("refRemote", "base URI change", 2),
    ("refRemote", "base URI change - change folder", 2),
    ("refRemote", "base URI change - change folder in subschema", 2),
    ("refRemote", "root ref in remote ref", 3),
    ("refRemote", "remote ref with ref to defs", 2),
    ("refRemote", "Location-independent identifier in remote ref", 2),
    ("refRemote", "retrieved nested refs resolve relative to their URI not $id", 2),
    ("refRemote", "remote HTTP ref with different $id", 2),
    ("refRemote", "remote HTTP ref with different URN $id", 2),
    ("refRemote", "remote HTTP ref with nested absolute ref", 2),
    ("refRemote", "$ref to $ref finds detached $anchor", 2),
    ("vocabulary", "schema that uses custom metaschema with with no validation vocabulary", 3),
    ("vocabulary", "ignore unrecognized optional vocabulary", 2),
]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.skipif(not SUITE.exists(), reason="the official test suite is not on this machine")
def test_the_official_suite_agrees_but_for_tests_that_need_other_documents(capsys):
    counts: Counter[str] = Counter()
    elsewhere: Counter[tuple[str, str]] = Counter()
    for line in SUITE.read_text(encoding="utf-8").splitlines():
        test = json.loads(line)
        try:
            schema = JsonSchema(test["schema"])
        except SettingError as refused:
            other = "never fetched" in str(refused) or "no dialect" in str(refused)
            counts["need other documents" if other else "refused"] += 1
            elsewhere[test["keyword"], test["group"]] += 1
            continue
        counts["agree" if schema.meets(test["data"]) == test["valid"] else "disagree"] += 1
    with capsys.disabled():
        print(f"\nofficial suite, draft 2020-12: {dict(counts)}")
    assert counts == {"agree": 1250, "need other documents": 49}
    assert elsewhere == {(keyword, group): n for keyword, group, n in ELSEWHERE}


@pytest.mark.skipif(not BENCH.exists(), reason="json_schema_bench is not on this machine")
def test_what_differs_from_the_marks_of_json_schema_bench_is_the_known_list():
    """Stored marks of 1,698 instances of 660 schemas; the list names the cause of every difference."""
    known = json.loads(KNOWN.read_text(encoding="utf-8"))
    listed = {
        (name, n): cause for cause, part in known.items() for name, ns in part["tests"].items() for n in ns
    }
    differ: dict[tuple[str, int], str] = {}
    total = 0
    for line in BENCH.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        total += len(row["tests"])
        differ.update({(row["id"], n): cause for n, cause in differences(row["schema"], row["tests"])})
    assert total == 1698
    assert {place: cause.split(" ")[0] for place, cause in listed.items()} == differ


def differences(schema: Any, tests: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Tests whose stored mark is not ours, as the first word of the known list's causes."""
    try:
        plain = JsonSchema(schema)
    except SettingError as refused:
        cause = "dangling" if "does not exist in this document" in str(refused) else "not known"
        return [(n, cause) for n in range(len(tests))]
    differ = [n for n, test in enumerate(tests) if plain.meets(test["data"]) != test["valid"]]
    if not differ:
        return []
    try:
        asserted = JsonSchema(schema, assert_format=True)
    except SettingError as refused:
        cause = "format" if "format 'uri-template' cannot be asserted" in str(refused) else "not known"
        return [(n, cause) for n in differ]
    same = [asserted.meets(tests[n]["data"]) == tests[n]["valid"] for n in differ]
    return [(n, "format" if agrees else "not known") for n, agrees in zip(differ, same, strict=True)]


def test_a_remote_reference_is_never_fetched():
    """A socket listens where the reference points; nothing ever connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        asked: list[Any] = []

        def listen() -> None:
            try:
                asked.append(server.accept())
            except TimeoutError:
                return

        listener = threading.Thread(target=listen)
        listener.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for schema in ({"$ref": url}, {"properties": {"a": {"$ref": url}}}, {"$schema": url}):
            with pytest.raises(SettingError, match=r"never fetched|no dialect"):
                JsonSchema(schema)
        with pytest.raises(SettingError, match=r"copy what it names into this schema's \$defs"):
            JsonSchema({"$id": url, "$ref": "other.json"})
        listener.join()
        assert asked == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strng"}, "invalid schema at /type"),
        ({"properties": {"a": {"minimum": "1"}}}, "invalid schema at /properties/a/minimum: expected number"),
        ({"required": "a"}, "invalid schema at /required: expected array"),
        ({"$ref": "#/$defs/x"}, "does not exist in this document"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"properties": {"a": {"pattern": "("}}}, "pattern '\\(': not a regular expression"),
        ({"$schema": "https://example.org/mine"}, "no dialect known here"),
        ([], "a JSON Schema is an object"),
    ],
)
def test_an_invalid_schema_says_which_keyword_and_where(schema, words):
    with pytest.raises(SettingError, match=words):
        JsonSchema(schema)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "Ann"}, "the required field 'age' missing"),
        ({"name": "Ann", "age": "3"}, 'at /age: expected integer, got string "3"'),
        ({"name": "Ann", "age": -1}, "at /age: minimum 0, got integer -1"),
        ({"name": "Ann", "age": 1, "x": 2}, "field not allowed: 'x'"),
        ([], "expected object, got array of 0"),
    ],
)
def test_a_failure_says_where_and_why(value, words):
    assert JsonSchema(PERSON).why_not(value) == words


def test_dialects_that_the_schema_names_are_followed():
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True}
    assert not JsonSchema(old).meets(3)
    tuple_items = {"items": [{"type": "integer"}]}
    assert not JsonSchema({"$schema": "http://json-schema.org/draft-07/schema#", **tuple_items}).meets(["a"])
    with pytest.raises(SettingError, match="invalid schema at /items"):
        JsonSchema(tuple_items)  # draft 2020-12 calls it prefixItems


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^(a+)+$": False}},
        {"patternProperties": {"^(a+)+$": True}, "additionalProperties": False},
        {"patternProperties": {"^(a+)+$": True}, "unevaluatedProperties": False},
        {"allOf": [{"patternProperties": {"^(?=a)(a+)+$": True}}], "unevaluatedProperties": False},
        {"propertyNames": {"pattern": "^(?=a)(a+)+$"}},
        {"patternProperties": {"^(?=a)(a+)+$": False}},
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "patternProperties": {"^(?=a)(a+)+$": True},
            "unevaluatedProperties": False,
        },
    ],
)
def test_patterns_of_names_that_backtrack_without_end_are_bounded(schema):
    """By Python's own engine each name would take longer than the universe has been there."""
    value = {"a" * 60 + f"!{n}": 1 for n in range(20)}
    compiled = JsonSchema(schema)
    began = time.perf_counter()
    for check in (compiled.meets, compiled.why_not):
        with contextlib.suppress(TookTooLong):
            check(value)
    assert time.perf_counter() - began < 60  # seconds of work: 2 for each; the rest is for a busy machine


def test_many_names_just_within_the_limit_take_no_longer_than_one():
    slow = JsonSchema({"patternProperties": {"^(?=a)(a+)+$": False}})
    names = {"a" * 21 + f"!{n}": 1 for n in range(300)}  # well below a second each, minutes together
    with pytest.raises(TookTooLong, match="search took more than 2 s"):
        slow.meets(names)


def test_fields_that_nothing_evaluates_are_named():
    schema = {
        "$defs": {"named": {"properties": {"name": True}}},
        "$ref": "#/$defs/named",
        "if": {"required": ["kind"], "properties": {"kind": {"const": 1}}},
        "then": {"patternProperties": {"^x-": True}},
        "unevaluatedProperties": False,
    }
    made = JsonSchema(schema)
    assert made.meets({"name": 1, "kind": 1, "x-a": 2})
    assert made.why_not({"name": 1, "kind": 2, "x-a": 2}) == "field not allowed: 'kind', 'x-a'"


def test_format_is_a_remark_unless_it_is_asserted():
    schema = {"type": "string", "format": "date-time"}
    assert JsonSchema(schema).meets("soon")
    asserted = JsonSchema(schema, assert_format=True)
    assert asserted.meets("2024-02-29T10:00:00Z")
    assert not asserted.meets("2023-02-29T10:00:00Z")
    assert JsonSchema({"format": "colour-name"}, assert_format=True).meets("x")  # no standard format
    with pytest.raises(SettingError, match="format 'iri' cannot be asserted here"):
        JsonSchema({"format": "iri"}, assert_format=True)


@pytest.mark.parametrize("source", [r"^(a+)+$", r"^(?=a)(a+)+$", r"(x+x+)+(?!z)y"])
def test_a_catastrophic_pattern_does_not_hang(source):
    schema = JsonSchema({"pattern": source})
    started = time.perf_counter()
    try:
        found = schema.meets("a" * 40 + "x" * 40 + "!")
    except TookTooLong:
        found = False
    assert not found
    assert time.perf_counter() - started < 30


def test_numbers_of_any_size_are_compared_exactly():
    assert JsonSchema({"multipleOf": 0.1}).meets(0.3)
    assert not JsonSchema({"multipleOf": 0.5}).meets(0.25)
    assert JsonSchema({"multipleOf": 0.5}).meets(10**399)
    assert not JsonSchema({"uniqueItems": True}).meets([1, 1.0])
    assert JsonSchema({"uniqueItems": True}).meets([1, True, "1", [1], {"a": 1}])


def test_unique_items_take_linear_time():
    schema = JsonSchema({"uniqueItems": True})
    started = time.perf_counter()
    assert schema.meets([[{"a": number}, "x"] for number in range(50_000)])
    assert time.perf_counter() - started < 60  # comparing all pairs takes far longer, also alone on a machine


def counted(schema: Any, value: Any) -> tuple[int, int]:
    found = JsonSchema(schema).completeness(value)
    return found.present, found.required


def test_completeness_counts_required_fields_at_every_level():
    inner = {"type": "object", "required": ["x", "y"], "properties": {"x": {}, "y": {}}}
    schema = {"required": ["a", "b"], "properties": {"a": inner, "b": {"type": "integer"}, "c": inner}}
    assert counted(schema, {"a": {"x": 1}, "b": 2}) == (3, 4)
    assert counted(schema, {"b": 2}) == (1, 4)  # what an absent object would have to hold is absent too
    assert counted(schema, {"a": {"x": 1, "y": 1}, "b": 2, "c": {}}) == (4, 6)  # optional, but there
    assert counted(schema, "text") == (0, 4)
    assert counted({"type": "array", "items": inner}, [{"x": 1}, {"x": 1, "y": 2}]) == (3, 4)
    assert counted({"required": []}, {}) == (0, 0)


def test_an_array_has_none_of_the_fields_of_an_object_that_alone_may_stand_there():
    schema = {"type": "object", "required": ["a", "b"], "properties": {"a": {}, "b": {}}}
    assert counted(schema, [1]) == counted(schema, "text") == (0, 2)
    assert counted({"allOf": [{"type": ["object", "null"]}, {"required": ["a"]}]}, []) == (0, 1)
    assert counted({"required": ["a"]}, [1]) == (0, 0)  # without a type an array may stand there
    assert counted({"type": ["object", "array"], "required": ["a"]}, [1]) == (0, 0)
    assert counted({"required": ["x"], "properties": {"x": schema}}, {"x": [1]}) == (1, 3)


def test_completeness_follows_references_and_ends_on_recursive_schemas():
    node = {"required": ["next"], "properties": {"next": {"$ref": "#"}}}
    assert counted(node, {}) == (0, 1)
    assert counted(node, {"next": {}}) == (1, 2)
    both = {"allOf": [{"required": ["a"]}, {"$ref": "#/$defs/more"}], "$defs": {"more": {"required": ["b"]}}}
    assert counted(both, {"b": 1}) == (1, 2)


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {"type": "array", "items": {"type": "number", "minimum": 1}, "minItems": 1},
        {"type": "object", "additionalProperties": {"type": ["null", "string"]}},
        {"type": "string", "pattern": "^a+$", "maxLength": 3},
        {"enum": ["a", "b"]},
        {"type": "null"},
        {"type": "boolean"},
    ],
)
def test_the_quick_yes_never_says_more_than_the_validator(schema):
    compiled = JsonSchema(schema)
    values = [None, True, 1, 1.0, 0, -1, "a", "aaaa", "b", [], [1], [0], ["a"], {}, {"a": None}, {"a": 1}]
    values += [{"name": "x", "age": 3}, {"name": "x", "age": -3}, {"name": "x", "age": True}, {"name": "x"}]
    for value in values:
        assert compiled.meets(value) == compiled._validator.is_valid(value)


def nested(depth: int, leaf: object) -> object:
    for _ in range(depth):
        leaf = {"op": "not", "arg": leaf}
    return leaf


def kind(op: str) -> dict[str, object]:
    inner = {"arg": {"$ref": "#/$defs/e"}, "op": {"const": op}}
    return {"type": "object", "properties": inner, "required": ["arg", "op"]}


EXPRESSION = {"$defs": {"e": {"oneOf": [kind("not"), kind("neg"), {"type": "string"}]}}, "$ref": "#/$defs/e"}


@pytest.fixture
def little_time(monkeypatch):
    short = json_time.in_time
    monkeypatch.setattr(json_schema, "in_time", lambda seconds=0.5: short(min(seconds, 0.5)))


@pytest.mark.parametrize("leaf", ["x", 3])
def test_alternatives_that_refer_to_themselves_are_cut_off_and_never_hang(little_time, leaf):
    schema = JsonSchema(EXPRESSION)
    assert schema.meets(nested(3, "x"))
    assert not schema.meets(nested(3, 3))
    found = METRICS["json_schema"].score(  # 2^60 steps
        json.dumps(nested(60, leaf)), [], MetricContext(output=OutputSpec(json_schema=schema))
    )
    assert (found.status, found.value) == ("errored", None)
    assert "refers to itself in alternatives" in found.detail["why"]


def test_fields_that_are_required_twice_at_every_level_are_not_counted_without_end(little_time):
    again = {"properties": {"arg": {"$ref": "#/$defs/n"}}}
    schema = JsonSchema({"$defs": {"n": {"required": ["arg"], "allOf": [again, again]}}, "$ref": "#/$defs/n"})
    with pytest.raises(TookTooLong):
        schema.completeness(nested(60, {}))


def test_strings_whose_pattern_backtracks_share_one_limit_in_an_array():
    schema = JsonSchema({"type": "array", "items": {"type": "string", "pattern": "^(?!(a+)+$)"}})
    started = time.monotonic()
    with pytest.raises(TookTooLong):
        schema.meets(["a" * 20 + "!"] * 500)  # all match, and each search alone stays within the limit of one
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"properties": {"a": {}}, "properties": {"b": {}}}', "the key 'properties' stands twice"),
        ('{"minimum": NaN}', "NaN is no JSON number"),
        ('{"type": "obj"}', "invalid schema at /type: expected one of the JSON types array, boolean"),
    ],
)
def test_a_schema_file_that_would_be_read_as_another_schema_is_refused(tmp_path, text, words):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SettingError, match=words):
        JsonSchema.read(tmp_path / "s.json")
