"""The learning curve: the same rung on parts of its rows, on the same items, and what it says."""

import json

import pytest

pytest.importorskip("trl")

from tunewise.evidence.paired import compare_graded
from tunewise.rungs import learning_curve
from tunewise.tuning import train


@pytest.fixture
def task_file(tiny, make_example, tmp_path, monkeypatch):
    parts = {"train": range(32), "selection": range(40, 52), "certification": range(100, 140)}
    for name, numbers in parts.items():
        rows = [{"input": e.input, "output": e.answer} for e in map(make_example, numbers)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: towns\ninstruction: name and town\nmetric: exact\ntarget: 0.5\n"
        "examples: {train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}\n"
        f"decoding: {{max_new_tokens: 4}}\nmodel: {tiny}\n"
        "training: {epochs: 1, learning_rate: 0.005, lora_rank: 4}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path / "task.yaml"


def test_a_run_with_its_curve_trains_on_parts_that_hold_each_other_and_is_found_again(task_file):
    run = train(task_file, out="here", curve=True)
    curve = run.facts["learning_curve"]
    assert [(point["rows"], point["share"]) for point in curve["points"]] == [(8, 0.25), (16, 0.5), (32, 1.0)]
    assert curve["items"] == curve["gain"]["n"] == 12
    assert "last doubling" in curve["says"]
    assert not (run.folder.parent.parent / "curve").exists()
    assert train("task.yaml", out="here", curve=True).facts == run.facts


def test_without_it_the_facts_say_what_it_would_cost(task_file):
    said = train(task_file, out="here").facts["learning_curve"]["not_measured"]
    assert "training.curve: true" in said


@pytest.mark.parametrize(
    ("setting", "score", "measured"),
    [
        ("auto", 0.49, True),
        ("auto", 0.5, False),
        ("auto", None, False),  # nothing was held out for selection
        (True, 0.9, True),
        (False, 0.1, False),
    ],
)
def test_by_default_the_curve_is_measured_where_a_rung_misses_its_target(setting, score, measured):
    assert learning_curve.wanted(setting, score, 0.5) is measured


def test_a_rung_of_a_decision_that_misses_its_target_brings_its_curve(task_file):
    import tunewise

    task_file.write_text(task_file.read_text().replace("target: 0.5", "target: 0.999"))
    run = tunewise.decide(task_file, rungs=["lora"], out="climb")
    (rung,) = [one for one in run.to_json()["rungs"] if one["rung"] == "lora"]
    assert len(rung["build"]["learning_curve"]["points"]) == 3


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([0.2, 0.3] * 40, [0.6, 0.7] * 40, "would probably help"),
        ([0.5] * 400, [0.5] * 400, "would hardly help"),
        ([0.1, 0.9] * 10, [0.9, 0.2] * 10, "cannot be told"),
    ],
)
def test_what_the_last_doubling_gained_decides_what_is_said(a, b, word):
    assert word in learning_curve.says(compare_graded(a, b, learning_curve.MARGIN))


def test_the_smaller_part_is_a_prefix_of_the_larger_whatever_the_order_of_the_file(make_example):
    from types import SimpleNamespace

    rows = [make_example(n) for n in range(20)]
    orders = [
        learning_curve.shuffled(SimpleNamespace(seed=0, parts=SimpleNamespace(train=some)))
        for some in (rows, rows[::-1])
    ]
    assert [e.key for e in orders[0]] == [e.key for e in orders[1]]
    assert [e.key for e in orders[0]] != [e.key for e in rows]
