"""``output`` of the task file: forms, and mistakes with line and key."""

import json

import pytest

from tunewise.api import open_task
from tunewise.errors import DataError, TaskFileError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.task import load_task

HEAD = "name: t\nexamples: rows.jsonl\ntarget: 0.9\nmodel: {scripted: 'a:b'}\n"
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "x", "output": {"a": 1}}\n')
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "wrong.json").write_text('{"properties": {"a": {"type": "intger"}}}')
    (tmp_path / "broken.json").write_text('{"a"')
    (tmp_path / "o.xsd").write_text("<xs:schema")

    def write(body: str, head: str = HEAD):
        path = tmp_path / "task.yaml"
        path.write_text(head + body)
        return path

    return write


def test_all_forms_are_read_and_compiled_once(write):
    task = load_task(
        write(
            "metric: json_schema\noutput:\n  json_schema: s.json\n  xml_schema: {required: [a/b]}\n"
            "  markdown: {headings: ['# A'], sections: [B], tables: [[x, y]], code: [sql], lists: [task]}\n"
            "  regex: '[a-z]+'\n  sql: sqlite\n  choices: [yes, no]\n"
        )
    )
    assert task.output is not None
    spec = task.output.spec()
    assert spec is task.output.spec()
    context = MetricContext(output=spec)
    assert METRICS["json_schema"].score('{"a": 1}', [], context).value == 1
    assert METRICS["markdown"].score("# A\n# B\nx", [], context).detail["structure_share"] == pytest.approx(
        2 / 5
    )
    assert METRICS["choices"].score("yes", [], context).value == 1
    assert METRICS["choices"].score("Yes!", [], context).detail["repaired_value"] == 1
    task.fingerprint()


def test_the_content_of_a_schema_is_part_of_the_fingerprint(write, tmp_path):
    path = write("metric: json_schema\noutput: {json_schema: s.json}\n")
    before = load_task(path).fingerprint()
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA | {"title": "x"}))
    assert load_task(path).fingerprint() != before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "metric: json_schema",
            "line 5: metric: json_schema needs its form; add for example 'output:",
        ),
        ("metric: sql\noutput: {choices: [a, b]}", "line 5: metric: sql needs its form"),
        (
            "metric: exact\noutput:\n  json_schema: wrong.json",
            "invalid schema at /properties/a/type: ",
        ),
        ("metric: exact\noutput:\n  json_schema: broken.json", "not JSON: expecting ':' delimiter at line 1"),
        ("metric: exact\noutput:\n  json_schema: no.json", "'no.json' does not exist"),
        ("metric: exact\noutput:\n  json_schema: {file: s.json, assert: true}", "unknown key"),
        ("metric: exact\noutput:\n  xml_schema: o.xsd", "line 1, column 11: not XML"),
        ("metric: exact\noutput:\n  xml_schema: {}", "nothing is asked for"),
        ("metric: exact\noutput:\n  markdown: {}", "nothing is asked for"),
        (
            "metric: exact\noutput:\n  markdown: {headings: [A]}",
            "a heading as in '## Findings' was expected",
        ),
        ("metric: exact\noutput:\n  markdown: {lists: [dotted]}", "it must be 'bullet', 'ordered' or 'task'"),
        ("metric: exact\noutput:\n  regex: '('", "line 7: output.regex: not a regular expression"),
        (
            "metric: exact\noutput:\n  sql: postgre",
            "line 7: output.sql: unknown SQL dialect 'postgre'",
        ),
        (
            "metric: json_shema\noutput: {json_schema: s.json}",
            "did you mean 'json_schema'?",
        ),
    ],
)
def test_a_wrong_form_is_a_mistake_with_line_and_key(write, body, message):
    with pytest.raises(TaskFileError) as caught:
        load_task(write(body + "\n"))
    (found,) = caught.value.problems
    assert message in found
    assert found.startswith("line 7: output" if "\n  " in body else "line 5: metric")


def test_references_without_the_form_are_named_with_their_lines(write, tmp_path):
    rows = [{"input": f"input number {n}", "output": {"a": n if n % 5 else "zero"}} for n in range(1, 201)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        open_task(write("metric: json_schema\noutput: {json_schema: s.json}\n"))
    said = str(caught.value)
    assert said.startswith("40 right answers do not have the form that the task asks for")
    assert 'rows.jsonl:100: output.json_schema: at /a: expected integer, got string "zero"' in said
    assert "... and 30 more" in said


@pytest.mark.parametrize(
    ("metric", "output", "said"),
    [
        ("numeric", "about twelve", "metric numeric: a number was expected (1234.5 or 1,234.5), right is"),
        ("numeric", "12,50", "a number was expected"),
        ("json_fields", "{'a': 1}", "looks like JSON and is none"),
    ],
)
def test_right_answers_that_no_answer_could_equal_are_named_before_a_call(tmp_path, metric, output, said):
    right = {"numeric": "1,234.5", "json_fields": '{"a": 1}'}[metric]
    rows = [{"input": f"q{n} r{n} s{n}", "output": output if n == 7 else right} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        f"name: t\nexamples: rows.jsonl\nmetric: {metric}\ntarget: 0.9\nmodel: {{scripted: 'a:b'}}\n"
    )
    with pytest.raises(DataError) as told:
        open_task(tmp_path / "task.yaml")
    assert str(told.value).startswith("1 right answers do not have")
    assert f"{tmp_path / 'rows.jsonl'}:8: " in str(told.value)
    assert said in str(told.value)


def test_choices_that_count_as_the_same_answer_are_refused(write):
    body = "metric: accuracy\noutput: {choices: ['A*', 'A', B]}\n"
    with pytest.raises(TaskFileError, match=r"'A\*' and 'A' count as the same answer"):
        load_task(write(body))
