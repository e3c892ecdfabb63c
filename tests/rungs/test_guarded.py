"""Which checkpoint a guard allows, which strength is kept, and what the verdict and the advice say."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tunewise.rungs.guarded import (
    Aftermath,
    advice_of,
    allowed,
    best_point,
    guarding_of,
    handed_over,
    verdict_of,
)
from tunewise.task import Task, Training
from tunewise.training.recipe import Snapshot


def snapshots(*steps):
    return [Snapshot(step, float(step), Path(f"s{step}"), None) for step in steps]


def timeline(*outcomes):
    return [
        {"step": step, "epoch": step / 2, "outcome": outcome, "drop": 0.2, "low": 0.1, "high": 0.3, "n": 200}
        for step, outcome in enumerate(outcomes, start=1)
    ]


def test_without_an_alarm_all_snapshots_may_be_chosen():
    found = allowed(snapshots(1, 2, 3), {"stopped_at": None, "timeline": timeline("not_proved", "clear")})
    assert [snapshot.step for snapshot in found] == [1, 2, 3]
    assert len(allowed(snapshots(1, 2), None)) == 2


@pytest.mark.parametrize(
    ("outcomes", "steps"),
    [
        (("clear", "not_proved", "alarm"), [1]),
        (("not_proved", "not_proved", "alarm"), [1, 2]),
        (("alarm",), []),
    ],
)
def test_after_an_alarm_the_clear_ones_are_allowed_else_the_unproved_else_none(outcomes, steps):
    guard = {"stopped_at": len(outcomes), "timeline": timeline(*outcomes)}
    assert [s.step for s in allowed(snapshots(1, 2, 3)[: len(outcomes)], guard)] == steps


def point(scale, score, outcome):
    return {"scale": scale, "selection_score": score, "outcome": outcome}


CURVE = [
    point(1.0, 0.9, "alarm"), point(0.75, 0.8, "not_proved"), point(0.5, 0.7, "clear"),
    point(0.25, 0.4, "clear"), point(0.0, 0.2, "clear"),
]  # fmt: skip


def test_the_best_clear_strength_is_kept_where_it_beats_the_clear_checkpoint():
    assert best_point(CURVE, 0.6, "clear") == 0.5
    assert best_point(CURVE, 0.7, "clear") is None
    assert best_point(CURVE, None, None) == 0.5
    assert best_point(CURVE, 0.75, "not_proved") == 0.5  # clear comes before better and not proved
    unproved = [row | {"outcome": "not_proved"} for row in CURVE[1:3]]
    assert best_point(unproved, None, None) == 0.75
    assert best_point([row | {"outcome": "alarm"} for row in CURVE[:3]], None, None) is None


def reading(outcome):
    return {"outcome": outcome, "drop": 0.1, "low": 0.05, "high": 0.15, "n": 400}


def guard(a, b):
    return {
        "kept": {"reading": a}, "check": b, "max_relative_drop": 0.05, "smallest_visible_drop": 0.2,
        "time_share": 0.1,
    }  # fmt: skip


class After:
    """What a guarded run goes through, with set B's outcome of each folder written down."""

    def __init__(self, stopped_at, on_b, mends=True):
        self.guard = {"stopped_at": stopped_at, "timeline": timeline("clear", "clear", "alarm")[:stopped_at]}
        self.on_b, self.mends, self.read, self.curve = on_b, mends, [], CURVE

    def check(self, folder):
        self.read.append(folder.name)
        return {"outcome": self.on_b[folder.name]}

    def repaired(self, last, base_score):
        return self.curve, {row["scale"]: Path(f"{last.folder.name} at {row['scale']}") for row in CURVE}

    def symptoms(self, folder):
        return {"of": folder.name}


TRIED = [{"step": step, "selection_score": 0.6} for step in (1, 2, 3)]


def test_an_alarm_on_set_b_alone_is_repaired_and_set_b_is_left_for_what_is_kept():
    after = After(None, {"s3": "alarm"})
    folder, scale, score = handed_over(after, snapshots(1, 2, 3), snapshots(3)[0], TRIED, lambda: 0.2)
    assert (folder.name, scale, score) == ("s3 at 0.5", 0.5, 0.7)
    assert after.guard["confirmation"] == {"outcome": "alarm"}
    assert after.guard["kept"]["step"] == 3
    assert after.read == ["s3"]
    assert "check" not in after.guard  # the strength that is kept is read after it was published


def test_no_strength_that_is_merely_not_proved_takes_the_place_of_what_failed_on_set_b():
    after = After(None, {"s3": "alarm"})
    after.curve = [row | {"outcome": "not_proved"} for row in CURVE[:4]]
    folder, scale, score = handed_over(after, snapshots(1, 2, 3), snapshots(3)[0], TRIED, lambda: 0.2)
    assert (folder.name, scale, score) == ("s3", 1.0, 0.6)
    assert after.guard["check"] == after.guard["confirmation"] == {"outcome": "alarm"}


def test_without_an_alarm_or_where_forgetting_is_ignored_what_was_chosen_is_handed_over():
    for after in (After(None, {"s2": "clear"}), After(None, {"s2": "alarm"}, mends=False)):
        folder, scale, _ = handed_over(after, snapshots(1, 2, 3), snapshots(2)[0], TRIED, lambda: 0.2)
        assert (folder.name, scale) == ("s2", 1.0)
        assert after.guard["check"] == {"outcome": after.on_b["s2"]}
        assert "repair" not in after.guard


def test_after_an_alarm_at_a_checkpoint_scaled_versions_of_it_compete_with_the_clear_one():
    after = After(3, {"s3": "alarm"})
    folder, scale, _ = handed_over(after, snapshots(1, 2, 3), snapshots(1)[0], TRIED, lambda: 0.2)
    assert (folder.name, scale) == ("s3 at 0.5", 0.5)  # 0.7 on selection against 0.6
    better = [row | {"selection_score": 0.8} for row in TRIED]
    folder, scale, _ = handed_over(
        After(3, {"s3": "clear"}), snapshots(1, 2, 3), snapshots(1)[0], better, float
    )
    assert (folder.name, scale) == ("s1", 1.0)


@pytest.mark.parametrize(("off", "items", "read"), [("short", 0, 200), ("short", 30, 200), (None, 80, 80)])
def test_a_repair_reads_what_checkpoints_read_and_enough_where_none_was_read(off, items, read, monkeypatch):
    monkeypatch.setattr("tunewise.rungs.guarded.some_of", lambda there, items, used, most: there[:most])
    guarding = SimpleNamespace(spec=SimpleNamespace(items=SimpleNamespace(a=list(range(500)))))
    after = SimpleNamespace(guarding=guarding, guard={"off": off, "items": items, "used": []})
    assert len(Aftermath.set_a(after)) == read


def test_an_alarm_on_either_set_fails_and_too_few_items_prove_nothing():
    assert verdict_of(guard(reading("clear"), reading("alarm")))[0] == "failed"
    assert verdict_of(guard(reading("clear"), reading("not_proved")))[0] == "clear"
    verdict, why = verdict_of(guard(reading("not_proved"), {"outcome": None, "n": 9, "why": "9 items"}))
    assert verdict == "not_proved"
    assert "so few items leave it open (guard: full reads all)" in why
    full = guard(reading("not_proved"), {"outcome": None, "n": 9, "why": "9 items"}) | {"time_share": None}
    assert "guard: full" not in verdict_of(full)[1]


def test_of_qlora_only_set_b_is_read_against_the_base_itself():
    read = guard(reading("clear"), reading("not_proved"))
    assert verdict_of(read, rounded=True)[0] == "not_proved"
    assert verdict_of(read | {"check": reading("clear")}, rounded=True)[0] == "clear"


def test_a_strength_that_set_a_picked_is_clear_only_where_set_b_says_so():
    picked = guard(reading("clear"), reading("not_proved"))
    picked["kept"]["scale"] = 0.5
    assert verdict_of(picked)[0] == "not_proved"
    assert "on set B" in verdict_of(picked)[1]
    assert verdict_of(picked | {"check": reading("clear")})[0] == "clear"
    assert verdict_of(picked | {"check": reading("alarm")})[0] == "failed"
    few = verdict_of(picked | {"check": {"outcome": None, "n": 9, "why": "9 items"}})
    assert few[0] == "not_proved"
    assert "on set A" in few[1]


def test_a_checkpoint_picked_after_an_alarm_is_clear_only_where_set_b_says_so():
    picked = guard(reading("clear"), reading("not_proved")) | {"stopped_at": 4}
    assert verdict_of(picked)[0] == "not_proved"
    assert verdict_of(picked | {"check": reading("clear")})[0] == "clear"
    assert verdict_of(picked | {"stopped_at": None})[0] == "clear"


def test_the_advice_names_the_figures_of_the_run(make_bench):
    bench = make_bench(lambda messages: "?")
    stopped = {"stopped_at": 3, "timeline": timeline("clear", "clear", "alarm")}
    said = " ".join(advice_of(bench, "full", stopped, 1e-3))
    assert "now 0.001; try 0.00033" in said
    assert "the alarm came after 1.50" in said
    assert "training.mix.general, share 0.30" in said
    assert "tune.method: lora" in said
    early = {"stopped_at": 2, "timeline": timeline("clear", "alarm")}
    assert "the alarm came after 1.00" in " ".join(advice_of(bench, "full", early, 1e-3))
    at_once = {"stopped_at": 1, "timeline": timeline("alarm")}
    assert "fewer epochs will not do" in " ".join(advice_of(bench, "full", at_once, 1e-3))
    assert advice_of(bench, "lora", {"timeline": timeline("clear")}, 1e-3) == []


def test_without_data_the_guard_is_off_with_what_to_set():
    task = Task(name="t", examples=Path("none"), metric="exact", target=0.8, training=Training())
    guarding = guarding_of(SimpleNamespace(task=task))
    assert guarding.spec is None
    assert "set guard.data to a folder" in guarding.off
    assert guarding.settings_json() == {}
