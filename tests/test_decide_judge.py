"""``metric: judge`` in decide: shown without trust, deciding only with people's labels."""

import json

import pytest

import tunewise
from tunewise.errors import RunError

SCRIPT = '''
"""A model that is polite with examples, and a judge that reads politeness with a known error."""
import hashlib
import json


def draw(text):
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 1000 / 1000


def reply(messages):
    question = messages[-1].content
    shown = any(m.role == "assistant" for m in messages)
    good = draw(question + str(shown)) < (0.97 if shown else 0.2)
    return f"{'Please wait' if good else 'No'} ({question})"


def read(messages, error):
    answer = messages[-1].content.split("[answer ")[1]
    text = answer.split("]", 1)[1].split("[end")[0].replace(" I hope this helps.", "")
    text = text.split(")")[0]
    polite = "Please" in text
    wrong = draw("judge" + text) < error
    return json.dumps({"polite": {"quote": "Please wait" if polite else "", "level": int(polite != wrong)}})


def good_judge(messages):
    return read(messages, 0.03)


def poor_judge(messages):
    return read(messages, 0.35)


def mute_judge(messages):
    return "I would rather not say."
'''
RUBRIC = "criteria:\n  - {name: polite, question: 'Is it polite?', anchors: {0: 'no', 1: 'yes'}}\n"
TASK = """\
name: polite
instruction: Answer.
examples: rows.jsonl
metric: judge
judge: {{model: {{scripted: "judge_script:{judge}"}}, rubric: rubric.yaml{labels}}}
target: 0.7
model: {{scripted: "judge_script:reply"}}
"""
RUNGS = ["zero-shot", "few-shot"]


@pytest.fixture
def judge_task(tmp_path, monkeypatch):
    def make(judge: str = "good_judge", labels: str = ""):
        (tmp_path / "judge_script.py").write_text(SCRIPT)
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "rubric.yaml").write_text(RUBRIC)
        if not (tmp_path / "rows.jsonl").exists():
            rows = [
                {"input": f"request {n * 7919 % 10007} number {n}", "output": f"Please wait {n}"}
                for n in range(500)
            ]
            (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "task.yaml").write_text(TASK.format(judge=judge, labels=labels))
        return tmp_path / "task.yaml"

    return make


def decide(task, out="run"):
    return tunewise.decide(task, out=task.parent / out, rungs=RUNGS)


def label(folder, share: float = 1.0) -> None:
    """People label what the run offers: right where the answer says Please."""
    rows = [json.loads(line) for line in (folder / "run/to_label.jsonl").read_text().splitlines()]
    kept = rows[: int(share * len(rows))]
    for row in kept:
        row["label"] = int("Please" in row["output"])
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))


def test_without_labels_the_judge_is_shown_and_nothing_is_proved(judge_task):
    task = judge_task()
    made = decide(task)
    assert made.choice is None
    assert made.exit_code == 4
    for name in RUNGS:
        evidence = made.result(name).evidence
        assert evidence.verdict == "not_proved"
        assert (evidence.estimate, evidence.low, evidence.high) == (None, None, None)
        assert "no answers labelled by people" in evidence.notes[0]
    plain = made.to_json()
    assert plain["measures"]["judge"]["rungs"]["few-shot"]["judge_mean"] > 0.8
    assert plain["measures"]["judge"]["prompt_hash"]
    offered = [json.loads(line) for line in (task.parent / "run/to_label.jsonl").read_text().splitlines()]
    assert {row["rung"] for row in offered} == set(RUNGS)
    assert all(row["label"] is None and "level" not in str(row) for row in offered)
    assert (task.parent / "run/report.html").exists()


def test_with_labels_the_same_run_goes_on_and_the_judge_decides(judge_task):
    task = judge_task()
    before = decide(task)
    label(task.parent)
    made = decide(judge_task(labels=", labels: labels.jsonl"))
    assert made.choice == "few-shot"
    assert made.result("zero-shot").evidence.verdict == "falls_short"
    trust = made.to_json()["measures"]["judge"]["trust"]
    assert trust["trusted"]
    assert trust["agreement"]["kappa"] > 0.8
    assert set(trust["probes"]) == {"order", "length", "again"}
    evidence = made.result("few-shot").evidence
    assert evidence.n == made.data["certification"]
    assert evidence.low <= evidence.estimate <= evidence.high
    assert "prediction-powered: 60 answers" in evidence.notes[0]
    assert made.openings["number"] == before.openings["number"] == 1


def test_labels_filled_in_where_they_are_offered_are_never_written_over(judge_task):
    task = judge_task()
    decide(task)
    offered = task.parent / "run/to_label.jsonl"
    rows = [json.loads(line) for line in offered.read_text().splitlines()]
    for row in rows[::2]:
        row["label"] = int("Please" in row["output"])
    offered.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = offered.read_text()
    decide(judge_task(labels=", labels: run/to_label.jsonl"))
    assert offered.read_text() == before
    more = [json.loads(line) for line in (task.parent / "run/to_label_2.jsonl").read_text().splitlines()]
    assert more
    assert all(row["label"] is None for row in more)
    offered.write_text("".join(json.dumps({**row, "label": None}) + "\n" for row in rows))
    with pytest.raises(RunError, match="rest on other labels"):
        decide(judge_task(labels=", labels: run/to_label.jsonl"))


def test_labels_cannot_be_exchanged_once_verdicts_rest_on_them(judge_task):
    task = judge_task()
    decide(task)
    label(task.parent)
    decide(judge_task(labels=", labels: labels.jsonl"))
    label(task.parent, 0.9) if (task.parent / "run/to_label.jsonl").read_text() else None
    (task.parent / "labels.jsonl").write_text((task.parent / "labels.jsonl").read_text() + "\n")
    rows = (task.parent / "labels.jsonl").read_text().splitlines()[:-20]
    (task.parent / "labels.jsonl").write_text("\n".join(rows))
    with pytest.raises(RunError, match="rest on other labels"):
        decide(judge_task(labels=", labels: labels.jsonl"))


def test_an_untrusted_judge_never_decides_whatever_it_says(judge_task):
    task = judge_task("poor_judge")
    decide(task)
    label(task.parent)
    made = decide(judge_task("poor_judge", ", labels: labels.jsonl"))
    assert made.choice is None
    for name in RUNGS:
        evidence = made.result(name).evidence
        assert evidence.verdict == "not_proved"
        assert evidence.estimate is None
        assert "has not earned trust: its kappa" in evidence.notes[0]


def test_a_rung_without_labels_of_its_own_is_not_proved(judge_task):
    task = judge_task()
    decide(task)
    label(task.parent)
    labels = task.parent / "labels.jsonl"
    rows = [json.loads(line) for line in labels.read_text().splitlines()]
    for row in rows:
        if row["rung"] == "few-shot":
            row["output"] += " (edited)"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = decide(judge_task(labels=", labels: labels.jsonl"))
    assert made.result("zero-shot").evidence.verdict == "falls_short"
    few = made.result("few-shot").evidence
    assert few.verdict == "not_proved"
    assert "0 of this rung's answers are labelled" in few.notes[0]


def test_a_judge_that_never_answers_as_asked_is_counted(judge_task):
    made = decide(judge_task("mute_judge"))
    assert made.result("zero-shot").evidence.statuses() == {"unparseable": made.data["certification"]}
    assert any("not the asked JSON" in note for note in made.result("zero-shot").evidence.notes)


def test_the_plan_says_what_the_judge_reads_and_where(judge_task):
    plan = tunewise.check(judge_task())
    assert any("judge judge_script:good_judge: reads every answer" in line for line in plan.lines)
