"""``score --metric style`` and ``--metric judge``: the measures of decide on files of outputs."""

import json
import random

import pytest
from typer.testing import CliRunner

from tunewise.cli.main import app
from tunewise.errors import DataError, SettingError
from tunewise.scoring.score import score

OLD = ("Methinks thou shouldst look upon the {} ere the {}.", "Thou canst not find thy {}, 'tis nigh the {}!")
PLAIN = ("I think you should look at the {} before the {}.", "You can't find your {} as it's near the {}.")
NOUNS = ["tomato", "ladder", "hedge", "spade", "lawn", "kettle", "basket", "lantern", "vessel", "anchor"]


def write(path, count: int, forms, seed: int, **fields):
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        text = " ".join(rng.choice(forms).format(*rng.sample(NOUNS, 2)) for _ in range(2))
        rows.append({"output": text, "input": f"case {number}"} | {k: v(number) for k, v in fields.items()})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def sides(tmp_path):
    return write(tmp_path / "voice.jsonl", 60, OLD, 1), write(tmp_path / "base.jsonl", 60, PLAIN, 2)


def test_outputs_in_the_voice_stand_at_1_and_plain_ones_at_0(tmp_path, sides):
    voice, base = sides
    for forms, place in ((OLD, 1), (PLAIN, 0)):
        outputs = write(tmp_path / "out.jsonl", 50, forms, 3)
        found = score(outputs, "style", style_references=[voice], style_bases=[base])
        assert found.summary["position"] == pytest.approx(place, abs=0.1)
        assert found.summary["auc_reference_base"] > 0.95
        assert (found.quality.estimate > 0.5) == (place == 1)
        json.dumps(found.to_json(), allow_nan=False)


def test_conversations_have_a_position_for_every_turn_and_a_slope(tmp_path, sides):
    voice, base = sides
    outputs = write(
        tmp_path / "out.jsonl", 80, OLD, 4, conversation=lambda n: f"c{n // 8}", turn=lambda n: n % 8 + 1
    )
    found = score(outputs, "style", style_references=[voice], style_bases=[base])
    assert found.unit == "conversation"
    assert found.summary["slope_per_turn_low"] <= 0 <= found.summary["slope_per_turn_high"]
    assert found.summary["position_turn_8"] == pytest.approx(1, abs=0.3)
    assert found.summary["drift"] == "no drift is shown"


def test_content_stands_beside_where_there_is_a_reference(tmp_path, sides):
    outputs = write(tmp_path / "out.jsonl", 50, OLD, 3, reference=lambda n: "thou canst")
    found = score(outputs, "style", style_references=[sides[0]], style_bases=[sides[1]])
    assert 0 < found.figures["content"].estimate < 1


def test_a_side_that_is_missing_or_too_short_is_named(tmp_path, sides):
    voice, _ = sides
    with pytest.raises(SettingError, match="--style-base FILE"):
        score(voice, "style", style_references=[voice])
    with pytest.raises(SettingError, match="--style-reference FILE"):
        score(voice, "style")
    few = write(tmp_path / "few.jsonl", 3, PLAIN, 1)
    with pytest.raises(DataError, match="500 words in 10 documents of base texts"):
        score(voice, "style", style_references=[voice], style_bases=[few])


def test_a_voice_may_be_a_plain_text_of_paragraphs(tmp_path, sides):
    voice, base = sides
    rows = [json.loads(line)["output"] for line in voice.read_text().splitlines()]
    (tmp_path / "book.txt").write_text("\n\n".join(rows))
    found = score(voice, "style", style_references=[tmp_path / "book.txt"], style_bases=[base])
    assert found.summary["position"] == pytest.approx(1, abs=0.1)


def test_the_command_prints_the_figures(tmp_path, sides):
    outputs = write(tmp_path / "out.jsonl", 50, OLD, 3)
    arguments = ["score", "--metric", "style", "--style-reference", str(sides[0])]
    said = CliRunner().invoke(app, [*arguments, "--style-base", str(sides[1]), str(outputs)]).stdout
    for part in ("style", "voice", "position: ", "auc_reference_base: ", "delta_outputs: undefined"):
        assert part in said


JUDGE = """
import json


def read(messages):
    answer = messages[-1].content.split("[answer ")[1]
    return json.dumps({"polite": {"quote": "", "level": int("please" in answer)}})
"""
TASK = """\
name: polite
examples: rows.jsonl
metric: judge
judge: {model: {scripted: "score_judge:read"}, rubric: rubric.yaml, labels: labels.jsonl}
target: 0.8
"""


def test_a_tasks_judge_reads_a_file_and_says_whether_it_is_trusted(tmp_path, monkeypatch):
    from tunewise.task import load_task

    (tmp_path / "score_judge.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(tmp_path)
    rows = [{"input": str(n), "output": f"{'please' if n % 3 else 'no'} {n}"} for n in range(60)]
    labelled = [{**row, "label": int("please" in row["output"])} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
    (tmp_path / "rubric.yaml").write_text(
        "criteria:\n  - {name: polite, question: 'Is it?', anchors: {0: 'no', 1: 'yes'}}\n"
    )
    (tmp_path / "task.yaml").write_text(TASK)
    found = score(tmp_path / "rows.jsonl", task=load_task(tmp_path / "task.yaml"))
    assert found.quality.estimate == pytest.approx(2 / 3)
    assert found.summary["trusted"] is True
    assert found.summary["kappa"] == 1
    with pytest.raises(SettingError, match="--task TASK"):
        score(tmp_path / "rows.jsonl", "judge")


def test_a_judge_without_trust_decides_no_comparison(tmp_path, monkeypatch):
    from tunewise.scoring.compare import compare
    from tunewise.task import load_task

    (tmp_path / "score_judge.py").write_text(JUDGE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rubric.yaml").write_text(
        "criteria:\n  - {name: polite, question: 'Is it?', anchors: {0: 'no', 1: 'yes'}}\n"
    )
    (tmp_path / "task.yaml").write_text(TASK)
    a = [{"id": n, "input": str(n), "output": f"no {n}"} for n in range(60)]
    b = [{**row, "output": f"please {row['id']}"} for row in a]
    for name, rows in (("a", a), ("b", b), ("rows", b)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def found(people):
        labelled = [{**row, "label": people(row)} for row in (*a[:30], *b[30:])]
        (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))
        task = load_task(tmp_path / "task.yaml")
        return compare(tmp_path / "a.jsonl", tmp_path / "b.jsonl", task=task)

    agreed = found(lambda row: int("please" in row["output"]))
    assert (agreed.paired.answer, agreed.untrusted) == ("better", None)
    alone = found(lambda row: row["id"] % 2)
    assert (alone.paired.answer, alone.paired.difference) == ("cannot_tell", 1)
    assert "its kappa with people is 0.00" in alone.untrusted
    assert "the judge may not decide" in alone.sentence
