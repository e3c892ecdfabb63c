"""One recipe for ``lora``, ``qlora`` and ``full``: supervised fine-tuning with TRL and PEFT.

Choices, and where they come from (what differs between the methods stands in ``training.methods``):
- adapters on all linear layers, alpha = 2 * rank: Biderman et al., "LoRA Learns Less and Forgets Less",
  TMLR 2024, sections 3 and 6 (attention alone learns less; alpha = 2r trains best).
- decay to zero, linear or cosine, after a warm-up of 5 % of the steps: see ``training.methods``.
- at most 3 epochs, weight decay 0.01, gradient norm 1.0 (the task file's defaults): Wei et al., "Finetuned
  Language Models Are Zero-Shot Learners", ICLR 2022, and Touvron et al., "Llama 2", 2023, tune for two to
  three; decoupled decay of 0.01 is Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019;
  clipping at 1.0 is Pascanu et al., ICML 2013, with the bound of Brown et al., "Language Models are Few-Shot
  Learners", 2020, appendix B.
- no dropout: with a few passes over the data the checkpoint choice guards against overfitting, and on a
  CPU dropout costs a random number for every input of every layer.
- loss on the answer and its stop token, averaged over the batch's answer tokens.
"""

import gc
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import WorldError
from tunewise.models.precision import Precision
from tunewise.progress import Progress
from tunewise.training import checkpoints
from tunewise.training.masks import TrainRow
from tunewise.training.methods import Method, Schedule
from tunewise.training.mixing import Mix

if TYPE_CHECKING:
    from tunewise.training.guard import GuardSpec

WARMUP_SHARE = 0.05
KL_ROWS = 2  # general rows of a step that the model is held near its base on
SAVE_SECONDS = 30.0  # at most so much work is lost to a kill, besides what epochs save


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the weights, beside rows and base. ``batch_size`` in rows, ``epochs`` in passes.

    rows_per_pass: rows packed into one forward pass, a divisor of ``batch_size``; 0 lets the rows decide.
    packed: False trains on padded batches with TRL's own loss (slower, and what packing is checked against).
    balanced: rows of a step are spread over its packs by length; None lets the rows decide.
    lean: layers compute with the operations of ``training.lean``; None lets the model decide.
    targets: the linear layers that get an adapter, by the last part of their names; none: all of them.
    checkpointing: states are computed again on the way back instead of kept: a third more time, and memory
    for one layer in place of all. kl_weight, kl_rows: see ``training.anchor``; a weight of 0 is none.
    patience: epochs in a row without a lower held-out loss, after which training stops; 0: it never does.
    """

    learning_rate: float
    epochs: float
    weight_decay: float
    max_grad_norm: float
    rank: int
    batch_size: int
    seed: int
    precision: Precision
    rows_per_pass: int = 0
    packed: bool = True
    balanced: bool | None = None
    lean: bool | None = None
    method: Method = "lora"
    schedule: Schedule = "linear"
    targets: tuple[str, ...] = ()
    lora_alpha: int | None = None
    checkpointing: bool = False
    kl_weight: float = 0.0
    kl_rows: int = KL_ROWS
    patience: int = 0

    @property
    def alpha(self) -> int:
        """LoRA's scale is ``alpha / rank``."""
        return 2 * self.rank if self.lora_alpha is None else self.lora_alpha


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An adapter or model to choose from. ``held_out_loss``: nats per answer token, None without rows."""

    step: int
    epoch: float
    folder: Path
    held_out_loss: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gave: its snapshots in order, and its figures, JSON-able. guard: ``Guard.facts``."""

    snapshots: tuple[Snapshot, ...]
    facts: dict[str, Any]
    guard: dict[str, Any] | None = None


def steps_per_epoch(rows: int, recipe: Recipe) -> int:
    """Optimiser steps in one pass over so many rows, the last batch counted whole."""
    return max(1, math.ceil(rows / recipe.batch_size))


def largest_divisor(share: int, most: int) -> int:
    """Of a process's share of a step, at most ``most``, so that its passes make up the whole step; else 0."""
    return max((rows for rows in range(1, most + 1) if share % rows == 0), default=0)


def total_steps(rows: int, recipe: Recipe) -> int:
    """Optimiser steps in the whole run."""
    return math.ceil(recipe.epochs * steps_per_epoch(rows, recipe))


def snapshots_in(work: Path) -> tuple[Snapshot, ...]:
    """The whole snapshots of a run's work folder, in order of steps."""
    found = []
    for folder in checkpoints.whole_ones(work / "epochs"):
        said = checkpoints.read_json(folder / "snapshot.json")
        if said is not None:
            found.append(Snapshot(said["step"], said["epoch"], folder, said["held_out_loss"]))
    return tuple(found)


def stopped_early(snapshots: Sequence[Snapshot], per_epoch: int, patience: int) -> int | None:
    """The step of the epoch's end at which training stops, None while it does not.

    It stops where ``patience`` epochs in a row did not lower the held-out loss (Goodfellow et al., "Deep
    Learning", 2016, algorithm 7.1). It follows from the snapshots alone, so that a run that was killed stops
    where an undisturbed one does. Snapshots within an epoch, which a guard takes, do not count.
    """
    best, worse = math.inf, 0
    for snapshot in snapshots:
        if not patience or snapshot.held_out_loss is None:
            return None
        if snapshot.step % per_epoch:
            continue
        better = snapshot.held_out_loss < best
        best, worse = (snapshot.held_out_loss, 0) if better else (best, worse + 1)
        if worse >= patience:
            return snapshot.step
    return None


def train(
    base: Path,
    rows: Sequence[TrainRow],
    held_out: Sequence[TrainRow],
    recipe: Recipe,
    work: Path,
    progress: Progress,
    save_seconds: float = SAVE_SECONDS,
    mix: Mix | None = None,
    guard: "GuardSpec | None" = None,
    general: Sequence[TrainRow] = (),
    report_to: Sequence[str] = (),
) -> Trained:
    """Train the model in ``base`` on ``rows``, with a snapshot after every epoch in ``work``.

    Goes on from the last whole checkpoint in ``work``; the weights are those of an undisturbed run, bit for
    bit on the same machine and number of threads. held_out: rows whose loss is measured at every snapshot.
    mix: the rows are those of the task followed by a pool of general ones, drawn from as it says. guard:
    watches for forgetting at a few checkpoints, each with a snapshot of its own, and may end the run; the
    weights are those of an unguarded run up to there. general: rows on which the model is held near its
    base, where ``recipe.kl_weight`` says so. report_to: trackers of transformers
    (``training.reporting``).
    The caller vouches that ``work`` belongs to these arguments (``checkpoints.begin``). Raises WorldError
    when the loss is no number any more, StoreError before the start where the disk is too small.
    """
    with quiet():
        from tunewise.training import anchor, methods, trainer
        from tunewise.training.guard import Guard
        from tunewise.training.tensor_memory import on_gpu_now
        from tunewise.training.watch import Watch

        started, others = time.monotonic(), on_gpu_now()
        model = methods.attach(methods.open_base(base, recipe), recipe)
        recipe = trainer.settle(model, rows, recipe, [*held_out, *general])
        in_epoch = len(rows) if mix is None else mix.total
        wanted = total_steps(in_epoch, recipe)
        shape = (steps_per_epoch(in_epoch, recipe), wanted, tokens_per_epoch(rows, mix))
        loading = round(time.monotonic() - started, 2)
        place = work / "guard.json"
        watcher = Guard(guard, place, wanted, recipe.method, progress, recipe.precision) if guard else None
        watch = Watch(work, held_out, recipe, shape, progress, save_seconds, watcher)
        watch.memory.others = others
        early = stopped_early(snapshots_in(work), shape[0], recipe.patience)
        ends = {wanted, early, watcher.stopped_at if watcher is not None else wanted}
        if not any(snapshot.step in ends for snapshot in snapshots_in(work)):
            snapshots_wanted = math.ceil(recipe.epochs) + (guard.checkpoints if guard else 0)
            checkpoints.need_space(work, methods.disk_need(model, snapshots_wanted))
            held = anchor.anchor_of(base, model, general, recipe)
            trainer.run(base, model, rows, recipe, watch, mix, held, report_to)
            del held
        if watcher is not None:
            watcher.close()
        facts = methods.describe(model) | {"memory": watch.memory.facts()}
        del model
        gc.collect()  # the trainer is full of cycles, and the finalists need the memory
    snapshots = snapshots_in(work)
    if any(s.held_out_loss is not None and not math.isfinite(s.held_out_loss) for s in snapshots):
        raise WorldError(
            "The loss on held-out rows is no number any more: training diverged. "
            f"Lower training.learning_rate (now {recipe.learning_rate}) and run again."
        )
    run = run_facts(rows, recipe, snapshots[-1], mix, snapshots[-1].step / wanted)
    if (early := stopped_early(snapshots, shape[0], recipe.patience)) is not None and early < wanted:
        run["stopped_early"] = {"step": early, "of": wanted, "patience": recipe.patience}
    return Trained(
        snapshots, {**facts, **run, "load_seconds": loading}, watcher.facts() if watcher is not None else None
    )


def tokens_per_epoch(rows: Sequence[TrainRow], mix: Mix | None) -> int:
    """Tokens of one pass; with a mix the general rows count with their mean length."""
    if mix is None or not mix.general:
        return sum(map(len, rows if mix is None else rows[: mix.task]))
    own, general = sum(map(len, rows[: mix.task])), sum(map(len, rows[mix.task :]))
    return own + round(general / mix.pool * mix.general)


def run_facts(
    rows: Sequence[TrainRow], recipe: Recipe, last: Snapshot, mix: Mix | None = None, done: float = 1.0
) -> dict[str, Any]:
    """The figures of a run for the report, from its last snapshot: what an earlier process did counts.

    done: the part of the planned steps that was made.
    """
    said = checkpoints.read_json(last.folder / "snapshot.json") or {}
    own = rows if mix is None else rows[: mix.task]
    seconds, tokens = said.get("seconds", 0.0), round(tokens_per_epoch(rows, mix) * recipe.epochs * done)
    adapter = {} if recipe.method == "full" else {"rank": recipe.rank, "alpha": recipe.alpha}
    mixed = {} if mix is None else {"mix": {"general": mix.general, "pool": mix.pool, "share": mix.effective}}
    return {
        "method": recipe.method,
        "rows": len(own),
        "epochs": recipe.epochs,
        "steps": last.step,
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "loss_tokens": round(sum(row.loss_tokens for row in own) * recipe.epochs * done),
        "tokens_per_second": round(tokens / seconds, 1) if seconds > 0 else None,
        "learning_rate": recipe.learning_rate,
        "schedule": recipe.schedule,
        **adapter,
        **mixed,
        "batch_size": recipe.batch_size,
        "rows_per_pass": recipe.rows_per_pass,
        "packed": recipe.packed,
        "checkpointing": recipe.checkpointing,
        "lean": bool(recipe.lean),
        "precision": recipe.precision,
        "losses": [round(loss, 5) for loss in said.get("losses", [])],
        **({"kl": [round(value, 6) for value in said.get("kl", [])]} if recipe.kl_weight else {}),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the training libraries' notices and bars off the terminal; errors still come through."""
    from tunewise.models.weights import quiet_transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with quiet_transformers():
            yield
