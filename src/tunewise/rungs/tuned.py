"""What the rungs ``lora``, ``qlora`` and ``full`` share: train on the train part, choose on selection, check.

They differ in the method alone (``training.methods``); each has a file of its own that names it.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewise.data import Example
from tunewise.ladder import NotBuilt
from tunewise.models.door import Door
from tunewise.rungs import learning_curve
from tunewise.rungs.certified import in_general_data
from tunewise.rungs.guard_symptoms import PROMPTS
from tunewise.rungs.guarded import Aftermath, Guarding, allowed, guarding_of, handed_over
from tunewise.rungs.prompt import PromptCandidate, PromptLayout, layout_of, too_long
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.search import selection_items
from tunewise.rungs.tuned_rows import LocalWeights, check_before, prepared, rows_of
from tunewise.rungs.tuned_settings import FEWEST_ROWS, SELECTION_ITEMS, model_named, settings_of
from tunewise.training import checkpoints, trust
from tunewise.training.forgetting import causes
from tunewise.training.guard import checked_after
from tunewise.training.measured import against_estimate
from tunewise.training.methods import DEFAULTS, Method
from tunewise.training.mixing import Mix
from tunewise.training.recipe import Recipe, Snapshot, Trained, train

FINALISTS = 2  # at most
PROBES = 3
Trainer = Callable[..., Trained]


def cannot_tune(bench: Workbench) -> str | None:
    """Without local weights nothing can be trained; with very few rows nothing is learnt; certification items
    in general data would be trained on.
    """
    if bench.tune_door is None:
        return bench.tune_door_missing
    if not bench.parts.train:
        return "there are no train rows to learn from"
    if len(bench.parts.train) < FEWEST_ROWS:
        return f"{len(bench.parts.train)} train rows are too few to train on; it takes {FEWEST_ROWS} or more"
    return in_general_data(bench)


def outlook_of(bench: Workbench) -> Outlook:
    """What a tuned rung takes: answers of two finalists, of the guard's symptoms, passes over the rows."""
    calls = FINALISTS * min(SELECTION_ITEMS, len(bench.parts.selection))
    guard = bench.task.guard
    if guard is not None and guard.data is not None and guard.mode != "off":
        calls += 2 * PROMPTS
    rows = len(bench.parts.train)
    training, most = bench.task.training, min(learning_curve.ITEMS, len(bench.parts.selection))
    calls += (len(learning_curve.SHARES) + 1) * most if training.curve is True else 0
    epochs = training.epochs * learning_curve.outlook_epochs(training.curve is True)
    return Outlook(build_calls=calls, train_rows=rows, epochs=epochs)


def build(bench: Workbench, method: Method, trainer: Trainer = train) -> PromptCandidate:
    """Train, choose a checkpoint, check it; or find the finished build of an earlier process.

    trainer: what trains, ``training.recipe.train`` or one with its arguments (many processes). Raises
    NotBuilt where an item does not fit the window, the errors of ``training.trust`` when the run cannot be
    trusted.
    """
    home = bench.folder / method
    base: Any = opened(bench, None)
    layout = layout_of(bench)
    guarding = guarding_of(bench, here=getattr(trainer, "func", trainer) is train)
    settings = {**settings_of(bench, base, layout, method), **guarding.settings_json()}
    settings["launch"] = getattr(trainer, "in_words", checkpoints.ALONE)
    settings = checkpoints.in_its_precision(home, settings, bench.task.training.precision == "auto")
    if thrown_away := checkpoints.begin(home, settings, refuse=bench.refuse_changes):
        text = f"{method}: training starts anew, since settings changed: " + "; ".join(thrown_away)
        bench.progress.tell("note", text=text)
    for text in checkpoints.versions_changed(home, settings):
        bench.progress.tell("note", text=f"{method}: {other_versions(text)}")
    done = checkpoints.finished(home)
    if done is None:
        refuse_unanswerable(bench, base, layout)
    facts = (
        done
        if done is not None
        else train_and_choose(bench, base, layout, method, settings, trainer, guarding)
    )
    candidate = candidate_at(bench, layout, tuned_folder(home, method), method, facts)
    return with_curve(bench, candidate, method, trainer)


def refuse_unanswerable(bench: Workbench, base: Door, layout: PromptLayout) -> None:
    """Raise NotBuilt where the tuned model, whose window may be shorter than the task's model's, cannot be
    asked every item: that shows before the training, not after it.
    """
    said = too_long(base, layout, (*bench.parts.selection, *bench.parts.certification))
    if said is not None:
        raise NotBuilt(said)


def other_versions(changed: str) -> str:
    """A warning of a library that changed under a run."""
    return (
        f"goes on under another library version ({changed}): the weights may differ a little from those of "
        "an undisturbed run"
    )


def with_curve(bench: Workbench, whole: PromptCandidate, method: Method, trainer: Trainer) -> PromptCandidate:
    """The candidate with what a learning curve would cost, and, where it is not forbidden, a way to get it.

    Who builds decides when: it takes three quarters of the training again.
    """

    def measured() -> dict[str, Any]:
        def part(some: Workbench) -> PromptCandidate:
            return build(some, method, trainer)

        return learning_curve.learning_curve(bench, bench.folder / method, whole, part)

    said = whole.with_facts(learning_curve=learning_curve.not_measured(whole.facts()))
    return said if bench.task.training.curve is False else replace(said, curve=measured)


def tuned_folder(home: Path, method: Method) -> Path:
    """Where a finished build lies."""
    return home / checkpoints.TUNED[method == "full"]


def train_and_choose(
    bench: Workbench,
    base: LocalWeights,
    layout: PromptLayout,
    method: Method,
    settings: dict[str, Any],
    trainer: Trainer,
    guarding: Guarding,
) -> dict[str, Any]:
    """The whole build; its last act is to write ``done.json``."""
    started = time.monotonic()
    home = bench.folder / method
    rows = prepared(bench, base, layout)
    for text in rows.notes(method):
        bench.progress.tell("note", text=text)
    check_before(bench, base, layout, rows)
    items = selection_items(bench, SELECTION_ITEMS)
    held_out = rows_of(bench, base, layout, items).rows if items else ()
    recipe = Recipe(**{**settings["recipe"], "targets": tuple(settings["recipe"]["targets"])})
    more: dict[str, Any] = {}
    if guarding.spec is not None:
        more["guard"] = replace(guarding.spec, base=base.weights_fingerprint)
    if rows.held is not None:
        more["general"] = rows.held.rows
    bench.make_room()
    trained = trainer(
        base.folder, rows.all, held_out, recipe, home / "work", bench.progress, mix=rows.mix, **more
    )  # fmt: skip
    snapshots = allowed(trained.snapshots, trained.guard) or trained.snapshots
    chosen, tried = choose(bench, layout, snapshots, items, method)
    after = aftermath_of(bench, base, layout, method, guarding, trained, items)
    kept, score = chosen.folder, next(r["selection_score"] for r in tried if r["step"] == chosen.step)
    if after is not None:
        kept, _, score = handed_over(
            after, trained.snapshots, chosen, tried, lambda: base_score(bench, layout, items)
        )
    tuned, kept_apart = put_away(home, method, kept, trained.snapshots[-1])
    check = trust.check_model if method == "full" else trust.check_adapter
    checks = check(base.folder, tuned, [*rows.own.rows, *held_out][:PROBES])
    if after is not None:
        after.conclude(tuned, recipe.learning_rate)
    facts = {
        **trained.facts,
        **({} if rows.pool is None else rows.pool.facts()),
        "guard": off_facts(guarding, trained) if after is None else after.guard,
        "too_long": rows.own.too_long,
        "checkpoint": {"step": chosen.step, "epoch": chosen.epoch}
        if after is None
        else {name: after.guard["kept"][name] for name in ("step", "epoch", "scale")},
        "last": kept_apart,
        "selection_score": score,
        "selection_items": len(items),
        "tried": tried,
        f"{tuned.name}_bytes": sum(file.stat().st_size for file in tuned.glob("*.safetensors")),
        "peak_memory_bytes": peak_memory(),
        "memory_estimate": against_estimate(model_named(bench), trained.facts),
        "causes_of_forgetting": said_causes(bench, recipe, rows.mix),
        "checks": checks,
        "build_seconds": round(time.monotonic() - started, 2),
    }
    checkpoints.write_json(home / "done.json", facts)
    shutil.rmtree(home / "work", ignore_errors=True)
    return facts


def put_away(home: Path, method: Method, kept: Path, last: Snapshot) -> tuple[Path, dict[str, Any]]:
    """Put what was chosen where it is handed over from, and the last snapshot beside it where it is another.

    The folder, and the facts of the last snapshot.
    """
    tuned, apart = tuned_folder(home, method), kept != last.folder
    checkpoints.publish(tuned, lambda folder: copy_tuned(kept, folder))
    if apart:
        checkpoints.publish(home / checkpoints.LAST, lambda folder: copy_tuned(last.folder, folder))
    return tuned, {"step": last.step, "epoch": last.epoch, "kept_apart": apart}


def said_causes(bench: Workbench, recipe: Recipe, mix: Mix | None) -> list[str]:
    """The known causes of forgetting that the settings and the train rows show, in words."""
    default = DEFAULTS[recipe.method].learning_rate
    found = causes(recipe, default, [example.answer for example in bench.parts.train], mix)
    return [cause.says for cause in found]


def aftermath_of(
    bench: Workbench,
    base: LocalWeights,
    layout: PromptLayout,
    method: Method,
    guarding: Guarding,
    trained: Trained,
    items: Sequence[Example],
) -> Aftermath | None:
    """What a guarded run still has to go through; None for one without a guard, whose reason is kept."""
    guard = trained.guard
    if guard is None or guarding.spec is None:
        return None
    if guard["off"] is not None and not checked_after(guard, guarding.spec.items):
        return None
    return Aftermath(
        bench=bench,
        guarding=guarding,
        method=method,
        base=base.folder,
        work=bench.folder / method / "work",
        guard=guard,
        score=lambda snapshot: selection_score(bench, layout, snapshot, items, method),
    )


def off_facts(guarding: Guarding, trained: Trained) -> dict[str, Any]:
    """A run that nothing watched: why."""
    guard = trained.guard or {}
    return {**guard, "verdict": "off", "why": guard.get("off") or guarding.off}


def base_score(bench: Workbench, layout: PromptLayout, items: Sequence[Example]) -> float | None:
    """Mean of the task's metric over the base's own answers; None without any."""
    door = opened(bench, None)
    try:
        candidate = PromptCandidate("zero-shot", door, layout)
        answers = bench.ask(door, [candidate.request(example) for example in items], "selection")
    finally:
        door.close()
    values = [bench.score(example, answer).value for example, answer in zip(items, answers, strict=True)]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def opened(bench: Workbench, adapter: Path | None) -> Door:
    """The tune door, with an adapter or without; ``cannot_help`` has seen to it that there is one."""
    assert bench.tune_door is not None
    return bench.tune_door(adapter)


def choose(
    bench: Workbench,
    layout: PromptLayout,
    snapshots: Sequence[Snapshot],
    items: Sequence[Example],
    method: Method,
) -> tuple[Snapshot, list[dict[str, Any]]]:
    """The snapshot with the best mean of the task's metric on ``items``, and one row for each that was seen.

    Answered are the last snapshot and, where that is another, the one of lowest held-out loss: in 58 runs the
    last was both, and the next best answered better in four, by less than two points. Ties go to the lower
    loss. Without items the last snapshot is taken, unmeasured.
    """
    last, lowest = snapshots[-1], min(snapshots, key=loss_of)
    finalists = [last, *([lowest] if loss_of(lowest) < loss_of(last) else [])] if items else []
    scores = {
        snapshot.step: selection_score(bench, layout, snapshot, items, method) for snapshot in finalists
    }
    tried = [
        {
            "step": snapshot.step,
            "epoch": snapshot.epoch,
            "held_out_loss": snapshot.held_out_loss,
            "selection_score": scores.get(snapshot.step),
        }
        for snapshot in snapshots
    ]
    known = [snapshot for snapshot in finalists if scores[snapshot.step] is not None]
    chosen = min(known, key=lambda s: (-(scores[s.step] or 0.0), loss_of(s)), default=snapshots[-1])
    return chosen, tried


def loss_of(snapshot: Snapshot) -> float:
    """Its loss on held-out rows, infinite without one."""
    return float("inf") if snapshot.held_out_loss is None else snapshot.held_out_loss


def selection_score(
    bench: Workbench, layout: PromptLayout, snapshot: Snapshot, items: Sequence[Example], method: Method
) -> float | None:
    """Mean of the task's metric over the answers of this snapshot; None when no answer came."""
    door = opened(bench, snapshot.folder)
    try:
        candidate = PromptCandidate(method, door, layout, adapter=snapshot.folder)
        answers = bench.ask(door, [candidate.request(example) for example in items], "selection")
    finally:
        door.close()
    values = [bench.score(example, answer).value for example, answer in zip(items, answers, strict=True)]
    known = [value for value in values if value is not None]
    bench.progress.tell(
        "building",
        rung=method,
        text=f"checkpoint of step {snapshot.step}: {fmean(known):.3f} on selection"
        if known
        else "no answers",
    )
    return fmean(known) if known else None


def copy_tuned(snapshot: Path, folder: Path) -> None:
    """The files of an adapter or of a model, and nothing of the run."""
    for file in sorted(snapshot.iterdir()):
        if file.name not in ("snapshot.json", checkpoints.MARK):
            shutil.copyfile(file, folder / file.name)


def peak_memory() -> int | None:
    """Most memory this process ever held, in bytes; None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:
        return None  # no such module on Windows
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def candidate_at(
    bench: Workbench, layout: PromptLayout, tuned: Path, method: Method, facts: dict[str, Any]
) -> PromptCandidate:
    """The candidate that answers with the adapter, or with the tuned model."""
    return PromptCandidate(method, opened(bench, tuned), layout, adapter=tuned, built=facts)
