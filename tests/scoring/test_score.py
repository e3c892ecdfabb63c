"""Scoring files of outputs: the metric of decide, figures with intervals, failures with reasons, bad rows."""

import json
import sys
from types import SimpleNamespace

import pytest

import tunewise
from tunewise.data import Example, Message
from tunewise.errors import DataError, SettingError
from tunewise.evidence.intervals import wilson
from tunewise.evidence.records import Score
from tunewise.models.door import Answer
from tunewise.scoring import score as scoring
from tunewise.splits import Parts
from tunewise.task import Task
from tunewise.task_scores import score_answer


def write(tmp_path, rows, name="out.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_0_1_metric_has_its_share_wilson_s_interval_and_each_failure_s_reason(tmp_path):
    rows = [{"id": n, "output": str(n), "reference": str(n if n < 8 else -n)} for n in range(10)]
    found = tunewise.score(write(tmp_path, rows), "exact")
    assert (found.quality.estimate, found.quality.n, found.quality.method) == (0.8, 10, "Wilson")
    assert (found.quality.low, found.quality.high) == wilson(8, 10)
    assert [(f.line, f.id, f.why) for f in found.failures] == [
        (9, "8", "'-8' was expected, got '8'"),
        (10, "9", "'-9' was expected, got '9'"),
    ]
    assert found.statuses == {"scored": 10}


@pytest.mark.parametrize("metric", ["exact", "accuracy", "token_f1", "json_fields", "rouge_l", "numeric"])
def test_the_figures_are_those_that_decide_would_read(tmp_path, metric):
    task = Task(name="t", examples="r.jsonl", metric=metric, target=0.9)
    pairs = [('{"a": 1}', {"a": 1}), ("7", "7"), ("no", "yes"), ("the answer", "an answer")]
    examples = [
        Example(key=str(n), turns=(Message("user", "q"),), references=(right,))
        for n, (_, right) in enumerate(pairs)
    ]
    parts = Parts(train=tuple(examples), selection=(), certification=(), clusters=4)
    expected = [
        score_answer(task, parts, example, Answer(said)).value
        for example, (said, _) in zip(examples, pairs, strict=True)
    ]
    rows = [{"output": said, "reference": right} for said, right in pairs]
    assert list(tunewise.score(write(tmp_path, rows), task=task).values) == expected


def test_further_figures_have_intervals_and_accuracy_has_macro_f1(tmp_path):
    rows = [{"output": o, "references": [r]} for o, r in [("a", "a"), ("a", "b"), ("b", "b"), ("zz", "a")]]
    found = tunewise.score(write(tmp_path, rows), "accuracy")
    assert found.figures["repaired_value"].low is not None
    # a: TP 1, FP 1, FN 1; b: TP 1, FP 0, FN 1
    assert found.summary == {"macro_f1": pytest.approx((1 / 2 + 2 / 3) / 2), "classes": 2}
    assert found.statuses == {"scored": 3, "unparseable": 1}


def test_what_the_model_refused_is_0_and_what_errored_has_no_value(tmp_path):
    rows = [
        {"output": "a", "reference": "a"},
        {"output": "", "reference": "a", "status": "refused"},
        {"output": None, "reference": "a", "status": "errored", "error": "timed out"},
    ]
    found = tunewise.score(write(tmp_path, rows), "exact")
    assert found.values == (1.0, 0.0, None)
    assert found.quality.estimate == 0.5
    assert [f.why for f in found.failures] == ["timed out", "the model refused to answer"]
    assert "1 without a value" in found.quality.why


def test_turns_of_one_conversation_are_one_unit(tmp_path):
    rows = [
        {"output": "x" if n == 3 else "a", "reference": "a", "conversation": n, "turn": turn}
        for n in range(4)
        for turn in range(5)
    ]
    found = tunewise.score(write(tmp_path, rows), "exact")
    assert (found.unit, found.quality.n, found.quality.estimate) == ("conversation", 4, 0.75)
    assert found.quality.method == "Wilson over conversations"


def test_every_broken_row_is_named_with_its_line(tmp_path):
    path = tmp_path / "bad.jsonl"
    lines = [
        '{"output": "a"}',
        '{"answer": "b"}',
        "{",
        '{"output": "a", "references": []}',
        '{"output": null}',
    ]
    path.write_text("\n".join([*lines, '{"output": "a", "turn": "late"}', '{"output": 1, "id": [1]}']))
    with pytest.raises(DataError) as caught:
        tunewise.score(path, "exact")
    said = str(caught.value)
    for wanted in (
        "line 2: 'output' is missing; the row has answer",
        "line 3: broken JSON at column",
        "line 4: references: a list of right answers",
        "line 5: 'output' is null",
        'line 6: turn: a whole number was expected, got "late"',
        "line 7: id: a text or a number was expected, got [1]",
    ):
        assert wanted in said


def test_rows_without_a_reference_are_named_where_the_metric_needs_one(tmp_path):
    path = write(tmp_path, [{"output": "a", "reference": "a"}, {"output": "b"}])
    with pytest.raises(DataError, match=r"1 of 2 rows have neither 'reference' nor 'references' \(lines 2\)"):
        tunewise.score(path, "exact")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "exakt"}, "unknown metric 'exakt'; did you mean 'exact'"),
        ({"metric": "numeric", "options": {"tolerence": 1}}, r"metric.tolerence: unknown key; did you mean"),
        ({"metric": "python:x"}, "is named python:module:function"),
        ({}, "name a metric"),
        ({"metric": "exact", "schema": "no.json"}, "--schema: no such file: no.json"),
    ],
)
def test_wrong_settings_are_one_clear_message(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        tunewise.score(write(tmp_path, [{"output": "a", "reference": "a"}]), **settings)


def test_options_reach_the_metric(tmp_path):
    path = write(tmp_path, [{"output": "1.05", "reference": 1}])
    assert tunewise.score(path, "numeric").quality.estimate == 0
    assert tunewise.score(path, "numeric", options={"tolerance": 0.1}).quality.estimate == 1


def whole_file(rows, settings):
    scores = tuple(Score("scored", float(len(row.output) > 1)) for row in rows)
    return scoring.WholeFileScores(scores, {"references": [str(p) for p in settings.style_references]})


def test_a_metric_of_whole_files_is_found_through_its_hook(tmp_path, monkeypatch):
    monkeypatch.setitem(scoring.WHOLE_FILE, "exact", f"{__name__}:whole_file")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(whole_file=whole_file))
    path = write(tmp_path, [{"output": "ab"}, {"output": "a"}])
    found = tunewise.score(path, "exact", style_references=["voice.jsonl"])
    assert found.values == (1.0, 0.0)
    assert found.summary == {"references": ["voice.jsonl"]}


def test_the_report_is_json_with_nothing_undefined_as_a_number(tmp_path):
    plain = tunewise.score(write(tmp_path, [{"output": "", "reference": "a", "status": "errored"}]), "exact")
    text = json.dumps(plain.to_json(), allow_nan=False)
    assert json.loads(text)["quality"] == {
        "estimate": None,
        "low": None,
        "high": None,
        "n": 0,
        "method": "none",
        "why": "no answer has a value",
    }


def test_the_forms_are_checked_with_a_schema_an_xsd_choices_or_a_task(tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}')
    rows = [{"output": o} for o in ('{"a": 1}', '{"a": "x"}', '```json\n{"a": 1}\n```', "no")]
    found = tunewise.score(write(tmp_path, rows), "json_schema", schema=schema)
    assert found.values == (1.0, 0.0, 0.0, 0.0)
    assert found.summary["total"] == 4
    assert found.summary["schema_compliant"] == 1
    xsd = tmp_path / "s.xsd"
    xsd.write_text(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
        '<xs:element name="a" type="xs:int"/></xs:schema>'
    )
    path = write(tmp_path, [{"output": "<a>1</a>"}, {"output": "<a>x</a>"}])
    assert tunewise.score(path, "xml_schema", xsd=xsd).values == (1.0, 0.0)
    path = write(tmp_path, [{"output": "yes"}, {"output": "perhaps"}])
    assert tunewise.score(path, "choices", choices=("yes", "no")).values == (1.0, 0.0)
    task = Task(name="t", examples="r.jsonl", metric="regex", target=0.9, output={"regex": "[A-Z]+"})
    path = write(tmp_path, [{"output": "ABC"}, {"output": "abc"}])
    assert tunewise.score(path, task=task).values == (1.0, 0.0)


@pytest.mark.parametrize(
    ("metric", "how"), [("json_schema", "give --schema"), ("markdown", "declare output.markdown in a task")]
)
def test_a_form_that_is_not_declared_is_asked_for(tmp_path, metric, how):
    with pytest.raises(SettingError, match=how):
        tunewise.score(write(tmp_path, [{"output": "a"}]), metric)


SCHEMA = '{"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}'


def test_a_figure_that_is_undefined_for_some_rows_is_the_mean_of_the_others(tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text(SCHEMA)
    rows = [{"output": '{"a": 1}'}, {"output": '{"a": 2}', "reference": {"a": 2}}, {"output": "[1]"}]
    found = tunewise.score(write(tmp_path, rows), "json_schema", schema=schema)
    assert (found.figures["field_correctness"].estimate, found.figures["field_correctness"].n) == (1.0, 1)
    assert found.summary["avg_completeness"] == pytest.approx(2 / 3)
    schema.write_text('{"required": ["a"]}')
    found = tunewise.score(write(tmp_path, [rows[0], rows[2]]), "json_schema", schema=schema)
    assert (found.figures["completeness"].estimate, found.figures["completeness"].n) == (1.0, 1)


def test_references_that_break_the_declared_form_are_refused_with_their_lines_as_in_decide(tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text(SCHEMA)
    rows = [{"output": '{"a": 1}', "reference": {"a": right}} for right in (1, "x", 2, None)]
    path = write(tmp_path, rows)
    with pytest.raises(DataError) as refused:
        tunewise.score(path, "json_schema", schema=schema)
    assert str(refused.value).startswith("2 right answers do not have the form that the task asks for")
    assert f"{path}:2: output.json_schema: a" in str(refused.value)
    assert f"{path}:4: output.json_schema: a" in str(refused.value)
    assert tunewise.score(path, "json_fields").rows == 4


def test_an_empty_file_has_no_rows_and_no_word_of_certification(tmp_path):
    with pytest.raises(DataError, match=r"the file holds no rows$"):
        tunewise.score(write(tmp_path, []), "exact")


def test_a_metric_of_form_sends_its_form_to_the_task_file(tmp_path):
    with pytest.raises(SettingError, match=r"declared under output\.regex: declare output\.regex in a task"):
        tunewise.score(write(tmp_path, [{"output": "a"}]), "regex", options={"pattern": "x"})


def test_a_reference_itself_that_an_own_metric_gives_less_than_1_is_not_said_to_differ(tmp_path, monkeypatch):
    (tmp_path / "half_metric.py").write_text("def half(output, references): return 0.5")
    monkeypatch.chdir(tmp_path)
    found = tunewise.score(write(tmp_path, [{"output": "x", "reference": "x"}]), "python:half_metric:half")
    assert found.failures[0].why == "it is a reference, and still the metric gives 0.5"


def test_the_distance_to_the_right_number_has_no_interval_however_small_it_is(tmp_path):
    rows = write(tmp_path, [{"output": str(n), "reference": n} for n in range(9)])
    found = tunewise.score(rows, "numeric")
    assert (found.quality.low, found.quality.high) == wilson(9, 9)
    assert (found.figures["error"].estimate, found.figures["error"].high) == (0.0, None)


@pytest.mark.parametrize("choices", [("a",), ("a", "a"), ("a", "b", "a")])
def test_a_closed_set_has_two_choices_or_more_each_once(tmp_path, choices):
    rows = write(tmp_path, [{"output": "a"}])
    with pytest.raises(SettingError, match="at least two, each once"):
        tunewise.score(rows, "choices", choices=choices)


def test_a_label_that_is_no_choice_is_refused_since_no_answer_could_be_right(tmp_path):
    rows = write(tmp_path, [{"output": "a", "reference": right} for right in ("a", "B.", "aa")])
    with pytest.raises(DataError, match=r"1 right answers .*\n.*out.jsonl:3: output.choices: .* 'aa'"):
        tunewise.score(rows, "accuracy", choices=("a", "b"))
    several = write(tmp_path, [{"output": "a", "references": ["aa", "a"]}])
    assert tunewise.score(several, "accuracy", choices=("a", "b")).quality.estimate == 1


def test_format_in_a_schema_is_a_remark_unless_it_is_asserted(tmp_path):
    schema = tmp_path / "s.json"
    schema.write_text('{"type": "string", "format": "date"}')
    rows = write(tmp_path, [{"output": '"2026-02-28"'}, {"output": '"2026-02-30"'}])
    assert tunewise.score(rows, "json_schema", schema=schema).values == (1.0, 1.0)
    assert tunewise.score(rows, "json_schema", schema=schema, assert_format=True).values == (1.0, 0.0)
    with pytest.raises(SettingError, match=r"--assert-format: .* give --schema"):
        tunewise.score(rows, "exact", assert_format=True)


def test_a_conversation_with_a_turn_that_errored_has_no_mean_and_is_tried_both_ways(tmp_path):
    rows = [
        {"output": "a", "reference": "a", "conversation": n, "turn": turn}
        | ({"status": "errored", "output": None} if turn and n < 5 else {})
        for n in range(10)
        for turn in range(4)
    ]
    found = tunewise.score(write(tmp_path, rows), "exact").quality
    assert (found.estimate, found.n) == (1.0, 5)
    assert found.low < 0.5 < found.high == 1.0


@pytest.mark.parametrize(
    ("answer", "reference", "tolerance", "right"),
    [
        ("4006381333932", "4006381333931", 0, False),
        ("4,006,381,333,931", "4006381333931", 0, True),
        ("0.3", "0.2", 0.1, True),
        ("0.1", "0.2", 0.1, True),
        ("0.30001", "0.2", 0.1, False),
        ("123456789012345678901", "123456789012345678900", 0, False),
    ],
)
def test_numbers_are_compared_as_decimals(tmp_path, answer, reference, tolerance, right):
    rows = write(tmp_path, [{"output": answer, "reference": reference}])
    assert tunewise.score(rows, "numeric", options={"tolerance": tolerance}).quality.estimate == float(right)


def test_a_reference_that_was_computed_means_the_number_it_is_off_by_a_bit(tmp_path):
    for reference, right in ((0.1 + 0.2, 1.0), ("0.30000000000000004", 0.0), (0.3001, 0.0)):
        rows = write(tmp_path, [{"output": "0.3", "reference": reference}])
        assert tunewise.score(rows, "numeric").quality.estimate == right
