"""What stands beside a training run: progress, checkpoints, snapshots, and a stop for what diverges."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType
from transformers import TrainerCallback, TrainerControl, TrainerState

from tunewise.errors import WorldError
from tunewise.progress import Progress
from tunewise.training import checkpoints, trust
from tunewise.training.guard import Guard
from tunewise.training.masks import TrainRow
from tunewise.training.measured import MemoryWatch
from tunewise.training.recipe import Recipe, snapshots_in, stopped_early

if TYPE_CHECKING:
    from tunewise.training.trainer import PackedTrainer

NAMED = 8  # rows named of a batch that diverged


class Watch(TrainerCallback):
    """Tells the progress, keeps the checkpoints, takes a snapshot after each epoch.

    seconds: time spent on steps so far, in earlier processes too. losses: one figure per step,
    as kl has where the model is held near its base.
    """

    def __init__(
        self,
        work: Path,
        held_out: Sequence[TrainRow],
        recipe: Recipe,
        shape: tuple[int, int, int],
        progress: Progress,
        save_seconds: float,
        guard: Guard | None = None,
    ) -> None:
        """shape: steps per epoch, steps in all, tokens of all rows of an epoch."""
        self.work, self.held_out, self.recipe, self.progress = work, held_out, recipe, progress
        self.per_epoch, self.wanted, self.tokens = shape
        self.save_seconds, self.guard = save_seconds, guard
        self.seconds = 0.0
        self.losses: list[float] = []
        self.kl: list[float] = []
        self.held_out_now: float | None = None
        self.memory = MemoryWatch()
        self.trainer: PackedTrainer | None = None
        self._mark = self._saved = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock where the resumed checkpoint left it."""
        said = checkpoints.read_json(self.work / "steps" / f"checkpoint-{state.global_step}" / "clock.json")
        if said is not None:
            self.seconds, self.losses, self.kl = said["seconds"], said["losses"], said["kl"]
        if self.guard is not None and state.is_world_process_zero:
            self.begin_guard(kwargs["model"])
        self._mark = self._saved = time.monotonic()

    def begin_guard(self, model: Any) -> None:
        """Let the guard read the base, which the model still is, or find what it read before."""
        from tunewise.models import weights
        from tunewise.training import methods

        assert self.guard is not None
        assert self.trainer is not None
        core, base = methods.core_of(self.trainer.accelerator.unwrap_model(model)), self.trainer.base
        tokens = self.tokens * self.wanted / self.per_epoch
        self.guard.begin(core, weights.load_tokenizer(base), weights.context_window(base), tokens)

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the memory of a few steps."""
        self.memory.before_step(kwargs["model"], kwargs["optimizer"])

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop before weights are touched by a loss or a gradient that is no number."""
        assert self.trainer is not None
        loss = self.trainer.step_loss
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise WorldError(
            f"Training diverged: at step {state.global_step + 1} the loss is {loss} and the gradient's norm "
            f"{norm}. The batch: {named(self.trainer.batch)}. {self.last_good()} Lower "
            f"training.learning_rate (now {self.recipe.learning_rate}) or look at these rows, and run again."
        )

    def last_good(self) -> str:
        """Which checkpoint stands, in words."""
        found = checkpoints.newest_whole(self.work / "steps") or checkpoints.newest_whole(
            self.work / "epochs"
        )
        if found is None:
            return "No checkpoint was written before."
        return f"The last good checkpoint, of step {checkpoints.step_of(found)}, is kept in {found}."

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell how far it is; ask for a checkpoint when the last one is long ago."""
        assert self.trainer is not None
        self.memory.after_step()
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        self.losses.append(self.trainer.step_loss)
        if self.recipe.kl_weight:
            self.kl.append(self.trainer.step_kl)
        self.trainer.step_loss, self.trainer.batch = 0.0, ()
        if state.is_world_process_zero:
            self.progress.tell(
                "training",
                rung=self.recipe.method,
                step=state.global_step,
                steps=self.wanted,
                loss=self.losses[-1],
                tokens_per_second=self.tokens / self.per_epoch * state.global_step / self.seconds,
                computed_tokens_per_second=self.memory.rate(),
                memory_bytes=self.memory.peak or None,
                held_out_loss=self.held_out_now,
                eta_seconds=self.seconds / state.global_step * (self.wanted - state.global_step),
            )
        if self.guarded(state) and state.global_step % self.per_epoch and state.global_step < self.wanted:
            self.snapshot(state, kwargs["model"])
        stopped = self.look(state)  # also at the last step, where the trainer has set its own stop already
        control.should_training_stop = control.should_training_stop or stopped
        # the snapshot of an epoch must be on disk before a checkpoint from which the epoch counts as done
        ends = state.global_step % self.per_epoch == 0 or state.global_step >= self.wanted
        ends = ends or control.should_training_stop
        control.should_save = not ends and self.agreed(now - self._saved >= self.save_seconds)

    def agreed(self, here: bool) -> bool:
        """What the first process says, in all of them: saving is done together."""
        if not torch.distributed.is_initialized():
            return here
        said = [here]
        torch.distributed.broadcast_object_list(said, src=0)
        return said[0]

    def guarded(self, state: TrainerState) -> bool:
        """Whether the guard reads the model after this step."""
        return self.guard is not None and state.global_step in self.guard.steps

    def look(self, state: TrainerState) -> bool:
        """Let the guard read the model where it is due; True when it stops the run, in all processes."""
        if self.guard is None:
            return False
        if state.is_world_process_zero and self.guarded(state):
            self.guard.look(state.global_step, state.epoch or 0.0, self.seconds)
        self.memory.leave_out(time.monotonic() - self._mark)
        self._mark = time.monotonic()
        stopped = self.guard.stopped_at
        return self.agreed(stopped is not None and state.global_step >= stopped)

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take a snapshot; ask for a checkpoint but at the very end. Comes after a stop, too."""
        folder = self.work / "epochs" / f"checkpoint-{state.global_step}"
        if not (self.guarded(state) and checkpoints.is_whole(folder)):
            self.snapshot(state, kwargs["model"])
        control.should_training_stop = control.should_training_stop or self.agreed(self.enough(state))
        control.should_save = state.global_step < self.wanted and not control.should_training_stop
        self._mark = time.monotonic()

    def enough(self, state: TrainerState) -> bool:
        """Whether the held-out loss says to stop; said to the reader. The first process has the snapshots."""
        patience = self.recipe.patience
        if not state.is_world_process_zero or state.global_step >= self.wanted:
            return False
        if stopped_early(snapshots_in(self.work), self.per_epoch, patience) is None:
            return False
        text = (
            f"{self.recipe.method}: stopped early after step {state.global_step} of {self.wanted}: the loss "
            f"on held-out rows did not fall in {patience} epochs (training.patience)"
        )
        self.progress.tell("note", text=text)
        return True

    def snapshot(self, state: TrainerState, wrapped: Any) -> None:
        """Write what was trained, with its loss on held-out rows."""
        from tunewise.training import methods
        from tunewise.training.held_out import held_out_loss

        assert self.trainer is not None
        model = self.trainer.accelerator.unwrap_model(wrapped)
        few = min(self.recipe.rows_per_pass, self.trainer.most)  # fewer where memory ran out
        recipe = replace(self.recipe, rows_per_pass=few)
        loss = self.held_out_now = held_out_loss(model, self.held_out, recipe)
        said = {
            "step": state.global_step,
            "epoch": state.epoch,
            "held_out_loss": loss,
            "seconds": self.seconds,
            "losses": self.losses,
            "kl": self.kl,
        }
        base = self.trainer.base
        parts = self.gathered(wrapped)

        def write(folder: Path) -> None:
            methods.save(model, folder, base, parts)
            if parts is None:
                trust.as_saved(model, folder)
            checkpoints.write_json(folder / "snapshot.json", said)

        if state.is_world_process_zero:
            checkpoints.publish(self.work / "epochs" / f"checkpoint-{state.global_step}", write)
        self._mark = time.monotonic()

    def clock(self) -> dict[str, Any]:
        """What a resumed run starts from."""
        return {"seconds": self.seconds, "losses": self.losses, "kl": self.kl}

    def gathered(self, model: Any) -> dict[str, Any] | None:
        """All weights where processes hold a part each, brought together by all of them; else None."""
        assert self.trainer is not None
        accelerator = self.trainer.accelerator
        if accelerator.distributed_type not in (DistributedType.FSDP, DistributedType.DEEPSPEED):
            return None
        parts: dict[str, Any] = accelerator.get_state_dict(model)
        return parts

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Vouch for the checkpoint just written, and remove older ones."""
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has its random state in the folder
        if state.is_world_process_zero:
            folder = self.work / "steps" / f"checkpoint-{state.global_step}"
            checkpoints.write_json(folder / "clock.json", self.clock())
            checkpoints.mark_whole(folder)
            checkpoints.prune(self.work / "steps")
        self._mark = self._saved = time.monotonic()


def named(rows: Sequence[TrainRow]) -> str:
    """The places of a batch's rows."""
    places = [row.place or row.key for row in rows]
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return (", ".join(places[:NAMED]) or "not known") + more
