"""LoRA: an adapter trained on the train part, the checkpoint chosen on selection."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from tunewise.data import Example, Message
from tunewise.models.door import Door
from tunewise.rungs.prompt import PromptCandidate, PromptLayout, layout_of
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.search import selection_items
from tunewise.training import checkpoints, trust
from tunewise.training.masks import Rendered, TrainRow, render_rows
from tunewise.training.measured import against_estimate
from tunewise.training.recipe import Recipe, Snapshot, best_precision, train

FEWEST_ROWS = 8
SELECTION_ITEMS = 40  # answered by each finalist
FINALISTS = 2
PROBES = 3


class LocalWeights(Protocol):
    """What training needs of an open door beyond answering (``models.local.LocalDoor``)."""

    folder: Path
    tokenizer: Any
    fingerprint: str
    context_window: int | None


class Lora:
    """Supervised fine-tuning of a LoRA adapter on the prompt layout of ``zero-shot``."""

    name = "lora"

    def cannot_help(self, bench: Workbench) -> str | None:
        """Without local weights nothing can be trained; with very few rows nothing is learnt."""
        if bench.tune_door is None:
            return bench.tune_door_missing
        if not bench.parts.train:
            return "there are no train rows to learn from"
        if len(bench.parts.train) < FEWEST_ROWS:
            return (
                f"{len(bench.parts.train)} train rows are too few to train on; it takes {FEWEST_ROWS} or more"
            )
        return None

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        calls = FINALISTS * min(SELECTION_ITEMS, len(bench.parts.selection))
        rows = len(bench.parts.train)
        return Outlook(build_calls=calls, train_rows=rows, epochs=bench.task.training.epochs)

    def build(self, bench: Workbench) -> PromptCandidate:
        """Train, choose a checkpoint, check it; or find the finished build of an earlier process.

        Raises the errors of ``training.trust`` when the run cannot be trusted.
        """
        home = bench.folder / self.name
        base: Any = opened(bench, None)
        layout = layout_of(bench)
        settings = settings_of(bench, base, layout)
        if thrown_away := checkpoints.begin(home, settings):
            text = "lora: training starts anew, since settings changed: " + "; ".join(thrown_away)
            bench.progress.tell("note", text=text)
        done = checkpoints.finished(home)
        facts = done if done is not None else self._train(bench, base, layout, home, settings)
        return candidate_at(bench, layout, home / "adapter", facts)

    def _train(
        self, bench: Workbench, base: LocalWeights, layout: PromptLayout, home: Path, settings: dict[str, Any]
    ) -> dict[str, Any]:
        """The whole build; its last act is to write ``done.json``."""
        started = time.monotonic()
        rendered = rows_of(base, layout, bench.parts.train)
        if rendered.too_long:
            bench.progress.tell("note", text=left_out(rendered, base.context_window))
        check_before(bench, base, layout, rendered.rows)
        items = selection_items(bench, SELECTION_ITEMS)
        held_out = rows_of(base, layout, items).rows if items else ()
        recipe = Recipe(**settings["recipe"])
        trained = train(base.folder, rendered.rows, held_out, recipe, home / "work", bench.progress)
        chosen, tried = choose(bench, layout, trained.snapshots, items)
        checkpoints.publish(home / "adapter", lambda folder: copy_adapter(chosen.folder, folder))
        checks = trust.check_adapter(base.folder, home / "adapter", [*rendered.rows, *held_out][:PROBES])
        adapter_bytes = (home / "adapter" / "adapter_model.safetensors").stat().st_size
        facts = {
            **trained.facts,
            "too_long": rendered.too_long,
            "checkpoint": {"step": chosen.step, "epoch": chosen.epoch},
            "selection_score": next(row["selection_score"] for row in tried if row["step"] == chosen.step),
            "selection_items": len(items),
            "tried": tried,
            "adapter_bytes": adapter_bytes,
            "peak_memory_bytes": peak_memory(),
            "memory_estimate": against_estimate(named(bench), trained.facts),
            "checks": checks,
            "build_seconds": round(time.monotonic() - started, 2),
        }
        checkpoints.write_json(home / "done.json", facts)
        shutil.rmtree(home / "work", ignore_errors=True)
        return facts


def named(bench: Workbench) -> str:
    """The model that is tuned, as the task names it."""
    tune = bench.task.tune
    spec = tune.model if tune is not None and tune.model is not None else bench.task.model
    return spec if isinstance(spec, str) else ""


def opened(bench: Workbench, adapter: Path | None) -> Door:
    """The tune door, with an adapter or without; ``cannot_help`` has seen to it that there is one."""
    assert bench.tune_door is not None
    return bench.tune_door(adapter)


def settings_of(bench: Workbench, base: LocalWeights, layout: PromptLayout) -> dict[str, Any]:
    """All that the adapter depends on, JSON-able: another value anywhere means another training run."""
    import hashlib
    import json
    from importlib.metadata import version

    training = bench.task.training
    said = [[[m.role, m.content] for m in messages_of(layout, e)] + [e.answer] for e in bench.parts.train]
    held = [example.key for example in selection_items(bench, SELECTION_ITEMS)]
    recipe = {
        "learning_rate": training.learning_rate,
        "epochs": training.epochs,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "rank": training.lora_rank,
        "batch_size": training.batch_size,
        "seed": bench.seed,
        "precision": best_precision(),
    }
    return {
        "base": base.fingerprint,
        "train_rows": hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        "held_out": hashlib.sha256(json.dumps(held).encode()).hexdigest(),
        "recipe": recipe,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def messages_of(layout: PromptLayout, example: Example) -> tuple[Message, ...]:
    """The chat that serving sends for an example: the layout without shots and passages."""
    return layout.messages(example.turns, (), ())


def rows_of(base: LocalWeights, layout: PromptLayout, examples: Sequence[Example]) -> Rendered:
    """The examples as ids, rendered as answering renders them."""
    from tunewise.models.tokens import render

    return render_rows(
        base.tokenizer, render, examples, lambda example: messages_of(layout, example), base.context_window
    )


def left_out(rendered: Rendered, window: int | None) -> str:
    """What the user should know of rows that do not fit."""
    return (
        f"lora: {rendered.too_long} train rows pass the model's context window of {window} tokens (the "
        f"longest has {rendered.longest}) and are left out of training"
    )


def check_before(
    bench: Workbench, base: LocalWeights, layout: PromptLayout, rows: Sequence[TrainRow]
) -> None:
    """The checks of ``trust`` before training: serving's own prompt is built and counted for every row."""
    from tunewise.models.tokens import stop_ids

    door: Any = base
    serving = PromptCandidate(Lora.name, door, layout)
    by_key = {example.key: example for example in bench.parts.train}

    def served(row: TrainRow) -> int | None:
        count: int | None = door.count_tokens(serving.layout.messages(by_key[row.key].turns, (), ()))
        return count

    keys = {example.key for example in bench.parts.certification}
    trust.check_rows(rows, stop_ids(base.tokenizer), served, keys)


def choose(
    bench: Workbench, layout: PromptLayout, snapshots: Sequence[Snapshot], items: Sequence[Example]
) -> tuple[Snapshot, list[dict[str, Any]]]:
    """The snapshot with the best mean of the task's metric on ``items``, and one row for each that was seen.

    Answered are the finalists: the last snapshot and those of lowest held-out loss. Ties go to the lower
    loss. Without items the last snapshot is taken, unmeasured.
    """
    by_loss = sorted(snapshots, key=loss_of)
    finalists = [snapshots[-1], *(s for s in by_loss if s is not snapshots[-1])][:FINALISTS] if items else []
    scores = {snapshot.step: selection_score(bench, layout, snapshot, items) for snapshot in finalists}
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
    bench: Workbench, layout: PromptLayout, snapshot: Snapshot, items: Sequence[Example]
) -> float | None:
    """Mean of the task's metric over the answers of this snapshot; None when no answer came."""
    door = opened(bench, snapshot.folder)
    try:
        candidate = PromptCandidate(Lora.name, door, layout, adapter=snapshot.folder)
        answers = bench.ask(door, [candidate.request(example) for example in items], "selection")
    finally:
        door.close()
    values = [bench.score(example, answer).value for example, answer in zip(items, answers, strict=True)]
    known = [value for value in values if value is not None]
    bench.progress.tell(
        "building",
        rung=Lora.name,
        text=f"checkpoint of step {snapshot.step}: {fmean(known):.3f} on selection"
        if known
        else "no answers",
    )
    return fmean(known) if known else None


def copy_adapter(snapshot: Path, folder: Path) -> None:
    """PEFT's two files, and nothing of the run."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(snapshot / name, folder / name)


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
    bench: Workbench, layout: PromptLayout, adapter: Path, facts: dict[str, Any]
) -> PromptCandidate:
    """The candidate that answers with the adapter."""
    return PromptCandidate(Lora.name, opened(bench, adapter), layout, adapter=adapter, built=facts)
