"""Training stops where held-out loss does not fall any more, in a resumed run as in an undisturbed one."""

from dataclasses import replace
from pathlib import Path

import pytest

from tunewise.progress import Silent
from tunewise.training import held_out, watch
from tunewise.training.recipe import Recipe, Snapshot, stopped_early, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=6.0, weight_decay=0.0, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", rows_per_pass=8, patience=2,
)  # fmt: skip


def snapshots(*losses):
    return [Snapshot(2 * n, float(n), Path(), loss) for n, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "patience", "step"),
    [
        ((3.0, 2.0, 1.0, 0.9), 2, None),
        ((3.0, 2.0, 2.5, 2.4), 2, 8),  # 2.4 is lower than 2.5, and not than the best
        ((3.0, 2.0, 2.5, 1.9, 2.0), 2, None),
        ((3.0, 3.0), 1, 4),
        ((3.0, float("nan"), float("nan")), 2, 6),
        ((1.0, 2.0, 3.0), 0, None),
        ((None, None, None), 1, None),
    ],
)
def test_it_stops_after_so_many_epochs_without_a_new_best(losses, patience, step):
    assert stopped_early(snapshots(*losses), 2, patience) == step


def test_snapshots_within_an_epoch_do_not_count():
    assert stopped_early(snapshots(1.0, 2.0, 3.0), 3, 1) is None  # only 6 ends an epoch
    assert stopped_early(snapshots(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), 3, 1) == 12


def test_the_usual_three_epochs_are_never_cut_short_by_the_default_patience(tmp_path):
    from tunewise.task import Training

    assert Training().patience == 2
    assert stopped_early(snapshots(1.0, 2.0, 3.0), 2, 2) == 6  # the last step of three epochs
    assert Training(patience=None).patience is None


def test_a_run_stops_says_so_and_is_found_stopped_when_it_is_started_again(tiny, rows, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.4, 9.0, 9.0])
    monkeypatch.setattr(held_out, "held_out_loss", lambda *args: next(losses))
    told = []

    class Told:
        def tell(self, event, **facts):
            told.append((event, facts.get("text", "")))

    run = train(tiny, rows[:16], rows[16:20], RECIPE, tmp_path, Told())
    assert [snapshot.step for snapshot in run.snapshots] == [2, 4, 6, 8]
    assert run.facts["stopped_early"] == {"step": 8, "of": 12, "patience": 2}
    assert run.facts["steps"] == 8
    assert [text for event, text in told if event == "note"] == [
        "lora: stopped early after step 8 of 12: the loss on held-out rows did not fall in 2 epochs "
        "(training.patience)"
    ]
    assert sum(event == "training" for event, _ in told) == 8
    again = train(tiny, rows[:16], rows[16:20], RECIPE, tmp_path, Told())
    assert sum(event == "training" for event, _ in told) == 8
    assert again.facts["stopped_early"] == run.facts["stopped_early"]


def test_without_patience_all_epochs_are_made(tiny, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "held_out_loss", lambda *args: 1.0)
    recipe = replace(RECIPE, patience=0, epochs=3.0)
    run = train(tiny, rows[:16], rows[16:20], recipe, tmp_path, Silent())
    assert run.facts["steps"] == 6
    assert "stopped_early" not in run.facts
    assert watch.stopped_early(run.snapshots, 2, 2) == 6
