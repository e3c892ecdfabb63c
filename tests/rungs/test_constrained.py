"""The constrained rung: the best prompt so far with a grammar, and its figure beside every other rung."""

import json
from dataclasses import replace

import pytest

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.forms.bounded import TookTooLong
from tunewise.ladder import NotBuilt
from tunewise.models.door import Answer, Grammar
from tunewise.rungs.constrained import TIMED, Constrained, constrained_beside
from tunewise.rungs.few_shot import FewShot
from tunewise.rungs.grammars import breaks, grammar_of, in_order, no_grammar, separators
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.saved import load_candidate
from tunewise.rungs.zero_shot import ZeroShot
from tunewise.task_output import Output

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"properties": {"x": {}, "y": {}}}, "z": {}},
    "required": ["a"],
}
ANSWER = '{"b": {"y": 1, "x": 2}, "a": 1}'


@pytest.fixture
def output(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    return Output.model_validate({"json_schema": str(tmp_path / "s.json")})


@pytest.fixture
def bench(make_bench, make_row, output):
    """A door that writes prose unless it is held to a grammar; shots help it, grammars more."""

    def make(ignores: bool = False, errors: bool = False, host: str | None = None):
        made = make_bench(
            lambda messages: "prose" if len(messages) <= 2 else "p " + ANSWER,
            train=[make_row(f"row {n}", ANSWER) for n in range(12)],
            selection=[make_row(f"item {n}", ANSWER) for n in range(40)],
            output=output,
        )
        inner = made.door.answer

        def answer(requests):
            held = [request.grammar is not None for request in requests]
            found = inner(requests)
            if errors and any(held):
                return [Answer("", status="errored", error="HTTP 400: no such option")]
            return [
                Answer(ANSWER, tokens_out=9, seconds=0.5) if grammar and not ignores else old
                for grammar, old in zip(held, found, strict=True)
            ]

        made.door.answer = answer
        made.door.grammars = frozenset({"json_schema"})
        made.door.host = host
        return made

    return make


def test_the_grammar_follows_the_key_order_and_the_separators_of_the_rows(bench):
    grammar = grammar_of(bench())
    assert grammar.separators == (", ", ": ")
    made = json.loads(grammar.source)
    assert list(made["properties"]) == ["b", "a", "z"]
    assert list(made["properties"]["b"]["properties"]) == ["y", "x"]
    assert separators(['{"a":1,"b":2}']) == (",", ":")
    assert separators(['{"a":1}', '{"a": 1}']) is None
    items = {"items": {"properties": {"p": {}, "q": {}}}}
    assert list(in_order(items, ['[{"q": 1, "p": 2}]'])["items"]["properties"]) == ["q", "p"]


def test_it_takes_the_best_prompt_rung_and_says_what_the_grammar_gave(bench, monkeypatch):
    made = bench()
    built = {"zero-shot": ZeroShot().build(made), "few-shot": FewShot().build(made)}
    scores = {"few-shot": 0.5}
    found = Constrained().build(replace(made, built=built, selected=scores))
    facts = found.facts()
    assert (found.rung, facts["prompt_of"], facts["grammar"]) == ("constrained", "few-shot", "json_schema")
    assert facts["raw_selection_scores"] == {"zero-shot": 0.0, "few-shot": 0.5}
    assert (facts["selection_score"], facts["selection_items"]) == (1.0, 40)
    assert facts["tokens_per_second"]["constrained"] == pytest.approx(9 / 0.5)
    assert found.layout.shots == built["few-shot"].layout.shots


def test_alone_it_stands_on_the_bare_prompt(bench):
    facts = Constrained().build(bench()).facts()
    assert facts["prompt_of"] == "zero-shot"
    assert facts["selection_score"] == 1.0


def test_it_is_saved_and_loaded_with_its_grammar(bench, tmp_path, make_row):
    made = bench()
    candidate = Constrained().build(made)
    candidate.save(tmp_path / "saved")
    again = load_candidate(tmp_path / "saved", lambda adapter: made.door)
    assert again.request(make_row("new")) == candidate.request(make_row("new"))
    assert again.layout.grammar == grammar_of(made)


def test_it_is_skipped_with_a_reason_where_no_grammar_can_be_made(bench, make_bench, make_row):
    plain = make_bench(lambda messages: "x", selection=[make_row("i")])
    assert "declares no form" in Constrained().cannot_help(plain)
    made = bench()
    made.door.grammars = frozenset({"regex"})
    assert "only to regex, and the task declares json_schema" in no_grammar(made, made.door)


def test_an_endpoint_that_refuses_the_grammar_is_asked_once_and_skipped_with_its_words(bench):
    refusing = bench(errors=True, host="example.org")
    assert Constrained().cannot_help(refusing) is None  # asks nothing, whether it is needed or not
    with pytest.raises(NotBuilt, match="does not take response_format: HTTP 400"):
        Constrained().build(refusing)
    beside = constrained_beside(refusing, PromptCandidate("zero-shot", refusing.door, layout_of(refusing)))
    assert "does not take response_format: HTTP 400" in beside["skipped_because"]
    assert sum(request.grammar is not None for request in refusing.ask.__self__.sent) == 1


def test_an_endpoint_that_ignores_the_grammar_is_noticed(bench):
    made = bench(ignores=True, host="example.org")
    beside = constrained_beside(made, PromptCandidate("zero-shot", made.door, layout_of(made)))
    assert (beside["n"], beside["raw"], beside["constrained"], beside["broke_grammar"]) == (30, 0, 0, 30)
    assert "took response_format and ignored it: 30 of 30 answers break the grammar" in beside["notes"][0]


def test_the_constrained_figure_stands_beside_the_raw_one(bench):
    made = bench()
    beside = constrained_beside(made, PromptCandidate("zero-shot", made.door, layout_of(made)))
    assert (beside["raw"], beside["constrained"], beside["broke_grammar"]) == (0, 1, 0)
    assert beside["notes"] == []


def test_what_stands_in_the_form_is_told_beside_the_form(bench, output):
    made = bench()
    task = made.task.model_copy(update={"metric": "json_schema"})
    context = MetricContext(output=output.spec())

    def score(example, answer):
        return METRICS["json_schema"].score(answer.text, example.references, context)

    made = replace(made, task=task, score=score)
    beside = constrained_beside(made, PromptCandidate("zero-shot", made.door, layout_of(made)))
    assert beside["figures"]["raw"]["avg_field_correctness"] == 0.0
    assert beside["figures"]["constrained"]["avg_field_correctness"] == 1.0


def test_the_grammar_is_timed_on_the_same_prompts_in_a_batch_of_their_own(bench):
    made = bench()
    asked = []
    inner = made.ask

    def ask(door, requests, purpose):
        asked.append((purpose, [request.messages for request in requests]))
        return inner(door, requests, purpose)

    found = Constrained().build(replace(made, ask=ask)).facts()
    free, held = [messages for purpose, messages in asked if purpose == "timing"]
    assert free == held
    assert len(free) == TIMED
    assert found["beside"]["tokens_per_second"] == found["tokens_per_second"]
    assert len(made.ask.__self__.sent) == Constrained().outlook(made).build_calls


@pytest.mark.parametrize(
    ("grammar", "text", "broken"),
    [
        (Grammar("choices", '["a", "b"]'), "a\n", False),
        (Grammar("choices", '["a", "b"]'), "A", True),
        (Grammar("regex", "a+"), "aa", False),
        (Grammar("regex", "a+"), "aab", True),
        (Grammar("json_schema", json.dumps(SCHEMA)), '{"a": 1}', False),
        (Grammar("json_schema", json.dumps(SCHEMA)), "a: 1", True),
    ],
)
def test_broken_grammars_are_seen(grammar, text, broken):
    assert breaks(grammar, Answer(text)) == broken
    assert not breaks(grammar, Answer(text, finish="length"))  # cut off, not broken


def test_the_order_of_the_rows_reaches_objects_behind_references():
    person = {"type": "object", "properties": {"zip": {}, "name": {}, "boss": {"$ref": "#/$defs/Per~1son"}}}
    schema = {
        "$ref": "#/$defs/Order",
        "$defs": {
            "Order": {
                "properties": {
                    "people": {"type": "array", "items": {"$ref": "#/$defs/Per~1son"}},
                    "id": {"const": {"properties": {"zip": 1, "name": 2}}},
                }
            },
            "Per/son": person,
        },
    }
    row = {"id": 1, "people": [{"name": "a", "zip": 1, "boss": {"boss": None, "name": "b", "zip": 2}}]}
    found = in_order(schema, [json.dumps(row)])
    assert list(found["$defs"]["Order"]["properties"]) == ["id", "people"]
    # mean places: name (0 + 1) / 2, zip (1 + 2) / 2, boss (2 + 0) / 2
    assert list(found["$defs"]["Per/son"]["properties"]) == ["name", "boss", "zip"]
    assert list(found["$defs"]["Order"]["properties"]["id"]["const"]["properties"]) == ["zip", "name"]
    assert found == schema  # but for the order nothing has changed


def test_a_schema_that_refers_to_itself_without_rows_below_it_is_left_alone():
    schema = {"$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}}, "$ref": "#/$defs/n"}
    assert in_order(schema, ['{"b": 1}', "null"]) == schema


def test_an_answer_that_cannot_be_checked_in_time_is_not_called_broken(monkeypatch):
    def too_long(name, *arguments, **options):
        raise TookTooLong("search took too long")

    monkeypatch.setattr("tunewise.forms.patterns.bounded", too_long)
    assert not breaks(Grammar("regex", "(?=a)(a+)+$"), Answer("aaaa!"))
    schema = json.dumps({"type": "string", "pattern": "(?=a)(a+)+$"})
    assert not breaks(Grammar("json_schema", schema), Answer('"aaaa!"'))
