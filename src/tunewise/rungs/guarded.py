"""A tuned rung under the forgetting guard: what is guarded with, which checkpoint is kept, what is repaired.

The order is train, choose on selection among what the guard allows, repair, check on set B; what comes out is
certified once, like any candidate.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewise.guard_words import kept_in_words
from tunewise.rungs.guard_symptoms import SymptomsSought, refuse_unreadable_text
from tunewise.rungs.rung import Workbench
from tunewise.task_guard import HUB
from tunewise.task_guard import Guard as GuardSettings
from tunewise.training.guard import CHECK_ITEMS, GuardSpec
from tunewise.training.guard_check import Served
from tunewise.training.guard_items import gather_items, some_of
from tunewise.training.methods import Method
from tunewise.training.recipe import Snapshot
from tunewise.training.repair import SCALES, write_scaled

NO_DATA = (
    "no general benchmark data is named: set guard.data to a folder that holds at least three benchmarks "
    "(hellaswag, piqa, arc_easy, lambada, ...), or to hub"
)
Scorer = Callable[[Snapshot], float | None]


@dataclass(frozen=True)
class Guarding:
    """What a build is guarded with; ``off``: why it is not."""

    spec: GuardSpec | None
    off: str | None
    settings: GuardSettings

    def settings_json(self) -> dict[str, Any]:
        """All that a guarded result depends on; nothing when the guard is off."""
        if self.spec is None:
            return {}
        return {"guard": {**self.settings.settings(), "items": self.spec.items.fingerprint}}


def guarding_of(bench: Workbench, here: bool = True) -> Guarding:
    """The guard that the task asks for, its items read. Raises DataError, DoorError or SettingError.

    here: training runs in this process, the only place where a guard can read the model in between.
    """
    settings = bench.task.guard or GuardSettings()
    if settings.mode == "off":
        return Guarding(None, "guard: off in the task", settings)
    if settings.data is None:
        return Guarding(None, NO_DATA, settings)
    if not here:
        return Guarding(
            None, "training runs in processes of its own, where it is not read in between", settings
        )
    folder = None if settings.data == HUB else Path(settings.data)
    items = gather_items(settings.benchmarks, folder)
    if folder is not None:
        refuse_unreadable_text(folder)
    spec = GuardSpec(
        items=items,
        max_relative_drop=settings.max_relative_drop,
        time_share=None if settings.mode == "full" else settings.time_share,
        stop=settings.forgetting == "stop",
    )
    return Guarding(spec, None, settings)


def allowed(snapshots: Sequence[Snapshot], guard: Mapping[str, Any] | None) -> list[Snapshot]:
    """The snapshots that may be chosen: all where no alarm stopped the run, else the clear ones.

    Without a clear one those that were read and are not proved either way; none where every reading alarms.
    """
    if guard is None or guard["stopped_at"] is None:
        return list(snapshots)
    outcomes = {entry["step"]: entry["outcome"] for entry in guard["timeline"]}
    for wanted in ("clear", "not_proved"):
        if found := [snapshot for snapshot in snapshots if outcomes.get(snapshot.step) == wanted]:
            return found
    return []


def handed_over(
    after: "Aftermath",
    snapshots: Sequence[Snapshot],
    chosen: Snapshot,
    tried: Sequence[Mapping[str, Any]],
    base_score: Callable[[], float | None],
) -> tuple[Path, float, float | None]:
    """What is published of a guarded run: folder, scale, selection score; ``kept`` is written down.

    chosen: by selection among what is ``allowed``. After an alarm at a checkpoint scaled versions of it
    compete with what was chosen on selection, as far as they are as clear on set A. After an alarm on set B
    alone, of what no checkpoint showed, scaled versions of what was chosen take its place; set B is read once
    more then, of the one strength that set A picked.
    """
    guard = after.guard
    outcomes = {entry["step"]: entry for entry in guard["timeline"]}
    reading = outcomes.get(chosen.step)
    score = next((row["selection_score"] for row in tried if row["step"] == chosen.step), None)
    folder, scale = chosen.folder, 1.0
    stopped = next((s for s in snapshots if s.step == guard["stopped_at"]), None)
    on_b = after.check((stopped or chosen).folder)
    if stopped is None and (on_b["outcome"] != "alarm" or not after.mends):
        guard["check"] = on_b
    else:
        last = stopped or chosen
        guard["repair"], folders = after.repaired(last, base_score())
        # what failed on set B is no rival, and what is not proved no way out of it
        rival = (None, "clear") if stopped is None else rival_of(reading, score)
        point = best_point(guard["repair"], *rival)
        if point is not None:
            row = next(row for row in guard["repair"] if row["scale"] == point)
            folder, scale, score, reading = folders[point], point, row["selection_score"], row
            chosen = last
        elif stopped is None:
            guard["check"] = on_b  # no strength is better: handed over, and failed, as it was trained
        guard["confirmation"] = on_b
        guard["stopped_symptoms"] = after.symptoms(last.folder)
    said = without(reading) if reading is not None else None
    guard["kept"] = {"step": chosen.step, "epoch": chosen.epoch, "scale": scale, "reading": said}
    return folder, scale, score


def rival_of(reading: Mapping[str, Any] | None, score: float | None) -> tuple[float | None, str | None]:
    """Selection score and outcome of the checkpoint that scaled versions have to beat; Nones without one."""
    if reading is None or reading["outcome"] == "alarm":
        return None, None
    return score, reading["outcome"]


@dataclass
class Aftermath:
    """What happens between the end of a guarded run and its certification."""

    bench: Workbench
    guarding: Guarding
    method: Method
    base: Path
    work: Path
    guard: dict[str, Any]
    score: Scorer

    def repaired(
        self, last: Snapshot, base_score: float | None
    ) -> tuple[list[dict[str, Any]], dict[float, Path]]:
        """The repair curve of the snapshot that lost too much, and where its scaled versions lie.

        base_score: of the base on selection, scale 0. Each point: task quality on selection, drop on set A.
        """
        began = time.perf_counter()
        asked = self.set_a()
        whole = self.served.compare(last.folder, asked, len(SCALES) + 1)
        rows = [{"scale": 1.0, "selection_score": self.score(last), **without(whole)}]
        folders: dict[float, Path] = {}
        for scale in SCALES:
            folder = self.work / "scales" / f"{scale:g}"
            write_scaled(self.base, last.folder, scale, folder, self.method)
            point = Snapshot(last.step, last.epoch, folder, None)
            read = self.served.compare(folder, asked, len(SCALES) + 1)
            rows.append({"scale": scale, "selection_score": self.score(point), **without(read)})
            folders[scale] = folder
            self.bench.progress.tell("note", text=f"{self.method}: {point_in_words(rows[-1])}")
        nothing = {"outcome": "clear", "n": len(asked), "drop": 0.0, "low": 0.0, "high": 0.0, "looks": 0}
        if (
            self.method != "qlora"
        ):  # without its adapter that is the base rounded to 4 bits, which is not the base
            rows.append({"scale": 0.0, "selection_score": base_score, **nothing})
        self.took(began)
        return rows, folders

    @property
    def mends(self) -> bool:
        """False where the task lets the rung win whatever it lost: then it is handed over as trained."""
        return self.guarding.settings.forgetting == "stop"

    @property
    def served(self) -> Served:
        """Reads what lies on disk."""
        assert self.guarding.spec is not None
        return Served(self.base, self.method, self.guarding.spec.items, self.guarding.spec.max_relative_drop)

    def set_a(self) -> list[Any]:
        """The items that the checkpoints were read on; CHECK_ITEMS where none was read, be it for too few."""
        assert self.guarding.spec is not None
        items, most = self.guarding.spec.items, CHECK_ITEMS if self.guard["off"] else self.guard["items"]
        return some_of(items.a, items, self.guard["used"], most)

    def check(self, tuned: Path) -> dict[str, Any]:
        """What is handed over, on set B: fresh items, as many as a checkpoint has, or CHECK_ITEMS."""
        assert self.guarding.spec is not None
        began = time.perf_counter()
        items = self.guarding.spec.items
        most = max(self.guard["items"], CHECK_ITEMS)
        found = self.served.compare(tuned, some_of(items.b, items, self.guard["used"], most))
        self.took(began)
        return found

    @cached_property
    def sought(self) -> SymptomsSought:
        """The prompts, and the base's answers to them."""
        return SymptomsSought(self.bench, self.guarding.settings, self.served)

    def symptoms(self, tuned: Path) -> dict[str, Any]:
        """Signs of degeneration in answers to general prompts, base and tuned."""
        began = time.perf_counter()
        tune_door = self.bench.tune_door
        assert tune_door is not None
        found = self.sought.of(tuned, lambda: tune_door(tuned))
        self.took(began)
        return found

    def conclude(self, tuned: Path, rate: float) -> None:
        """The check on set B, the symptoms, the verdict and what to change, all written into ``guard``."""
        if "check" not in self.guard:
            self.guard["check"] = self.check(tuned)
        self.guard["symptoms"] = self.symptoms(tuned)
        verdict, why = verdict_of(self.guard, rounded=self.method == "qlora")
        settings = self.guarding.settings
        self.guard.update(
            verdict=verdict,
            why=why,
            forgetting=settings.forgetting,
            mode=settings.mode,
            advice=advice_of(self.bench, self.method, self.guard, rate),
        )
        text = f"{self.method}: guard {verdict.replace('_', ' ')}: {why}"
        if "repair" in self.guard:
            text += f"; {kept_in_words(self.guard)}. To keep more: {'; '.join(self.guard['advice'])}"
        self.bench.progress.tell("note", text=text)

    def took(self, began: float) -> None:
        """Count time spent after training."""
        seconds = self.guard["seconds"]
        seconds["after"] = seconds.get("after", 0.0) + time.perf_counter() - began


def without(reading: Mapping[str, Any]) -> dict[str, Any]:
    """A reading without its benchmarks: one point of a curve."""
    return {name: value for name, value in reading.items() if name != "benchmarks"}


def best_point(
    rows: Sequence[Mapping[str, Any]], checkpoint: float | None, outcome: str | None
) -> float | None:
    """The scale that beats the kept checkpoint on selection, among scales as clear as can be had; None: none.

    checkpoint, outcome: selection score and guard outcome of the kept checkpoint, None without one.
    """
    wanted = ("clear",) if outcome == "clear" else ("clear", "not_proved")
    for kind in wanted:
        found = [
            r
            for r in rows
            if 0 < r["scale"] < 1 and r["outcome"] == kind and r["selection_score"] is not None
        ]
        if not found:
            continue
        best = max(found, key=lambda row: (row["selection_score"], row["scale"]))
        worse_kept = checkpoint is None or outcome != kind or best["selection_score"] > checkpoint
        return float(best["scale"]) if worse_kept else None
    return None


def verdict_of(guard: Mapping[str, Any], rounded: bool = False) -> tuple[str, str]:
    """``clear``, ``not_proved`` or ``failed`` for what is handed over, and why.

    A strength, or after an alarm a checkpoint, that was picked for being clear on set A is clear only where
    set B, which picked nothing, says so too. rounded: set A compared with the base rounded to 4 bits, so that
    only set B, read against the base itself, counts what rounding lost.
    """
    kept, check = guard["kept"], guard["check"]
    readings = [("set A", kept.get("reading")), ("set B", check)]
    picked = kept.get("scale", 1.0) < 1 or guard.get("stopped_at") is not None or rounded
    for place, reading in readings:
        if reading and reading["outcome"] == "alarm":
            return (
                "failed",
                f"{drop_in_words(reading)} on {place}, more than {100 * guard['max_relative_drop']:g} %",
            )
    if picked:
        readings.reverse()
    for place, reading in readings[:1] if picked else readings:
        if reading and reading["outcome"] == "clear":
            return "clear", f"{drop_in_words(reading)} on {place}"
    said = [f"{drop_in_words(r)} on {place}" for place, r in readings if r and r["outcome"]]
    shown = said[0] if said else "nothing was read"
    more = "" if guard.get("time_share") is None else " (guard: full reads all)"
    return "not_proved", f"{shown}; so few items leave it open{more}"


def drop_in_words(reading: Mapping[str, Any]) -> str:
    """A pooled drop with its interval."""
    if reading.get("drop") is None:
        return "no drop can be given"
    return (
        f"pooled drop {100 * reading['drop']:.1f} % (between {100 * reading['low']:.1f} and "
        f"{100 * reading['high']:.1f}, {reading['n']} items)"
    )


def point_in_words(row: Mapping[str, Any]) -> str:
    """One point of the repair curve."""
    score = "no answers" if row["selection_score"] is None else f"{row['selection_score']:.3f} on selection"
    return f"at {row['scale']:g} of its strength: {score}, {drop_in_words(row)}"


def advice_of(bench: Workbench, method: Method, guard: Mapping[str, Any], rate: float) -> list[str]:
    """What to change after an alarm, at a checkpoint or on set B, with the figures of this run."""
    entry = next((entry for entry in guard["timeline"] if entry["outcome"] == "alarm"), None)
    if entry is None and ("repair" in guard or (guard.get("check") or {}).get("outcome") == "alarm"):
        entry = guard["kept"]
    if entry is None:
        return []
    training = bench.task.training
    mix = training.mix
    said = [
        f"lower training.learning_rate (now {rate:g}; try {rate / 3:.2g})",
        f"train fewer epochs (now {training.epochs:g}; the alarm came after {entry['epoch']:.2f})"
        if entry["epoch"] > 1 or any(one["outcome"] == "clear" for one in guard["timeline"])
        else f"fewer epochs will not do: the alarm came after {entry['epoch']:.2f} of {training.epochs:g}",
        "mix in general data: training.mix.general, share 0.30"
        if mix is None
        else f"raise the share of general data (training.mix.share, now {mix.share:g})",
    ]
    if method == "full":
        said.append("tune an adapter (tune.method: lora) instead of all weights")
    elif training.lora_rank > 4:
        said.append(f"a smaller adapter (training.lora_rank, now {training.lora_rank})")
    return said
