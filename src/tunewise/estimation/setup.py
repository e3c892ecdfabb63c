"""One training set-up: everything besides the model that decides how much memory a run takes."""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import yaml

from tunewise.errors import SettingError
from tunewise.estimation.shapes import Shape

if TYPE_CHECKING:
    from tunewise.task import Task

Method = Literal["full", "lora", "qlora"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "method": ("full", "lora", "qlora"),
    "weight_dtype": ("fp32", "bf16", "fp16", "int8", "nf4", "nf4-dq", "fp4", "gptq-int4"),
    "compute_dtype": ("bf16", "fp16", "fp32"),
    "adapter_dtype": ("fp32", "bf16", "fp16"),
    "optimizer": (
        "adamw", "adamw-fused", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor", "sgd",
        "sgd-momentum", "lion", "lion-8bit", "adamw-4bit",
    ),
    "checkpointing": ("full", "selective", "none"),
    "attention": ("flash", "sdpa", "eager"),
    "cross_entropy": ("logits", "fast", "chunked", "fused"),
    "stack": ("hf", "hf-fused", "unsloth", "torchtune", "litgpt", "torchtitan"),
    "sharding": ("none", "ddp", "fsdp", "zero1", "zero2", "zero3"),
    "offload": ("optimizer", "weights", "activations"),
    "trained_whole": ("embedding", "head"),
}  # fmt: skip
DTYPE_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
QUANTISED = ("int8", "nf4", "nf4-dq", "fp4", "gptq-int4")
LONGEST = 16_777_216  # tokens in a sequence; beyond it a size is taken for a slip of the pen
LARGEST = {"micro_batch": 65_536, "accumulation": 1_048_576, "lora_rank": 65_536, "gpus": 131_072}


@dataclass(frozen=True)
class Coefficients:
    """One stack's coefficients; ``stacks.yaml`` says what each means."""

    cross_entropy: str
    ce_logits: float
    ce_fast: float
    ce_chunked: float
    ce_fused: float
    ce_plain_logits: float
    ce_plain_fast: float
    ce_hidden: float
    block_h: float
    compile_block: float
    compile_ce: float
    adapter_inputs: float
    checkpoints_on_host: bool
    peft_fsdp: float
    fsdp_masters: bool
    fused_optimizer: bool
    adapter_dtype: str
    kbit_fp32: bool
    slack: float
    logits_slack: float
    fsdp_slack: float
    spread_low: float
    spread_high: float


@functools.cache
def stacks() -> Mapping[str, Coefficients]:
    """Coefficient sets of the software stacks, from ``stacks.yaml``."""
    text = resources.files("tunewise.estimation").joinpath("stacks.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    common = found.pop("common")
    return {name: Coefficients(**(common | own)) for name, own in found.items()}


def as_trained_here(method: str, task: "Task | None" = None) -> dict[str, Any]:
    """Settings in which this package's own trainings differ from what a stack does by itself.

    ``full`` keeps its weights in fp32 also where matrices are multiplied in bf16 (``training.methods``);
    states are kept unless the task asks for checkpointing. task: whose batch and rank count as well.
    """
    found: dict[str, Any] = {"weight_dtype": "fp32"} if method == "full" else {}
    found["checkpointing"] = "none"
    if task is not None:
        training = task.training
        found |= {"lora_rank": training.lora_rank, "micro_batch": training.batch_size}
        found["checkpointing"] = "full" if training.checkpointing else "none"
    return found


@dataclass(frozen=True)
class Setup:
    """A run. ``None`` means what the stack does by itself; ``complete`` fills it in.

    ``seq_len`` is the longest padded sequence of the data in tokens, which sets the peak; ``mean_len`` the
    mean of the real ones, which sets the time (from a distribution: ``with_lengths``).
    """

    method: str = "lora"
    weight_dtype: str | None = None
    compute_dtype: str = "bf16"
    adapter_dtype: str | None = None
    optimizer: str = "adamw"
    optimizer_dtype: str | None = None
    optimizer_in_backward: bool = False
    lora_rank: int = 16
    lora_targets: tuple[str, ...] = ("all-linear",)
    trained_whole: tuple[str, ...] = ()  # beside an adapter: embedding, head
    lora_dropout: float = 0.0
    dora: bool = False
    double_quant: bool = True
    seq_len: int = 2048
    mean_len: float | None = None
    micro_batch: int = 1
    accumulation: int = 1
    checkpointing: str = "full"
    attention: str = "flash"
    cross_entropy: str | None = None
    stack: str = "hf"
    compile: bool = False
    fp32_residual: bool | None = None  # prepare_model_for_kbit_training and its like
    master_weights: bool | None = None  # float32 copies are what is sharded and stepped, 16-bit what computes
    gpus: int = 1
    sharding: str | None = None
    offload: tuple[str, ...] = ()
    tensor_parallel: int = 1
    context_parallel: int = 1
    pipeline_parallel: int = 1
    capacity_gib: float | None = None  # usable memory of the GPU: its allocator frees its cache there
    doubt: float = 0.0  # what the interval gains on each side, relative, for settings that had to be assumed
    corrections: tuple[tuple[str, float], ...] = ()  # of the stack's coefficients, by name (calibration)

    @functools.cached_property
    def coefficients(self) -> Coefficients:
        """The stack's coefficients with this run's corrections."""
        own = stacks()[self.stack]
        changes: dict[str, Any] = dict(self.corrections)
        return replace(own, **changes) if changes else own

    @property
    def tokens(self) -> int:
        """Padded tokens in one micro-batch on one GPU."""
        return max(1, self.micro_batch * self.seq_len // self.context_parallel)

    @property
    def trains_adapter(self) -> bool:
        """LoRA and QLoRA freeze the base."""
        return self.method != "full"

    @property
    def shards(self) -> int:
        """GPUs over which FSDP or ZeRO spread what they shard."""
        return max(1, self.gpus // (self.tensor_parallel * self.pipeline_parallel))

    def with_lengths(self, lengths: "list[int] | tuple[int, ...]") -> "Setup":
        """The set-up with the longest and the mean of the user's own token lengths."""
        if not lengths:
            raise SettingError("no lengths: expected at least one number of tokens")
        return replace(self, seq_len=max(lengths), mean_len=sum(lengths) / len(lengths))

    def complete(self) -> "Setup":
        """The same run with every None replaced by the stack's own default. Raises SettingError."""
        self._check_words()
        self._check_sizes()
        stack = self.coefficients
        weights = self.weight_dtype or {"qlora": "nf4"}.get(self.method, "bf16")
        masters = self.master_weights
        if masters is None:
            masters = self.coefficients.fsdp_masters and self.sharding == "fsdp" and self.gpus > 1
        if masters and self.method == "full":
            weights = "fp32"
        if weights == "nf4" and self.weight_dtype is None and self.double_quant:
            weights = "nf4-dq"
        self._check_pairs(weights)
        sharding = self.sharding or ("none" if self.gpus == 1 else "ddp")
        trainable = self.adapter_dtype or stack.adapter_dtype
        if self.method == "full":
            trainable = weights
        optimizer = self.optimizer
        if optimizer == "adamw" and stack.fused_optimizer:
            optimizer = "adamw-fused"
        residual = self.fp32_residual
        if residual is None:
            residual = weights in ("nf4", "nf4-dq", "fp4", "int8") and stack.kbit_fp32
        residual = residual and sharding not in ("fsdp", "zero3")  # these cast what enters a block
        return replace(
            self,
            weight_dtype=weights,
            adapter_dtype=trainable,
            cross_entropy=self.cross_entropy or stack.cross_entropy,
            optimizer=optimizer,
            sharding=sharding,
            offload=self._offloaded(stack.checkpoints_on_host),
            fp32_residual=residual,
            mean_len=self.mean_len or float(self.seq_len),
        )

    def _offloaded(self, always: bool) -> tuple[str, ...]:
        """What is offloaded, with the boundaries where the stack always sends them to the host."""
        if always and self.checkpointing == "full" and "activations" not in self.offload:
            return (*self.offload, "activations")
        return self.offload

    def _check_words(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            for word in value if isinstance(value, tuple) else (value,):
                if word is not None and word not in known:
                    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.4)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    raise SettingError(f"unknown {name} {word!r}{hint} Known: {', '.join(known)}")

    def _check_sizes(self) -> None:
        for name in ("seq_len", "micro_batch", "accumulation", "lora_rank", "gpus"):
            value, most = getattr(self, name), LARGEST.get(name, LONGEST)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingError(f"{name} must be a whole number from 1, got {value!r}")
            if value > most:
                raise SettingError(f"{name} {value:,} is absurd: expected at most {most:,}")
        if self.mean_len is not None and not 0 < self.mean_len <= self.seq_len:
            raise SettingError(
                f"mean_len must be above 0 and at most seq_len {self.seq_len}, got {self.mean_len!r}"
            )

    def _check_pairs(self, weights: str) -> None:
        if self.method == "qlora" and weights not in QUANTISED:
            raise SettingError(
                f"qlora trains on quantised weights ({', '.join(QUANTISED)}), got {weights!r}; say lora"
            )
        if self.method == "full" and weights in QUANTISED:
            raise SettingError(
                f"full fine-tuning cannot train quantised weights ({weights!r}); say qlora, or bf16"
            )
        if self.gpus > 1 and self.sharding == "none":
            raise SettingError(
                f"{self.gpus} GPUs need a way to share the work: ddp, fsdp, zero1, zero2 or zero3"
            )

    def warnings(self, shape: Shape) -> list[str]:
        """What is odd about this run of this model, though it can be estimated."""
        found = []
        if shape.max_positions and self.seq_len > shape.max_positions:
            found.append(
                f"seq_len {self.seq_len:,} exceeds the {shape.max_positions:,} positions of {shape.name}"
            )
        if self.gpus == 1 and self.sharding not in (None, "none"):
            found.append(f"sharding {self.sharding!r} over one GPU saves nothing")
        if self.sharding in ("fsdp", "zero3") and self.shards > shape.layers:
            found.append(
                f"{self.gpus} GPUs are more than {shape.layers} layers can use well with {self.sharding}"
            )
        tuned = shape.targeted(self.lora_targets) if self.trains_adapter else ()
        smallest = min((min(m.inputs, m.outputs) for m in tuned), default=0)
        if tuned and self.lora_rank > smallest:
            found.append(f"lora_rank {self.lora_rank} exceeds the width {smallest} of a matrix: full rank")
        if shape.note:
            found.append(shape.note)
        return found
