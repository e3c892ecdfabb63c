"""Memory of a training run on each GPU: parts, phases, and what three instruments would show.

The peak is the maximum over phases, not a sum (derivations: docs/estimates.md):

    loss      weights + states + boundaries of all blocks + logits
    backward  weights + states + boundaries + one recomputed block + the gradients that exist by then
    step      weights + gradients + states + the optimizer's transient

``allocated`` is torch.cuda.max_memory_allocated, ``reserved`` torch.cuda.max_memory_reserved, ``device`` what
nvidia-smi shows. All in GiB (2^30 bytes) on the fullest GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewise.estimation import activations, activations_fp32, state
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape

GIB = float(2**30)
CONTEXT = 0.8  # GiB of a CUDA context with its kernels (0.45-0.95 on A100, stas00/ml-engineering)
NCCL = 1.5  # GiB of torch.distributed's buffers from the first collective on (same source)
POOLS = 0.9  # GiB of small blocks and rounding; at most 15 % of what is allocated
STEP_SLACK = 0.4  # of the gradients and transients of a sharded optimizer step that cannot be reused


@dataclass(frozen=True)
class Range:
    """A figure with the interval it lies in, GiB."""

    low: float
    expected: float
    high: float

    def plus(self, more: float) -> "Range":
        """The range moved up by a known amount."""
        return Range(self.low + more, self.expected + more, self.high + more)

    def as_dict(self) -> dict[str, float]:
        """For JSON, three decimals."""
        return {"low": round(self.low, 3), "expected": round(self.expected, 3), "high": round(self.high, 3)}


@dataclass(frozen=True)
class Memory:
    """What a run needs on each GPU and on the host, GiB."""

    parts: Mapping[str, float]
    phases: Mapping[str, float]
    peak: str  # the training phase with the highest memory
    allocated: Range
    reserved: Range
    device: Range
    evaluation: Range  # allocated, during an evaluation in training
    resume: Range  # allocated, while a checkpoint is loaded
    merge: Range  # host or GPU memory for merging the adapter into 16-bit weights
    host: float
    trainable: int
    warnings: tuple[str, ...] = field(default=())


def memory(shape: Shape, setup: Setup) -> Memory:
    """The memory that one run takes. Raises SettingError for a set-up that cannot be."""
    warnings = setup.warnings(shape)
    run = setup.complete()
    static = state.of(shape, run)
    moving = activations.of(shape, run)
    if run.compute_dtype == "fp32":
        moving = activations_fp32.of(shape, run, moving)
    training = _phases(shape, run, static, moving)
    peak = max(training, key=lambda name: training[name])
    expected = training[peak] / GIB
    held = (static.weights + static.adapter + static.optimizer) / GIB
    reserved = _reserved(run, expected, static, moving)
    device = reserved + CONTEXT + (NCCL if run.gpus > 1 else 0.0)
    paged = state.paged_bytes(shape, run) / GIB
    device += paged if run.capacity_gib is None else max(0.0, min(paged, run.capacity_gib - device))
    other = _other_phases(shape, run, static)
    parts = {name: amount / GIB for name, amount in (static.parts() | moving.parts()).items()}
    return Memory(
        parts=parts,
        phases={name: amount / GIB for name, amount in (training | other).items()},
        peak=peak,
        allocated=_range(run, shape, expected, held),
        reserved=_range(run, shape, reserved, held),
        device=_range(run, shape, device, held),
        evaluation=_range(run, shape, other["evaluation"] / GIB),
        resume=_range(run, shape, other["resume"] / GIB),
        merge=_range(run, shape, other["merge"] / GIB),
        host=state.host_bytes(shape, run) / GIB,
        trainable=state.trainable(shape, run),
        warnings=tuple(warnings),
    )


def _phases(
    shape: Shape, run: Setup, static: state.State, moving: activations.Activations
) -> dict[str, float]:
    """Bytes at the peak of each training phase."""
    held = static.weights + static.adapter + static.optimizer + static.gathered
    kept = static.gradients if run.accumulation > 1 or run.trains_adapter else 0.0
    loss = held + kept + moving.kept_forward + moving.loss
    first = held + max(kept, static.first_gradients) + moving.kept_backward + moving.block
    last = held + static.gradients + moving.kept_backward / shape.layers + moving.block
    step = static.weights + static.adapter + static.optimizer + static.gradients + static.step
    return {"loss": loss, "backward": max(first, last), "step": step}


def _other_phases(shape: Shape, run: Setup, static: state.State) -> dict[str, float]:
    """Bytes while evaluating during training, resuming, and merging an adapter."""
    held = static.weights + static.adapter + static.optimizer + static.gathered
    logits = run.tokens * shape.vocab * (6.0 if shape.upcasts_logits else 4.0)
    evaluation = held + logits + run.tokens * shape.hidden * 16.0
    resume = static.weights + static.adapter + 2 * static.optimizer
    merge = shape.parameters() * 2.0 if run.trains_adapter else 0.0
    return {"evaluation": evaluation, "resume": resume, "merge": merge}


def _range(run: Setup, shape: Shape, expected: float, held: float = 0.0) -> Range:
    """The interval around an expected figure; wider for guessed shapes and settings that were assumed.

    It does not reach below what the run holds from step to step.
    """
    more = shape.spread + run.doubt + (0.15 if run.tensor_parallel * run.pipeline_parallel > 1 else 0.0)
    found = run.coefficients
    low = max(0.3, 1.0 - found.spread_low - more)
    least = max(expected * low, min(0.97 * held, expected))
    return Range(least, expected, expected * (1.0 + found.spread_high + more))


def _reserved(run: Setup, allocated: float, static: state.State, moving: activations.Activations) -> float:
    """What the allocator holds, GiB: blocks it could not reuse stay until it would otherwise fail.

    Freed logits are too large for anything else; FSDP1 frees gathered blocks on another stream; the rest is a
    share of what comes and goes, and the small pools. On a card that is nearly full the cache is given back.
    """
    found = run.coefficients
    held = (static.weights + static.adapter + static.optimizer) / GIB
    slack = min(POOLS, 0.15 * allocated) + found.slack * max(0.0, allocated - held)
    if run.cross_entropy in ("logits", "fast"):
        slack += found.logits_slack * moving.logits / GIB
    if run.sharding == "fsdp":
        step = STEP_SLACK * (static.gradients + static.step) if run.method == "full" else 0.0
        slack += found.fsdp_slack * (static.gathered + step) / GIB
    if run.capacity_gib is not None:
        room = run.capacity_gib - CONTEXT - (NCCL if run.gpus > 1 else 0.0)
        slack = min(slack, max(0.01 * allocated, room - allocated))
    return allocated + slack
