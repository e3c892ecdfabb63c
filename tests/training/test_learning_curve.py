"""The learning curve: the same rung on parts of its rows, on the same items, and what it says."""

import json

import pytest

pytest.importorskip("trl")

from tunewise.errors import WorldError
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
    assert not (run.folder.parent / "curve").exists()
    assert train("task.yaml", out="here", curve=True).facts == run.facts


def test_without_it_the_facts_say_what_it_would_cost(task_file):
    said = train(task_file, out="here").facts["learning_curve"]["not_measured"]
    assert "training.curve: true" in said


@pytest.mark.parametrize("guard", [{"stopped_at": 3, "kept": {"scale": 1.0}}, {"kept": {"scale": 0.5}}])
def test_what_the_guard_cut_short_or_weakened_is_no_point_of_a_curve(guard, tmp_path, make_example):
    from types import SimpleNamespace

    items = tuple(map(make_example, range(12)))
    bench = SimpleNamespace(parts=SimpleNamespace(selection=items, train=items), seed=0)
    whole = SimpleNamespace(facts=lambda: {"guard": {"stopped_at": None, **guard}})
    found = learning_curve.learning_curve(bench, tmp_path, whole, lambda some: pytest.fail("trained"))
    assert "the guard ended the training or weakened" in found["not_measured"]


def rung_of(decision):
    (rung,) = [one for one in decision.to_json()["rungs"] if one["rung"] == "lora"]
    return rung


def lora_of(decision):
    return rung_of(decision)["build"]["learning_curve"]


def test_a_rung_of_a_decision_that_does_not_meet_brings_its_curve_and_one_asked_for_later(task_file):
    import tunewise

    text = task_file.read_text().replace("target: 0.5", "target: 0.999")
    task_file.write_text(text.replace("lora_rank: 4", "lora_rank: 4, curve: false"))
    asked = {"rungs": ["lora"], "out": "climb"}
    assert "training.curve: true" in lora_of(tunewise.decide(task_file, **asked))["not_measured"]
    task_file.write_text(text)  # the same run goes on: the curve shapes no verdict
    curve = lora_of(tunewise.decide(task_file, **asked))
    assert len(curve["points"]) == 3
    assert lora_of(tunewise.decide(task_file, **asked)) == curve


def test_a_curve_that_fails_takes_nothing_else_with_it(task_file, monkeypatch):
    import tunewise

    def fails(*args):
        raise WorldError("no room")

    monkeypatch.setattr(learning_curve, "learning_curve", fails)
    task_file.write_text(task_file.read_text().replace("target: 0.5", "target: 0.999"))
    decision = tunewise.decide(task_file, rungs=["lora"], out="climb")
    assert lora_of(decision) == {"not_measured": "whether more rows would help was not measured: no room"}
    assert rung_of(decision)["verdict"] == "falls_short"


def test_with_few_rows_a_quarter_teaches_nothing(task_file):
    rows = (task_file.parent / "train.jsonl").read_text().splitlines(keepends=True)
    (task_file.parent / "train.jsonl").write_text("".join(rows[:28]))
    said = train(task_file, out="here", curve=True).facts["learning_curve"]["not_measured"]
    assert "a quarter of 28 rows is 7, too few" in said


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
