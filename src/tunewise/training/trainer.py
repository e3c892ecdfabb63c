"""TRL's SFTTrainer with packs in place of padded batches. Heavy: imported only when a run starts."""

import contextlib
import errno
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tunewise.errors import OutOfMemory, StoreError, WorldError
from tunewise.models import weights
from tunewise.models.precision import half, products
from tunewise.progress import Progress, Silent
from tunewise.training import checkpoints, lean, mixing, trust
from tunewise.training.anchor import Anchor
from tunewise.training.batches import Collate, LengthOrder, MixedOrder
from tunewise.training.held_out import on_device, pack_loss
from tunewise.training.masks import TrainRow
from tunewise.training.measured import MemoryWatch
from tunewise.training.methods import core_of
from tunewise.training.packing import (
    PASS_OVERHEAD,
    PASS_OVERHEAD_GPU,
    passes,
    rows_per_pass,
    rows_within,
    skewed,
    tensors,
)
from tunewise.training.recipe import WARMUP_SHARE, Recipe, largest_divisor

if TYPE_CHECKING:
    from tunewise.training.watch import Watch


DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
WRITE_FAILED = ("PytorchStreamWriter", "iostream error")  # what torch says of a full disk


class PackedTrainer(SFTTrainer):
    """SFTTrainer whose batches are packs, the output matrix applied only where a token carries loss.

    TRL 1.16 does so on GPUs with Triton; elsewhere it projects every position, and again backwards.
    A batch of tensors goes TRL's own way. Where memory runs out, the rows of a pass are halved, their number
    doubled, and the step is done again.
    """

    precision: str = "fp32"
    step_loss: float = 0.0
    memory: MemoryWatch | None = None
    most: int = 1  # rows in one pass
    balanced: bool = False
    lean: bool = False
    base: Path = Path()
    progress: Progress = Silent()
    mix: mixing.Mix | None = None
    anchor: Anchor | None = None
    step_kl: float = 0.0
    batch: tuple[TrainRow, ...] = ()  # of this step so far
    by_ids: Mapping[tuple[int, ...], TrainRow] = MappingProxyType({})
    told: bool = False  # of memory that ran out

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, in the precision of the recipe."""
        with half(self.precision, self.args.device.type):
            parent: Any = super()
            return parent.compute_loss(model, inputs, *args, **kwargs)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """The passes of one step, forward and backward; the step's loss is added to ``step_loss``."""
        if "batch" not in inputs:
            loss = self.padded(model, inputs, num_items_in_batch)
            self.step_loss += float(loss)
            return loss
        model.train()
        rows = inputs["batch"].rows
        self.batch = (*self.batch, *rows)
        while True:
            try:
                loss = self.all_passes(model, rows, num_items_in_batch)
                break
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self.make_smaller(error, min(self.most, len(rows)), max(map(len, rows)))
            model.zero_grad()  # what the passes before the last one left
        self.step_kl = self.pull(model)
        mean = torch.tensor(loss, device=self.args.device)
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(mean, "mean")
        self.step_loss += loss if self.accelerator.num_processes == 1 else float(mean)
        return mean

    def padded(self, model: Any, inputs: dict[str, Any], count: Any) -> Any:
        """A step on a padded batch TRL's own way, in parts of its rows where memory ran out.

        count: targets of the whole step, by which each part's sum is divided; without it parts cannot be put
        together.
        """
        parent: Any = super()
        rows, length = inputs["input_ids"].shape
        if self.memory is not None:
            self.memory.see_pass(rows * length, rows * length)
        self.batch = (*self.batch, *self.rows_in(inputs))
        while True:
            size = min(self.most, rows)
            parts = [
                {name: value[start : start + size] for name, value in inputs.items()}
                for start in range(0, rows, size)
            ]
            try:
                return sum(parent.training_step(model, part, count) for part in parts)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self.make_smaller(error, size if count is not None else 1, length)
            model.zero_grad()

    def rows_in(self, inputs: dict[str, Any]) -> list[TrainRow]:
        """The rows of a padded batch, known by their ids."""
        whole = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
        said = (tuple(one for one, real in zip(ids, mask, strict=True) if real) for ids, mask in whole)
        return [self.by_ids[ids] for ids in said if ids in self.by_ids]

    def all_passes(self, model: Any, rows: Sequence[TrainRow], count: Any) -> float:
        """Mean negative log-likelihood, in nats, of the targets of the whole step; gradients are added up.

        count: targets of the step in all processes, whose gradients are averaged: hence the factor.
        """
        packs = passes(rows, self.most, self.balanced)
        targets = sum(row.loss_tokens for row in rows) if count is None else count
        processes = self.accelerator.num_processes
        summed = 0.0
        for number, some in enumerate(packs, start=1):
            inputs = on_device(tensors(some, self.lean), self.args.device)
            waits = number < len(packs) and processes > 1
            with self.accelerator.no_sync(model) if waits else contextlib.nullcontext():
                if self.memory is not None:
                    self.memory.see_pass(inputs["input_ids"].numel(), inputs["logits_to_keep"].numel())
                with half(self.precision, self.args.device.type):
                    total, _ = pack_loss(model, inputs)
                loss = total / targets
                if processes > 1 and count is not None:
                    loss = loss * processes
                self.accelerator.backward(loss)
            summed += float(loss.detach())
        return summed

    def pull(self, model: Any) -> float:
        """The pass of the second loss; its KL in nats, 0 without an anchor."""
        if self.anchor is None:
            return 0.0
        inner = self.accelerator.unwrap_model(model)
        inputs = self.anchor.inputs(inner, self.state.global_step)
        try:
            with half(self.precision, self.args.device.type):
                divergence = self.anchor.divergence(inner, inputs)
            self.accelerator.backward(self.anchor.weight * divergence)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not weights.out_of_memory(error):
                raise
            raise WorldError(
                f"Out of memory in the pass of training.kl: {self.anchor.count} general rows, "
                f"{inputs['logits_to_keep'].numel()} answer tokens, each with logits of the whole vocabulary "
                "of the base and of the tuned model. Lower training.kl.rows, or shorten the rows of "
                "training.kl.general."
            ) from error
        return float(divergence.detach())

    def make_smaller(self, error: RuntimeError, before: int, longest: int) -> None:
        """Halve the ``before`` rows of a pass where memory ran out; an error this cannot mend is raised.

        Several processes end, since each waits for the gradients of all; who launched them halves.
        """
        if not weights.out_of_memory(error):
            raise error
        if before == 1 or self.accelerator.num_processes > 1:
            tried = "a single row" if before == 1 else f"{before} rows"
            raise OutOfMemory(
                f"Out of memory with {tried} in a pass (the longest row of the batch has {longest} tokens). "
                "Set training.checkpointing: true, shorten or drop the longest rows, use qlora, or take a "
                "smaller base.",
                rows=before,
            ) from error
        self.most = before // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self.told:
            self.told = True
            self.progress.tell(
                "note",
                text=f"training: out of memory with {before} rows in a pass; from now on {self.most}, "
                "with twice as many passes in a step (halved again where needed, without another word). "
                "The step is done again; results stay the same.",
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Our own order where general data is mixed in or batches are alike in length; else the trainer's."""
        if self.mix is not None:
            return MixedOrder(self.mix, self.args.seed)
        if self.args.train_sampling_strategy == "group_by_length":
            rows: Any = self.train_dataset if train_dataset is None else train_dataset
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps
            return LengthOrder([len(ids) for ids in rows["input_ids"]], step, self.args.seed)
        parent: Any = super()
        return parent._get_train_sampler(train_dataset)

    def _send_telemetry(self) -> None:
        """Nothing is sent: TRL reports architecture and GPU to the hub's host."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No README in checkpoints: they are ours and short-lived."""


def settle(model: Any, rows: Sequence[TrainRow], recipe: Recipe, beside: Sequence[TrainRow] = ()) -> Recipe:
    """The recipe with what depends on model and rows filled in: packed, lean, rows in one pass, spread.

    beside: rows that are read in the same way and not trained on (held-out ones, those of a KL).
    """
    packed = recipe.packed and trust.within_window(model, [*rows, *beside])
    packed = packed and trust.packing_agrees(model, rows)
    balanced = skewed(rows) if recipe.balanced is None else recipe.balanced
    wanted = recipe.lean is not False and packed and not recipe.kl_weight  # lean layers have no base to show
    wanted = wanted and not sharded()
    recipe = replace(recipe, packed=packed, balanced=balanced, lean=wanted and lean.agrees(model, rows))
    if recipe.rows_per_pass:
        return recipe
    if not packed:
        return replace(recipe, rows_per_pass=recipe.batch_size)
    if recipe.lean:
        return replace(recipe, rows_per_pass=rows_within(rows, recipe.batch_size))
    config = core_of(model).config.get_text_config()
    embeddings = {id(part.weight) for part in (model.get_input_embeddings(), model.get_output_embeddings())}
    layers = sum(p.numel() for p in model.parameters() if id(p) not in embeddings)
    layers *= 2 if recipe.method == "qlora" else 1  # two 4-bit weights lie in a byte
    count = rows_per_pass(
        rows,
        recipe.batch_size,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        parameters=layers,
        vocabulary=config.vocab_size,
        overhead=PASS_OVERHEAD if model.device.type == "cpu" else PASS_OVERHEAD_GPU,
    )
    return replace(recipe, rows_per_pass=count)


def run(
    base: Path,
    model: Any,
    rows: Sequence[TrainRow],
    recipe: Recipe,
    watch: "Watch",
    mix: mixing.Mix | None = None,
    anchor: Anchor | None = None,
    report_to: Sequence[str] = (),
) -> None:
    """Train ``model``, from the last whole checkpoint if there is one."""
    data = Dataset.from_dict(
        {
            "input_ids": [row.ids for row in rows],
            "labels": [row.labels for row in rows],
            "row": list(range(len(rows))),
        }
    )
    args: Any = config_of(recipe, watch, report_to)
    args._n_gpu = min(args.n_gpu, 1)  # one process trains on one GPU, also where several are seen
    exact = exact_adapter(model)
    trainer = PackedTrainer(
        model=model,
        args=args,
        train_dataset=data if recipe.packed else data.remove_columns("row"),
        processing_class=weights.load_tokenizer(base),
        data_collator=Collate(rows) if recipe.packed else None,
        callbacks=[watch],
    )
    for parameter, data in exact:
        parameter.data = data.to(parameter.device)
    del exact
    trainer.remove_callback(PrinterCallback)
    trainer.precision, trainer.base, trainer.progress = recipe.precision, base, watch.progress
    trainer.memory = watch.memory
    trainer.most, trainer.balanced, trainer.mix = recipe.rows_per_pass, bool(recipe.balanced), mix
    trainer.lean = bool(recipe.lean)
    trainer.by_ids = {} if recipe.packed else {tuple(row.ids): row for row in rows}
    trainer.anchor = anchor
    watch.trainer = trainer
    resumed = checkpoints.newest_whole(watch.work / "steps")
    try:
        with products(recipe.precision), lean.installed(model) if recipe.lean else contextlib.nullcontext():
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    except (OSError, SafetensorError, RuntimeError) as error:
        if (said := in_words(error, watch, recipe)) is None:
            raise
        raise said from error
    finally:
        watch.memory.close()
        watch.trainer = None  # they hold each other, and the trainer the weights


def in_words(error: Exception, watch: "Watch", recipe: Recipe) -> WorldError | None:
    """What to raise for a full disk or a full memory that ended a training; None for another error."""
    refused = isinstance(error, SafetensorError) or any(said in str(error) for said in WRITE_FAILED)
    if refused or getattr(error, "errno", None) in DISK_REFUSES:
        return StoreError(
            f"{watch.work}: a checkpoint could not be written: {error}. {watch.last_good()} Free some space, "
            "then run again."
        )
    if isinstance(error, RuntimeError) and weights.out_of_memory(error):
        other = "tune an adapter (lora, qlora)" if recipe.method == "full" else "take qlora or a smaller base"
        return WorldError(
            f"Out of memory beside the passes (AdamW's moments, held-out rows): {str(error).splitlines()[0]} "
            f"{watch.last_good()} Set training.checkpointing: true, or {other}."
        )
    return None


def exact_adapter(model: Any) -> list[tuple[Any, torch.Tensor]]:
    """What is trained beside 4-bit weights, to be put back: TRL rounds it to bf16, where updates get lost."""
    if not getattr(core_of(model), "is_loaded_in_4bit", False):
        return []
    return [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]


def config_of(recipe: Recipe, watch: "Watch", report_to: Sequence[str] = ()) -> SFTConfig:
    """The recipe in TRL's words. Saving and logging are the watch's; TRL logs where trackers are named.

    In one process, and where whole copies of the model are kept in step (DDP), a step is one batch that is
    packed into passes here. Where the model is sharded the trainer accumulates, one pass a time, since all
    processes must make the same number of passes; the rows of a pass then divide each process's share.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    share = recipe.batch_size // processes
    whole = recipe.packed and not sharded()
    rows = share if whole else largest_divisor(share, recipe.rows_per_pass)
    return SFTConfig(
        output_dir=str(watch.work / "steps"),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=share // rows,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=min(
            math.ceil(WARMUP_SHARE * watch.wanted), watch.wanted - 1
        ),  # one step alone has a rate
        seed=recipe.seed,
        data_seed=recipe.seed,
        # padded batches of rows far apart in length would be mostly padding; packs have none
        train_sampling_strategy="group_by_length" if recipe.balanced and not recipe.packed else "random",
        use_cpu=not torch.cuda.is_available(),
        ddp_backend=None if torch.cuda.is_available() or processes == 1 else "gloo",
        ddp_find_unused_parameters=False,
        bf16=False,  # autocast is in the passes: accelerate fixes its own for the whole process
        gradient_checkpointing=recipe.checkpointing,  # TRL's default is True: a third more time
        max_length=None,
        router_aux_loss_coef=0.0,  # it takes the mask of a batch, which packs have not
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="steps" if report_to else "no",
        logging_steps=1,
        report_to=list(report_to) or "none",
        disable_tqdm=True,
    )


def sharded() -> bool:
    """True where each process holds a part of the model's weights."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name) == "true" for name in names)
