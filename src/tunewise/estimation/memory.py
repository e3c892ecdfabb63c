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

from tunewise.estimation import activations, state
from tunewise.estimation.setup import Setup, stacks
from tunewise.estimation.shapes import Shape

GIB = float(2**30)
CONTEXT = 0.6  # GiB of a CUDA context with its kernels (0.45-0.95 on A100, ml-engineering)
NCCL = 1.5  # GiB of torch.distributed's buffers from the first collective on (same source)


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
    training = _phases(shape, run, static, moving)
    peak = max(training, key=lambda name: training[name])
    spread = _spread(shape, run)
    expected = training[peak] / GIB
    allocated = Range(expected * (1 - spread), expected, expected * (1 + spread))
    reserved = _reserved(shape, run, allocated, static, moving)
    other = _other_phases(shape, run, static)
    parts = {name: amount / GIB for name, amount in (static.parts() | moving.parts()).items()}
    return Memory(
        parts=parts,
        phases={name: amount / GIB for name, amount in (training | other).items()},
        peak=peak,
        allocated=allocated,
        reserved=reserved,
        device=_device(run, reserved),
        evaluation=_around(other["evaluation"] / GIB, spread),
        resume=_around(other["resume"] / GIB, spread),
        merge=_around(other["merge"] / GIB, 0.05),
        host=state.host_bytes(shape, run) / GIB,
        trainable=state.trainable(shape, run),
        warnings=tuple(warnings),
    )


def _around(amount: float, spread: float) -> Range:
    return Range(amount * (1 - spread), amount, amount * (1 + spread))


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


def _spread(shape: Shape, run: Setup) -> float:
    """Relative half-width of the interval of allocated memory."""
    return float(stacks()[run.stack].get("spread", 0.10)) + shape.spread


def _reserved(
    shape: Shape, run: Setup, allocated: Range, static: state.State, moving: activations.Activations
) -> Range:
    """What the allocator holds: it cannot reuse every block, and gives back its cache before it fails."""
    stack = stacks()[run.stack]
    held = (static.weights + static.adapter + static.optimizer) / GIB
    slack = float(stack["slack"]) * max(0.0, allocated.expected - held)
    if run.cross_entropy in ("logits", "fast"):
        slack += float(stack["logits_slack"]) * run.tokens * shape.vocab / GIB
    expected = allocated.expected + slack
    if run.capacity_gib is not None:
        expected = max(allocated.expected * 1.01, min(expected, run.capacity_gib - CONTEXT))
    return Range(max(allocated.low, expected * 0.9), expected, max(expected, allocated.high + slack * 1.5))


def _device(run: Setup, reserved: Range) -> Range:
    """What nvidia-smi shows: the process's context and, on several GPUs, the collectives' buffers."""
    return reserved.plus(CONTEXT + (NCCL if run.gpus > 1 else 0.0))
