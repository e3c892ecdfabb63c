"""TRL's SFTTrainer with packs in place of padded batches. Heavy: imported only when a run starts."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tunewise.errors import WorldError
from tunewise.models import weights
from tunewise.progress import Progress
from tunewise.training import checkpoints, trust
from tunewise.training.masks import IGNORED, TrainRow
from tunewise.training.measured import MemoryWatch
from tunewise.training.packing import rows_per_pass, tensors
from tunewise.training.recipe import WARMUP_SHARE, Recipe


class PackedTrainer(SFTTrainer):
    """SFTTrainer whose batches are packs, the output matrix applied only where a token carries loss.

    TRL 1.16 does so on GPUs with Triton; elsewhere it projects every position, and again backwards.
    A batch without ``logits_to_keep`` goes TRL's own way.
    """

    precision: str = "fp32"
    step_loss: float = 0.0
    memory: MemoryWatch | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood, in nats, of the targets of the whole step (all its packs)."""
        with half(self.precision, self.args.device.type):
            if "logits_to_keep" not in inputs:
                parent: Any = super()
                return parent.compute_loss(model, inputs, return_outputs, num_items_in_batch)
            if self.memory is not None:
                self.memory.see_pass(inputs["input_ids"].numel(), inputs["logits_to_keep"].numel())
            total, count = pack_loss(model, inputs)
        return total / (count if num_items_in_batch is None else num_items_in_batch)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """One pass forward and backward; its share of the step's loss is added to ``step_loss``."""
        parent: Any = super()
        loss = parent.training_step(*args, **kwargs)
        self.step_loss += float(loss)
        return loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No README in checkpoints: they are ours and short-lived."""


def pack_loss(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Summed negative log-likelihood in nats of a pack's targets, and how many there are."""
    targets = inputs["labels"].flatten()
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "shift_labels")}
    logits = model(**rest, use_cache=False).logits[0]
    total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
    return total, int((targets != IGNORED).sum())


@contextlib.contextmanager
def half(precision: str, device: str) -> Iterator[None]:
    """Multiply matrices in bf16 (sums in fp32) when ``precision`` says so."""
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextlib.contextmanager
def fast_fp32() -> Iterator[None]:
    """Let oneDNN multiply fp32 matrices on CPUs, where torch takes MKL by default.

    MKL leaves half of an AMD processor's width unused: measured 225 against 505 GFLOP/s on two cores of an
    EPYC with AVX-512, with errors of the same size. The name of the setting says that bf16 products are
    allowed; oneDNN makes use of that only with AMX, so there the setting stays as it is.
    """
    backend: Any = torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    if not torch.cpu.get_capabilities().get("amx_bf16"):
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def load_model(base: Path, recipe: Recipe) -> Any:
    """The base model in ``base`` with a fresh adapter, its weights drawn from the seed."""
    model = weights.load_model(base)
    torch.manual_seed(recipe.seed)
    return get_peft_model(
        model,
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )


def settle(model: Any, rows: Sequence[TrainRow], recipe: Recipe) -> Recipe:
    """The recipe with what depends on model and rows filled in: packed or not, rows in one pass."""
    packed = recipe.packed and trust.packing_agrees(model, rows)
    if recipe.rows_per_pass:
        return replace(recipe, packed=packed)
    if not packed:
        return replace(recipe, packed=False, rows_per_pass=recipe.batch_size)
    config = model.get_base_model().config.get_text_config()
    embeddings = {id(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings())}
    layers = sum(p.numel() for p in model.parameters() if id(p) not in embeddings)
    count = rows_per_pass(
        rows,
        recipe.batch_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        parameters=layers,
        vocabulary=config.vocab_size,
    )
    return replace(recipe, rows_per_pass=count)


def run(base: Path, model: Any, rows: Sequence[TrainRow], recipe: Recipe, watch: "Watch") -> None:
    """Train ``model``, from the last whole checkpoint if there is one."""
    data = Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [row.labels for row in rows]})
    trainer = PackedTrainer(
        model=model,
        args=config_of(recipe, watch),
        train_dataset=data,
        processing_class=weights.load_tokenizer(base),
        data_collator=collate if recipe.packed else None,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.precision = recipe.precision
    trainer.memory = watch.memory if recipe.packed else None
    watch.trainer = trainer
    resumed = checkpoints.newest_whole(watch.work / "steps")
    try:
        with fast_fp32():
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    finally:
        watch.memory.close()
        watch.trainer = None  # they hold each other, and the trainer the weights


def collate(examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Dataset rows as one pack."""
    rows = []
    for example in examples:
        labels = example["labels"]
        start = next(place for place, label in enumerate(labels) if label >= 0)
        ids = tuple(example["input_ids"])
        rows.append(TrainRow("", ids[:start], ids[start:]))
    return tensors(rows)


def config_of(recipe: Recipe, watch: "Watch") -> SFTConfig:
    """The recipe in TRL's words. Saving and logging are the watch's."""
    wanted = watch.wanted
    return SFTConfig(
        output_dir=str(watch.work / "steps"),
        per_device_train_batch_size=recipe.rows_per_pass,
        gradient_accumulation_steps=recipe.batch_size // recipe.rows_per_pass,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(WARMUP_SHARE * wanted),
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,  # autocast is in compute_loss: accelerate fixes its own for the whole process
        gradient_checkpointing=False,  # TRL's default recomputes every layer: a third more time
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class Watch(TrainerCallback):
    """Tells the progress, keeps the checkpoints, takes a snapshot after each epoch.

    seconds: time spent on steps so far, in earlier processes too. losses: one figure per step.
    """

    def __init__(
        self,
        work: Path,
        held_out: Sequence[TrainRow],
        recipe: Recipe,
        shape: tuple[int, int, int],
        progress: Progress,
        save_seconds: float,
    ) -> None:
        """shape: steps per epoch, steps in all, tokens of all rows."""
        self.work, self.held_out, self.recipe, self.progress = work, held_out, recipe, progress
        self.per_epoch, self.wanted, self.tokens = shape
        self.save_seconds = save_seconds
        self.seconds = 0.0
        self.losses: list[float] = []
        self.memory = MemoryWatch()
        self.trainer: PackedTrainer | None = None
        self._mark = self._saved = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock where the resumed checkpoint left it."""
        said = checkpoints.read_json(self.work / "steps" / f"checkpoint-{state.global_step}" / "clock.json")
        if said is not None:
            self.seconds, self.losses = said["seconds"], said["losses"]
        self._mark = self._saved = time.monotonic()

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Watch the memory of a few steps."""
        if self.recipe.packed:
            self.memory.before_step(kwargs["model"], kwargs["optimizer"])

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell how far it is; ask for a checkpoint when the last one is long ago."""
        assert self.trainer is not None
        self.memory.after_step()
        now = time.monotonic()
        self.seconds, self._mark = self.seconds + now - self._mark, now
        self.losses.append(self.trainer.step_loss)
        self.trainer.step_loss = 0.0
        if not math.isfinite(self.losses[-1]):
            raise WorldError(
                f"Training diverged: the loss at step {state.global_step} is {self.losses[-1]}. Lower "
                f"training.learning_rate (now {self.recipe.learning_rate}) and run again."
            )
        self.progress.tell(
            "training",
            rung="lora",
            step=state.global_step,
            steps=self.wanted,
            loss=self.losses[-1],
            tokens_per_second=self.tokens / self.per_epoch * state.global_step / self.seconds,
            eta_seconds=self.seconds / state.global_step * (self.wanted - state.global_step),
        )
        # the snapshot of an epoch must be on disk before a checkpoint from which the epoch counts as done
        ends = state.global_step % self.per_epoch == 0 or state.global_step >= self.wanted
        control.should_save = not ends and now - self._saved >= self.save_seconds

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the adapter with its loss on held-out rows; ask for a checkpoint but at the very end."""
        model = kwargs["model"]
        loss = held_out_loss(model, self.held_out, self.recipe)
        said = {
            "step": state.global_step,
            "epoch": state.epoch,
            "held_out_loss": loss,
            "seconds": self.seconds,
            "losses": self.losses,
        }

        def write(folder: Path) -> None:
            save_adapter(model, folder)
            trust.adapter_as_saved(model, folder)
            checkpoints.write_json(folder / "snapshot.json", said)

        checkpoints.publish(self.work / "epochs" / f"checkpoint-{state.global_step}", write)
        control.should_save = state.global_step < self.wanted
        self._mark = time.monotonic()

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Vouch for the checkpoint just written, and remove older ones."""
        folder = self.work / "steps" / f"checkpoint-{state.global_step}"
        checkpoints.write_json(folder / "clock.json", {"seconds": self.seconds, "losses": self.losses})
        checkpoints.mark_whole(folder)
        checkpoints.prune(self.work / "steps")
        self._mark = self._saved = time.monotonic()


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter in PEFT's layout, byte for byte the same for the same weights."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form that nobody filled in
    config = checkpoints.read_json(folder / "adapter_config.json") or {}
    config["target_modules"] = sorted(config["target_modules"])  # a set: its order differs between processes
    checkpoints.write_json(folder / "adapter_config.json", config)


def held_out_loss(model: Any, rows: Sequence[TrainRow], recipe: Recipe) -> float | None:
    """Mean negative log-likelihood in nats per answer token of ``rows``; None without rows."""
    if not rows:
        return None
    total, count = 0.0, 0
    was_training = model.training
    model.eval()
    size = recipe.rows_per_pass if recipe.packed else 1
    with torch.no_grad(), half(recipe.precision, model.device.type):
        for start in range(0, len(rows), size):
            inputs = {
                name: value.to(model.device) for name, value in tensors(rows[start : start + size]).items()
            }
            loss, targets = pack_loss(model, inputs)
            total, count = total + float(loss), count + targets
    model.train(was_training)
    return total / count


def describe(model: Any) -> dict[str, Any]:
    """Trained parameters and their share of all."""
    trained, everything = model.get_nb_trainable_parameters()
    return {"trainable_parameters": trained, "share": trained / everything}
