"""A student of a teacher behind any door: what is learnt, what is dropped, what the comparison says."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("trl")

import tunewise
from tunewise.data import Example, Message
from tunewise.errors import SettingError
from tunewise.ladder import NotBuilt
from tunewise.models.door import Answer, Price
from tunewise.models.scripted import ScriptedDoor
from tunewise.progress import Silent
from tunewise.rungs import distilled
from tunewise.rungs.distilled import Distilled, inputs_of, lesson_of, teacher_of
from tunewise.rungs.rung import Workbench
from tunewise.splits import Parts
from tunewise.task import DecodingSettings, Task, Teacher, load_task
from tunewise.task_scores import score_answer
from tunewise.task_training import Training

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

CHOICES = {"accuracy": ("low", "high")}


def label(number):
    return "high" if number % 2 else "low"


def row(number, labelled=True):
    turns = (Message("user", f"town pub {number} food {'high' if number % 2 else 'cheap'}"),)
    return Example(f"{number:016x}", turns, (label(number),) if labelled else ())


def teacher(messages):
    """Right but for every tenth input, one that is no label, one that is cut off."""
    number = int(messages[-1].content.split()[2])
    if number % 10 == 3:
        return "low"
    if number % 10 == 4:
        return "I cannot tell"
    if number % 10 == 5:
        return Answer("high", finish="length", tokens_in=9, tokens_out=1)
    return label(number)


@pytest.fixture
def make_bench(tiny, tmp_path):
    from tunewise.models.local import LocalDoor

    def make(section=None, ask=None):
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="accuracy", target=0.8).__dict__,
                "instruction": "high or low",
                "decoding": DecodingSettings(max_new_tokens=4),
                "training": Training(epochs=1.0, lora_rank=4, learning_rate=5e-3),
                "teacher": section or Teacher(),
            }
        )
        items = [row(number) for number in range(60)]
        parts = Parts(tuple(items[:40]), tuple(items[40:44]), tuple(items[44:]), clusters=60)
        return Workbench(
            task=task,
            parts=parts,
            door=LocalDoor(tiny),
            tune_door=lambda adapter: LocalDoor(tiny, adapter=adapter),
            tune_door_missing="",
            ask=ask or (lambda door, requests, purpose: door.answer(requests)),
            score=lambda example, answer: score_answer(task, parts, example, answer),
            folder=tmp_path / "rungs",
            seed=0,
            progress=Silent(),
            teacher_door=ScriptedDoor(teacher, price=Price(1.0, 2.0)),
        )

    return make


def test_wrong_ill_formed_and_cut_off_answers_are_not_learnt_from_and_are_counted(make_bench):
    bench = make_bench()
    lesson = lesson_of(bench, teacher_of(bench))
    assert lesson.asked == 40
    assert lesson.dropped == {"wrong": 4, "of another form": 4, "cut off": 4}
    assert {example.answer for example in lesson.train} == {"high", "low"}
    by_key = {example.key: example for example in bench.parts.train}
    assert all(example.references == by_key[example.key].references for example in lesson.train)
    facts = lesson.facts(teacher_of(bench))
    assert facts["kept"] == len(lesson.train) == 28
    assert facts["usd"] > 0


def test_without_references_only_the_form_is_filtered(make_bench, tmp_path):
    file = tmp_path / "inputs.jsonl"
    rows = [{"input": row(number).input} for number in range(100, 140)]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    bench = make_bench(Teacher(inputs=file, most=30))
    lesson = lesson_of(bench, teacher_of(bench))
    assert lesson.asked == 30
    assert lesson.dropped == {"of another form": 3, "cut off": 3}
    wrong = [example for example in lesson.train if example.input.split()[2].endswith("3")]
    assert {example.answer for example in wrong} == {"low"}  # nobody knows that it is


def test_inputs_that_are_measured_on_are_never_given_to_the_teacher(make_bench, tmp_path):
    file = tmp_path / "inputs.jsonl"
    asked = [row(50).input.upper(), row(42).input, "something else altogether", "something else altogether"]
    file.write_text("".join(json.dumps({"input": text}) + "\n" for text in asked), encoding="utf-8")
    found = inputs_of(make_bench(Teacher(inputs=file)))
    assert [example.input for example in found.kept] == ["something else altogether"]
    assert found.left_out == 2


def test_the_student_is_tuned_on_the_bare_prompt_and_asks_no_teacher(make_bench):
    bench = make_bench()
    candidate = Distilled().build(bench)
    facts = candidate.facts()
    assert facts["rows"] == 28
    assert facts["teacher"]["asked"] == 40
    assert facts["teacher"]["selection_score"] == 3 / 4  # of 40 to 43 the last is answered wrong
    request = candidate.request(bench.parts.certification[0])
    assert [message.role for message in request.messages] == ["system", "user"]
    assert candidate.door.host is None
    assert candidate.door is not bench.teacher_door


def test_a_lesson_of_few_rows_is_no_candidate(make_bench, monkeypatch):
    bench = replace(make_bench(), teacher_door=ScriptedDoor(lambda messages: "perhaps"))
    with pytest.raises(NotBuilt, match="0 of the teacher's 40 answers can be learnt from"):
        Distilled().build(bench)


def test_a_rung_of_the_climb_teaches_where_the_tasks_own_model_does(make_bench):
    bench = replace(make_bench(Teacher(rung="few-shot-nearest")), teacher_door=None)
    built = distilled.PromptCandidate("few-shot-nearest", bench.door, distilled.layout_of(bench))
    assert teacher_of(replace(bench, built={"few-shot-nearest": built})) is built


def test_without_teacher_weights_or_inputs_it_cannot_help(make_bench):
    bench = make_bench()
    assert Distilled().cannot_help(bench) is None
    bare = replace(bench, task=bench.task.model_copy(update={"teacher": None}))
    assert "no teacher is named" in Distilled().cannot_help(bare)
    few = replace(bench, parts=replace(bench.parts, train=bench.parts.train[:5]))
    assert "5 inputs for the teacher are too few" in Distilled().cannot_help(few)
    assert Distilled().outlook(make_bench(Teacher(most=20))).train_rows == 20


TASK = """\
name: levels
instruction: high or low
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: accuracy
target: 0.7
output: {{choices: [high, low]}}
decoding: {{max_new_tokens: 4}}
model: {tiny}
teacher: {{scripted: "taught:teacher"}}
training: {{epochs: 1, learning_rate: 0.005, lora_rank: 4}}
"""


def test_a_climb_says_what_the_student_keeps_of_its_teacher(tiny, tmp_path, monkeypatch):
    for name, numbers in (
        ("train", range(40)),
        ("selection", range(200, 204)),
        ("certification", range(300, 340)),
    ):
        rows = [{"input": row(n).input, "output": label(n)} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (tmp_path / "taught.py").write_text(
        "def teacher(messages):\n    return 'high' if int(messages[-1].content.split()[2]) % 2 else 'low'\n",
        encoding="utf-8",
    )
    (tmp_path / "task.yaml").write_text(TASK.format(tiny=tiny), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = tunewise.decide(tmp_path / "task.yaml", out="run", rungs=["distilled"], exhaustive=True)
    found = made.result("distilled").teacher
    outcomes = made.result("distilled").all_outcomes
    assert found["items"] == len(outcomes) == 40
    assert found["teacher"]["quality"] == 1.0
    right = sum(outcome.value for outcome in outcomes) / 40
    assert found["kept"] == pytest.approx(right)
    assert found["difference"]["difference"] == pytest.approx(right - 1)
    assert found["teacher"]["p50_ms"] is not None
    assert found["student"]["calls_timed"] == 20
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "What the student keeps of its teacher" in page
    plain = json.loads((tmp_path / "run/decision.json").read_text(encoding="utf-8"))
    entry = next(rung for rung in plain["rungs"] if rung["rung"] == "distilled")
    assert entry["teacher"]["items"] == 40
    assert entry["build"]["teacher"]["kept"] == 40


def test_a_plan_says_what_goes_to_the_teachers_host_and_asks_for_a_yes(tiny, tmp_path, monkeypatch):
    for name, numbers in (
        ("train", range(40)),
        ("selection", range(50, 54)),
        ("certification", range(60, 90)),
    ):
        rows = [{"input": f"{row(n).input} {name}", "output": label(n)} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    far = "{endpoint: 'http://teacher.test/v1', name: big, usd_per_million: {input: 1, output: 2}}"
    text = TASK.format(tiny=tiny).replace('{scripted: "taught:teacher"}', f"{{model: {far}, rung: few-shot}}")
    (tmp_path / "task.yaml").write_text(text, encoding="utf-8")
    found = tunewise.plan(tmp_path / "task.yaml")
    taught = next(rung for rung in found.rungs if rung.rung == "distilled")
    assert taught.host == "teacher.test"
    assert "train rows with their answers" in taught.leaves
    assert "inputs that the teacher answers" in taught.leaves
    assert next(rung for rung in found.rungs if rung.rung == "lora").leaves == ()
    assert "the teacher: prompts, and with them your rows and documents, go to teacher.test" in found.headline
    assert any(line.startswith("teacher big as few-shot: answers up to 44 inputs") for line in found.lines)
    with pytest.raises(SettingError, match=r"teacher\.test \(teacher\) cost money"):
        tunewise.decide(tmp_path / "task.yaml", out=tmp_path / "run", rungs=["distilled"])


def test_a_teacher_is_a_door_alone_or_a_section(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    file = tmp_path / "task.yaml"
    head = "name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.8\n"
    file.write_text(head + "teacher: {endpoint: 'http://host/v1', name: big}\n", encoding="utf-8")
    assert load_task(file).teacher.model.name == "big"
    file.write_text(head + "teacher: {rung: few-shot-nearest, inputs: rows.jsonl}\n", encoding="utf-8")
    task = load_task(file)
    assert (task.teacher.model, task.teacher.rung) == (None, "few-shot-nearest")
    assert len(task.settings()["teacher"]["inputs"]) == 64
