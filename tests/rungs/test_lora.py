"""When the ``lora`` rung cannot help, what it would take, and which checkpoint it takes."""

from pathlib import Path

import pytest

from tunewise.evidence.records import Score
from tunewise.models.scripted import ScriptedDoor
from tunewise.rungs.lora import Lora
from tunewise.rungs.prompt import layout_of
from tunewise.rungs.tuned import choose
from tunewise.rungs.tuned_settings import settings_of
from tunewise.training.recipe import Snapshot


def silent(messages):
    return "?"


@pytest.fixture
def bench_with_doors(make_bench, make_row):
    """``make(train rows, answers)``: a bench whose tune door answers by the name of the adapter's folder."""
    from dataclasses import replace

    def make(rows, scores=None):
        bench = make_bench(
            silent,
            train=[make_row(f"t{n}") for n in range(rows)],
            selection=[make_row(f"s{n}", answer="yes") for n in range(50)],
        )

        def door(adapter):
            right = (scores or {}).get(adapter.name if adapter else "", 0)
            door = ScriptedDoor(lambda messages: "yes" if int(messages[-1].content[1:]) < right else "no")
            door.fingerprint = f"with {adapter}"
            return door

        return replace(bench, tune_door=door)

    return make


def test_it_cannot_help_without_local_weights_or_with_few_rows(make_bench, bench_with_doors):
    assert Lora().cannot_help(make_bench(silent)) == "none here"
    assert Lora().cannot_help(bench_with_doors(0)) == "there are no train rows to learn from"
    assert "7 train rows are too few" in Lora().cannot_help(bench_with_doors(7))
    assert Lora().cannot_help(bench_with_doors(8)) is None


def test_outlook_counts_the_calls_of_two_finalists(bench_with_doors):
    outlook = Lora().outlook(bench_with_doors(20))
    assert (outlook.build_calls, outlook.train_rows, outlook.epochs) == (80, 20, 3.0)


def snapshot(step, loss):
    return Snapshot(step, float(step), Path(f"adapter-{step}"), loss)


@pytest.mark.parametrize(
    ("losses", "scores", "chosen", "measured"),
    [
        ([0.9, 0.5, 0.6], {"adapter-2": 10, "adapter-3": 40}, 3, {2, 3}),  # the metric decides
        ([0.9, 0.5, 0.6], {"adapter-2": 40, "adapter-3": 10}, 2, {2, 3}),
        ([0.9, 0.5, 0.6], {"adapter-2": 50, "adapter-3": 50}, 2, {2, 3}),  # a tie goes to the lower loss
        ([0.9, 0.6, 0.5], {"adapter-3": 40}, 3, {3}),  # the last is the one of lowest loss: alone
        ([0.9, 0.5, 0.5], {"adapter-3": 40}, 3, {3}),
        ([0.9], {"adapter-1": 10}, 1, {1}),
    ],
)
def test_the_metric_on_selection_chooses_among_the_last_and_the_lowest_loss(
    bench_with_doors, losses, scores, chosen, measured
):
    bench = bench_with_doors(20, scores)
    snapshots = [snapshot(step, loss) for step, loss in enumerate(losses, start=1)]
    found, tried = choose(bench, layout_of(bench), snapshots, bench.parts.selection, "lora")
    assert found.step == chosen
    assert {row["step"] for row in tried if row["selection_score"] is not None} == measured
    assert [row["held_out_loss"] for row in tried] == losses


def test_answers_that_never_came_choose_nothing(bench_with_doors):
    from dataclasses import replace

    bench = replace(bench_with_doors(20), score=lambda example, answer: Score("errored", None))
    found, tried = choose(
        bench, layout_of(bench), [snapshot(1, 0.4), snapshot(2, 0.5)], bench.parts.selection, "lora"
    )
    assert found.step == 2
    assert [row["selection_score"] for row in tried] == [None, None]


def test_settings_change_with_rows_instruction_and_seed_only(bench_with_doors):
    pytest.importorskip("torch")
    from dataclasses import replace

    bench = bench_with_doors(20)
    base = bench.tune_door(None)
    base.weights_fingerprint = base.fingerprint

    def settings(bench):
        return settings_of(bench, base, layout_of(bench), "lora")

    assert settings(bench) == settings(replace(bench))
    assert settings(bench) != settings(replace(bench, seed=1))
    fewer = replace(bench.parts, train=bench.parts.train[1:])
    assert settings(bench)["train_rows"] != settings(replace(bench, parts=fewer))["train_rows"]
    other = bench.task.model_copy(update={"instruction": "Say yes."})
    assert settings(bench)["train_rows"] != settings(replace(bench, task=other))["train_rows"]
