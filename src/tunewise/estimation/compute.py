"""Arithmetic and time of training: FLOPs per token, and how fast a GPU gets through them.

FLOPs (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; Narayanan et al. 2021, arXiv 2104.04473, appendix A
for recomputation): forward 2 per weight and token, backward 2 for the inputs' gradients and 2 for the
weights'. A frozen weight needs no gradient of its own, so LoRA pays 4 where full tuning pays 6; recomputation
adds 2.

Time is a sum of what a step waits for:

    products      executed FLOPs / (peak x the share of it that large products reach on this GPU)
    elementwise   bytes that norms, activations, residuals and the loss move / memory bandwidth
    adapters      bytes that the adapters' small products and casts move / memory bandwidth
    weights       bytes of dequantisation and of the optimizer / memory bandwidth, once a step
    launches      a fixed time per layer and step
    sharding      a fixed time per layer and step, and what the link cannot hide behind the products

The constants below were fitted on the runs of fms-acceleration (A100 80GB); how they do on
other trainers and GPUs is what ``benchmarks/training_time.py`` prints.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewise.estimation.hardware import CPU, Gpu
from tunewise.estimation.memory import Range
from tunewise.estimation.setup import QUANTISED, Setup
from tunewise.estimation.shapes import Shape

# Times that an activation saved for the backward pass is moved through memory in one pass with recomputation.
MOVES: Mapping[str, float] = {"plain": 37.0, "fused": 20.0}
# Unsloth is assumed to be as fast as its own kernels suggest; compiled runs count as fused.
FUSED = ("hf-fused", "unsloth")
ADAPTER_BYTES = 10.5  # per input and output element of an adapted matrix, token and pass
LAUNCH_SECONDS = 0.004  # per layer and step, on a GPU
SHARD_SECONDS = 0.0055  # per layer and step, gathering and scattering that nothing hides
SELECTIVE = 0.5  # of the products recomputed by selective checkpointing (torchtitan's per-operator default)
DEQUANTISED = 4.6  # bytes moved per 4-bit weight: read 0.6, write 2, read 2
OPTIMIZER_BYTES: Mapping[str, float] = {"adamw": 20.0, "adamw-fused": 14.0}  # per trained bf16 parameter
NODE_GPUS = 8
BETWEEN_NODES_GB_S = 50.0  # per GPU: one 400 Gbit/s card each, assumed
OFFLOAD_GB_S = 20.0  # to main memory and back over PCIe

# Half-widths of the interval as factors: the 5 % and 95 % residuals on the fitted GPU; wider where only the
# catalogue's figures speak.
SPREAD_FITTED = (0.87, 1.25)
SPREAD_OTHER = (0.70, 1.60)
SPREAD_CPU = (0.40, 2.50)
FITTED_ON = "A100"


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of one token in training. ``useful`` leaves out what is recomputed; ``executed`` does not."""

    forward: float
    backward: float
    recomputed: float

    @property
    def useful(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward

    @property
    def executed(self) -> float:
        """With recomputation."""
        return self.useful + self.recomputed


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a set-up trains.

    step_seconds: one optimizer step (all accumulated passes). tokens_per_second: padded, of all GPUs
    together. utilisation: useful FLOPs over the GPU's peak ("MFU"); executed_share counts recomputed ones
    too. parts: seconds of a step by what they are spent on. why: one sentence.
    """

    step_seconds: Range
    tokens_per_second: Range
    utilisation: float
    executed_share: float
    parts: Mapping[str, float]
    why: str


def visible_tokens(length: int, window: int | None) -> float:
    """Mean number of tokens that a causal query sees: half the length, less with a sliding window."""
    if window is None or window >= length:
        return length / 2
    return window * (1 - window / (2 * length))


def training_flops(shape: Shape, setup: Setup) -> Flops:
    """FLOPs per padded token. Attention counts the causal half: 4 x layers x query width x tokens seen."""
    setup = setup.complete()
    products = 2.0 * shape.matmul_parameters()
    seen = shape.over_layers(lambda window: visible_tokens(setup.seq_len, window))
    attention = 4.0 * shape.query_width * seen
    adapters = (
        2.0 * shape.active_lora_parameters(setup.lora_rank, setup.lora_targets)
        if setup.trains_adapter
        else 0.0
    )
    forward = products + attention + adapters
    backward = products + 2 * attention + 2 * adapters + (0.0 if setup.trains_adapter else products)
    again = {"none": 0.0, "selective": SELECTIVE * products, "full": forward}[setup.checkpointing]
    return Flops(forward, backward, again)


def speed(shape: Shape, setup: Setup, gpu: Gpu, factor: float = 1.0) -> Speed:
    """Time of one optimizer step of ``setup`` on ``setup.gpus`` GPUs of this kind.

    factor: measured over estimated time of earlier runs (``calibration``), 1 without.
    """
    setup = setup.complete()
    flops = training_flops(shape, setup)
    parts = _parts(shape, setup, gpu, flops)
    expected = sum(parts.values()) * factor
    low, high = (
        SPREAD_CPU if gpu.name == CPU else SPREAD_FITTED if gpu.name.startswith(FITTED_ON) else SPREAD_OTHER
    )
    if factor != 1.0:
        low, high = max(low, 0.85), min(high, 1.25)
    tokens = setup.micro_batch * setup.seq_len * setup.accumulation  # of one data-parallel GPU
    copies = setup.shards / setup.context_parallel
    model_gpus = setup.gpus / copies
    rate = tokens * copies / expected
    peak = peak_flops(setup, gpu) * model_gpus
    return Speed(
        step_seconds=Range(expected * low, expected, expected * high),
        tokens_per_second=Range(rate / high, rate, rate / low),
        utilisation=flops.useful * tokens / expected / peak,
        executed_share=flops.executed * tokens / expected / peak,
        parts={name: seconds * factor for name, seconds in parts.items()},
        why=_why(setup, gpu, parts, factor),
    )


def peak_flops(setup: Setup, gpu: Gpu) -> float:
    """FLOP/s of the format that is multiplied in; fp32 without TF32, which torch leaves off."""
    fp32 = gpu.name != CPU and setup.compute_dtype == "fp32"
    return ((gpu.fp32_tflops or gpu.tflops / 4) if fp32 else gpu.tflops) * 1e12


def _parts(shape: Shape, setup: Setup, gpu: Gpu, flops: Flops) -> dict[str, float]:
    """Seconds of one optimizer step by what they are spent on, shared by the GPUs of one replica."""
    replica = setup.gpus / setup.shards * setup.context_parallel  # GPUs that work on the same tokens
    tokens = setup.micro_batch * setup.seq_len / replica
    bandwidth = gpu.bandwidth_gb_s * 1e9
    passes = {"none": 3.0, "selective": 3 + SELECTIVE, "full": 4.0}[setup.checkpointing] / 4
    wide = 2.0 if setup.compute_dtype == "fp32" else 1.0
    kernels = "fused" if setup.compile or setup.stack in FUSED else "plain"
    per_pass = {
        "products": flops.executed * tokens / (peak_flops(setup, gpu) * gpu.reachable),
        "elementwise": MOVES[kernels] * activation_bytes(shape) * wide * passes * tokens / bandwidth,
        "adapters": ADAPTER_BYTES * _adapted(shape, setup) * passes * tokens / bandwidth,
    }
    if setup.weight_dtype in QUANTISED:
        gathers = 3.0 if setup.checkpointing == "full" else 2.0
        per_pass["weights"] = DEQUANTISED * shape.linear_parameters() * gathers / replica / bandwidth
    parts = {name: seconds * setup.accumulation for name, seconds in per_pass.items()}
    if not setup.trains_adapter:
        moved = OPTIMIZER_BYTES.get(setup.optimizer, 14.0) * wide * shape.parameters() / setup.gpus
        parts["weights"] = parts.get("weights", 0.0) + moved / bandwidth
    if gpu.name != CPU:
        parts["launches"] = LAUNCH_SECONDS * shape.layers * setup.accumulation / setup.pipeline_parallel
    parts |= _between_gpus(shape, setup, gpu, sum(parts.values()))
    return parts


def activation_bytes(shape: Shape) -> float:
    """Bytes per token that all blocks save for a backward pass in bf16, full tuning.

    Estimators' 16h + 4q + 4kv + 8I.
    """
    wide = 16 * shape.hidden + 4 * shape.query_width + 4 * shape.kv_width + 8 * shape.active_width
    return float(shape.layers * wide)


def _adapted(shape: Shape, setup: Setup) -> float:
    """Input and output elements of the adapted matrices that a token passes through, over all layers."""
    if not setup.trains_adapter:
        return 0.0
    found = 0.0
    for linear in shape.targeted(setup.lora_targets):
        copies = 1 if linear.name == "lm_head" else shape.layers * linear.active
        found += copies * (linear.inputs + linear.outputs)
    return found


def _between_gpus(shape: Shape, setup: Setup, gpu: Gpu, alone: float) -> dict[str, float]:
    """What several GPUs add to a step.

    The fixed cost of sharding, the link's excess over the work, offloading.
    """
    parts: dict[str, float] = {}
    trained = 2.0 * (shape.parameters() if not setup.trains_adapter else _trained(shape, setup))
    if setup.gpus > 1:
        link = (
            (gpu.link_gb_s or 1.0)
            if setup.gpus <= NODE_GPUS
            else min(gpu.link_gb_s or 1.0, BETWEEN_NODES_GB_S)
        )
        share = (setup.shards - 1) / setup.shards
        moved = 2 * trained * share  # reduce-scatter and all-gather of gradients, or an all-reduce
        if setup.sharding in ("fsdp", "zero3"):
            bits = 0.55 if setup.weight_dtype in QUANTISED else 2.0
            moved = (2 * bits * shape.parameters() * setup.accumulation + trained) * share
            parts["sharding"] = SHARD_SECONDS * shape.layers * setup.accumulation
        waited = moved / (link * 1e9) - alone
        if waited > 0:
            parts["sharding"] = parts.get("sharding", 0.0) + waited
    if setup.offload and "activations" not in setup.offload:
        parts["offload"] = 4 * trained / max(1, setup.shards) / (OFFLOAD_GB_S * 1e9)
    return parts


def _trained(shape: Shape, setup: Setup) -> int:
    return shape.lora_parameters(setup.lora_rank, setup.lora_targets)


def _why(setup: Setup, gpu: Gpu, parts: Mapping[str, float], factor: float) -> str:
    total = sum(parts.values())
    shares = sorted(((seconds / total, name) for name, seconds in parts.items()), reverse=True)
    said = ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.02)
    ground = (
        "fitted on published A100 runs"
        if gpu.name.startswith(FITTED_ON)
        else "this machine's speed is assumed"
        if gpu.name == CPU
        else f"carried over from A100 runs by {gpu.name}'s peak and bandwidth"
    )
    if factor != 1.0:
        ground = f"corrected by {factor:.2f} from measured runs"
    return (
        f"large products reach {gpu.reachable:.0%} of the peak; of a step's time: {said} "
        f"({setup.stack} kernels{', compiled' if setup.compile else ''}; {ground})"
    )
