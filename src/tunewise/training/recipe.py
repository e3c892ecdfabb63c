"""The recipe of the ``lora`` rung: supervised fine-tuning of a LoRA adapter with TRL and PEFT.

Choices, and where they come from:
- adapters on all linear layers, alpha = 2 * rank: Biderman et al., "LoRA Learns Less and Forgets Less",
  TMLR 2024, sections 3 and 6 (attention alone learns less; alpha = 2r trains best).
- linear decay to zero after a short warm-up: Defazio et al., "Optimal Linear Decay Learning Rate Schedules
  and Further Refinements", 2023.
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
from typing import Any, Literal

from tunewise.errors import WorldError
from tunewise.progress import Progress
from tunewise.training import checkpoints
from tunewise.training.masks import TrainRow

Precision = Literal["fp32", "bf16"]
WARMUP_SHARE = 0.05
SAVE_SECONDS = 30.0  # at most so much work is lost to a kill, besides what epochs save


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides the weights, beside rows and base. ``batch_size`` in rows, ``epochs`` in passes.

    rows_per_pass: rows packed into one forward pass, a divisor of ``batch_size``; 0 lets the rows decide.
    packed: False trains on padded batches with TRL's own loss (slower, and what packing is checked against).
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

    @property
    def alpha(self) -> int:
        """LoRA's scale is ``alpha / rank``."""
        return 2 * self.rank


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An adapter to choose from. ``held_out_loss``: nats per answer token on held-out rows, None without."""

    step: int
    epoch: float
    folder: Path
    held_out_loss: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gave: its snapshots in order, and its figures, JSON-able."""

    snapshots: tuple[Snapshot, ...]
    facts: dict[str, Any]


def best_precision() -> Precision:
    """bf16 on GPUs that have it, else fp32.

    On CPUs fp32 even where bf16 is native. Measured with 135M parameters and AVX512-BF16: 15 % more tokens
    a second, and after four steps hardly anything learnt, since the first small differences of an adapter
    are lost when they are added to an output in bf16. Short runs cannot afford that.
    """
    import torch

    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def steps_per_epoch(rows: int, recipe: Recipe) -> int:
    """Optimiser steps in one pass over so many rows."""
    passes = math.ceil(rows / recipe.rows_per_pass)
    return max(1, math.ceil(passes / (recipe.batch_size // recipe.rows_per_pass)))


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


def train(
    base: Path,
    rows: Sequence[TrainRow],
    held_out: Sequence[TrainRow],
    recipe: Recipe,
    work: Path,
    progress: Progress,
    save_seconds: float = SAVE_SECONDS,
) -> Trained:
    """Train an adapter for the model in ``base`` on ``rows``, with a snapshot after every epoch in ``work``.

    Goes on from the last whole checkpoint in ``work``; the weights are those of an undisturbed run, bit for
    bit on the same machine and number of threads. held_out: rows whose loss is measured at every snapshot.
    The caller vouches that ``work`` belongs to these arguments (``checkpoints.begin``). Raises WorldError
    when the loss is no number any more.
    """
    with quiet():
        from tunewise.training import trainer

        started = time.monotonic()
        model = trainer.load_model(base, recipe)
        recipe = trainer.settle(model, rows, recipe)
        wanted = total_steps(len(rows), recipe)
        shape = (steps_per_epoch(len(rows), recipe), wanted, sum(map(len, rows)))
        loading = round(time.monotonic() - started, 2)
        watch = trainer.Watch(work, held_out, recipe, shape, progress, save_seconds)
        if not any(snapshot.step == wanted for snapshot in snapshots_in(work)):
            trainer.run(base, model, rows, recipe, watch)
        facts = trainer.describe(model) | {"memory": watch.memory.facts()}
        del model
        gc.collect()  # the trainer is full of cycles, and the finalists need the memory
    snapshots = snapshots_in(work)
    if any(s.held_out_loss is not None and not math.isfinite(s.held_out_loss) for s in snapshots):
        raise WorldError(
            "The loss on held-out rows is no number any more: training diverged. "
            f"Lower training.learning_rate (now {recipe.learning_rate}) and run again."
        )
    return Trained(snapshots, {**facts, **run_facts(rows, recipe, snapshots[-1]), "load_seconds": loading})


def run_facts(rows: Sequence[TrainRow], recipe: Recipe, last: Snapshot) -> dict[str, Any]:
    """The figures of a run for the report, from its last snapshot: what an earlier process did counts."""
    said = checkpoints.read_json(last.folder / "snapshot.json") or {}
    seconds, tokens = said.get("seconds", 0.0), round(sum(map(len, rows)) * recipe.epochs)
    return {
        "rows": len(rows),
        "epochs": recipe.epochs,
        "steps": last.step,
        "seconds": round(seconds, 2),
        "tokens": tokens,
        "loss_tokens": round(sum(len(row.answer) for row in rows) * recipe.epochs),
        "tokens_per_second": round(tokens / seconds, 1) if seconds > 0 else None,
        "learning_rate": recipe.learning_rate,
        "rank": recipe.rank,
        "alpha": recipe.alpha,
        "batch_size": recipe.batch_size,
        "rows_per_pass": recipe.rows_per_pass,
        "packed": recipe.packed,
        "precision": recipe.precision,
        "losses": [round(loss, 5) for loss in said.get("losses", [])],
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the training libraries' notices and bars off the terminal; errors still come through."""
    from tunewise.models.weights import quiet_transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with quiet_transformers():
            yield
