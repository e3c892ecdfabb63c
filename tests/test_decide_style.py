"""``metric: style`` in decide: a model whose voice follows its examples, on scripted doors."""

import json
import random

import pytest

import tunewise
from tunewise.errors import DataError, TaskFileError

VOICE_SCRIPT = '''
"""A model that speaks plainly alone and in the voice when its prompt shows examples of it."""
import random

PLAIN = ("I think you should look at the {} before the {}.", "You can't find your {} as it's near the {}.")
OLD = ("Methinks thou shouldst look upon the {} ere the {}.", "Thou canst not find thy {}, 'tis nigh the {}!")


def words_of(question):
    return question.split()[-2:]


def reply(messages):
    question = messages[-1].content
    draw = random.Random(question)
    shown = any(m.role == "assistant" for m in messages)
    form = draw.choice(OLD if shown else PLAIN)
    one, two = words_of(question)
    return form.format(one, two) + " " + draw.choice(OLD if shown else PLAIN).format(two, one)
'''
OLD = (
    "Methinks thou shouldst look upon the {} ere the {}.",
    "Thou canst not find thy {}, 'tis nigh the {}!",
)
NOUNS = """tomato ladder hedge spade lawn kettle basket lantern vessel anchor cargo pier window carpet
saddle""".split()  # noqa: SIM905
TASK = """\
name: voice
instruction: Say where it is.
examples: rows.jsonl
metric: style
style: {style}
target: 0.6
model: {{scripted: "voice_script:reply"}}
"""


@pytest.fixture
def voice_task(tmp_path, monkeypatch):
    def make(style: str = "{content: {metric: token_f1}, rules: {contractions: never}}", rows: int = 300):
        (tmp_path / "voice_script.py").write_text(VOICE_SCRIPT)
        monkeypatch.syspath_prepend(tmp_path)
        rng = random.Random(3)
        lines = []
        for number in range(rows):
            one, two = rng.sample(NOUNS, 2)
            output = " ".join(rng.choice(OLD).format(a, b) for a, b in ((one, two), (two, one)))
            lines.append(json.dumps({"input": f"Case {number}: {one} {two}", "output": output}) + "\n")
        (tmp_path / "rows.jsonl").write_text("".join(lines))
        (tmp_path / "task.yaml").write_text(TASK.format(style=style))
        return tmp_path / "task.yaml"

    return make


def decide(task, out="run", rungs=("zero-shot", "few-shot")):
    return tunewise.decide(task, out=task.parent / out, rungs=list(rungs))


def test_the_rung_that_speaks_in_the_voice_is_chosen_and_the_plain_one_falls_short(voice_task):
    made = decide(voice_task())
    assert made.choice == "few-shot"
    assert made.result("zero-shot").evidence.verdict == "falls_short"
    plain = made.to_json()
    measured = plain["measures"]["style"]
    assert measured["voice"]["auc"]["estimate"] > 0.95
    assert measured["rungs"]["few-shot"]["position"]["estimate"] == pytest.approx(1, abs=0.2)
    assert "it takes 500" in measured["rungs"]["zero-shot"]["position"]["why"]  # 16 short answers
    rung = plain["rungs"][1]
    assert 0 < rung["details"]["content"] <= 1
    assert rung["details"]["rules_kept"] == 1
    assert any("position" in note for note in rung["notes"])
    json.dumps(plain, allow_nan=False)


def test_base_answers_are_on_record_under_their_purpose_and_not_asked_again(voice_task):
    task = voice_task()
    first = decide(task)
    again = decide(task)
    assert again.spent["calls"] == first.spent["calls"]
    assert again.result("few-shot").evidence == first.result("few-shot").evidence
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(task.parent / "run/run.sqlite")) as connection:
        (asked,) = connection.execute("SELECT count(*) FROM calls WHERE purpose = 'style'").fetchone()
    assert 50 < asked <= 300


def test_content_that_is_asked_for_decides_too(voice_task):
    made = decide(voice_task("{content: {metric: exact, at_least: 1.0}}"))
    assert made.choice is None
    why = made.result("few-shot").evidence.outcomes[0].detail["why"]
    assert "content: exact 0.00, at least 1" in why


def test_a_voice_file_of_too_few_words_is_refused_with_the_count(voice_task):
    task = voice_task()
    (task.parent / "few.jsonl").write_text('{"text": "Thou art late."}\n')
    task.write_text(TASK.format(style="{reference: few.jsonl}"))
    with pytest.raises(DataError, match="got 3 words in 1"):
        decide(task)


def test_reference_texts_that_answer_certification_items_are_left_out(voice_task):
    task = voice_task()
    (task.parent / "voice.jsonl").write_text((task.parent / "rows.jsonl").read_text())
    task.write_text(TASK.format(style="{reference: voice.jsonl}"))
    made = decide(task)
    assert (
        made.to_json()["measures"]["style"]["voice"]["reference"]["texts"] <= 300 - made.data["certification"]
    )


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("{reference: none.jsonl}", "'none.jsonl' does not exist"),
        ("{content: {metric: judge}}", "cannot measure content beside a voice"),
        ("{rules: {contractions: often}}", "style.rules.contractions"),
        ("{refrence: rows.jsonl}", "did you mean 'reference'"),
    ],
)
def test_mistakes_of_the_section_are_named(voice_task, style, said):
    task = voice_task(style)
    with pytest.raises(TaskFileError) as error:
        tunewise.check(task)
    assert said in str(error.value)


def test_a_metric_without_its_section_and_a_section_without_its_metric_are_mistakes(voice_task):
    task = voice_task()
    text = task.read_text()
    task.write_text(text.replace("metric: style", "metric: exact"))
    with pytest.raises(TaskFileError, match="would not be measured"):
        tunewise.check(task)
    task.write_text("\n".join(line for line in text.splitlines() if not line.startswith("style:")))
    with pytest.raises(TaskFileError, match="needs a section 'style'"):
        tunewise.check(task)


def test_a_target_above_the_voices_own_share_is_warned_of(voice_task):
    task = voice_task()
    task.write_text(task.read_text().replace("target: 0.6", "target: 0.9"))
    assert any("asks for more than the voice itself" in text for text in tunewise.check(task).warnings)
