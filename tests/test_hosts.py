"""Every door of a run counts: where the data goes, what needs a yes, what a cap needs a price of."""

import re

import pytest

import tunewise
from tunewise.errors import SettingError

RUBRIC = "criteria:\n  - {name: ok, question: 'Is it right?', anchors: {0: 'no', 1: 'yes'}}\n"
PRICE = ", usd_per_million: {input: 1, output: 4}"


@pytest.fixture
def judged(reverse_task):
    """A task whose model is a script and whose judge is a host."""

    def make(price: str = "", host: str = "judge.invalid"):
        task = reverse_task(rows=160)
        (task.parent / "rubric.yaml").write_text(RUBRIC)
        judge = f"{{model: {{endpoint: 'https://{host}/v1', name: jj{price}}}, rubric: rubric.yaml}}"
        task.write_text(task.read_text().replace("metric: exact", f"metric: judge\njudge: {judge}"))
        return task

    return make


def test_a_judge_at_a_host_is_told_in_headline_lines_and_json(judged):
    plan = tunewise.check(judged(), rungs=["zero-shot"])
    assert "nothing leaves this machine" not in plan.headline
    assert "inputs and every rung's answers go to judge.invalid" in plan.headline
    assert any(line.startswith("model") and "go to judge.invalid" in line for line in plan.lines)
    assert plan.to_json()["hosts"] == {"model": None, "judge": "judge.invalid"}


def test_a_judge_that_is_shown_right_answers_is_said_to_get_them(judged):
    task = judged()
    task.write_text(
        task.read_text().replace("rubric: rubric.yaml", "rubric: rubric.yaml, show_reference: true")
    )
    words = "inputs, right answers and every rung's answers go to judge.invalid"
    assert words in tunewise.check(task, rungs=["zero-shot"]).headline


def test_a_judge_on_this_machine_leaves_the_words_as_they_are(judged):
    plan = tunewise.check(judged(host="127.0.0.1:9"), rungs=["zero-shot"])
    assert "go to 127.0.0.1:9 on this machine" in plan.headline


def test_a_teacher_is_named_only_where_distilled_is_in_play(reverse_task):
    task = reverse_task(rows=160)
    teacher = "teacher: {model: {endpoint: 'https://teacher.invalid/v1', name: t}, rung: zero-shot}\n"
    task.write_text(task.read_text() + teacher + "tune: {model: embedded}\n")
    assert "teacher" not in tunewise.check(task, rungs=["zero-shot"]).headline
    plan = tunewise.check(task, rungs=["distilled"])
    assert plan.to_json()["hosts"]["teacher"] == "teacher.invalid"
    assert "go to teacher.invalid" in plan.headline


def test_a_cap_is_refused_where_the_judges_host_has_no_price(judged, tmp_path):
    words = "judge jj at judge.invalid has no price; give judge.model.usd_per_million"
    with pytest.raises(SettingError, match=re.escape(words)):
        tunewise.decide(judged(), rungs=["zero-shot"], max_usd=0.0001, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_priced_judge_needs_a_yes_and_is_named(judged, tmp_path):
    with pytest.raises(SettingError, match=r"the calls to judge\.invalid \(judge\) cost money"):
        tunewise.decide(judged(PRICE), rungs=["zero-shot"], out=tmp_path / "run")


def test_a_cap_below_nothing_is_refused(reverse_task):
    with pytest.raises(SettingError, match="at least 0 USD was expected, got -1"):
        tunewise.decide(reverse_task(), rungs=["zero-shot"], max_usd=-1)
