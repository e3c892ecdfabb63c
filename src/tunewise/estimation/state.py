"""What a run holds from step to step: weights, adapter, gradients, optimizer states; bytes on one GPU."""

import math
from dataclasses import dataclass, replace

from tunewise.estimation.setup import DTYPE_BYTES, Setup
from tunewise.estimation.shapes import Shape

# Bytes per weight of a quantised linear layer (Dettmers et al. 2023, arXiv 2305.14314, section 3): NF4 in
# blocks of 64 with a float32 scale; double quantisation keeps 8-bit scales in blocks of 256. GPTQ: groups of
# 128 with a 16-bit scale and a 4-bit zero. LLM.int8: one float32 scale per row, left out.
QUANTISED_BYTES = {
    "nf4": 0.5 + 4 / 64,
    "fp4": 0.5 + 4 / 64,
    "nf4-dq": 0.5 + 1 / 64 + 4 / (64 * 256),
    "gptq-int4": 0.5 + 2 / 128 + 0.5 / 128,
    "int8": 1.0,
}
# Optimizer states: bytes per trainable parameter as a multiple of the states' own dtype, or fixed.
STATES_OF_DTYPE = {"adamw": 2.0, "adamw-fused": 2.0, "lion": 1.0, "sgd-momentum": 1.0}
FIXED_STATES = {
    "adamw-8bit": 2.0 + 2 * 4 / 256,  # two 8-bit moments, a float32 scale per block of 256
    "adamw-4bit": 1.0 + 2 * 4 / 128,
    "lion-8bit": 1.0 + 4 / 256,
    "paged-adamw": 0.0,  # unified memory, which the framework does not count and which moves to the host
    "paged-adamw-8bit": 0.0,
    "adafactor": 0.01,  # one number per row and column of a matrix
    "sgd": 0.0,
}
SUB_GROUP = 1e9  # elements that DeepSpeed's stage 3 steps at a time by default
ZERO_BUCKET = 5e8  # elements: DeepSpeed's reduce_bucket_size and allgather_bucket_size by default
PAGED_BYTES = {"paged-adamw": 8.0, "paged-adamw-8bit": 2.0 + 2 * 4 / 256}


@dataclass(frozen=True)
class State:
    """Bytes on one GPU."""

    weights: float
    adapter: float
    gradients: float  # all of them, as after backward
    first_gradients: float  # those that exist when backward has done one block
    optimizer: float
    step: float  # the optimizer's transient
    gathered: float  # unsharded copies of what FSDP or ZeRO-3 has in use

    def parts(self) -> dict[str, float]:
        """By name, for the table."""
        return {
            "weights": self.weights,
            "adapter": self.adapter,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "step_transient": self.step,
            "gathered": self.gathered,
        }


def trainable(shape: Shape, run: Setup) -> int:
    """Parameters that training changes."""
    if run.method == "full":
        return shape.parameters()
    whole = sum(1 for name in run.trained_whole if name == "embedding" or not shape.tied)
    adapter = shape.lora_parameters(run.lora_rank, run.lora_targets, run.dora)
    return adapter + whole * shape.vocab * shape.hidden


def weight_bytes(shape: Shape, dtype: str, kbit_fp32: bool = False) -> float:
    """Bytes of all weights; what quantisation leaves alone stays 16-bit (float32 after k-bit preparation)."""
    if dtype not in QUANTISED_BYTES:
        return shape.parameters() * DTYPE_BYTES[dtype]
    inside = shape.linear_parameters()
    rest = shape.parameters() - inside
    return inside * QUANTISED_BYTES[dtype] + rest * (4.0 if kbit_fp32 else 2.0)


def state_bytes(run: Setup) -> float:
    """Optimizer bytes per trainable parameter on the GPU."""
    dtype = run.optimizer_dtype or run.adapter_dtype or "bf16"
    if run.optimizer not in STATES_OF_DTYPE:
        return FIXED_STATES[run.optimizer] + (4.0 if _deepspeed_master(run) else 0.0)
    if _deepspeed_master(run):
        return STATES_OF_DTYPE[run.optimizer] * 4.0 + 4.0
    return STATES_OF_DTYPE[run.optimizer] * DTYPE_BYTES.get(dtype, 2.0)


def _deepspeed_master(run: Setup) -> bool:
    """DeepSpeed steps float32 masters of 16-bit parameters: 12 bytes of AdamW state for each."""
    return str(run.sharding).startswith("zero") and run.adapter_dtype != "fp32"


def of(shape: Shape, run: Setup) -> State:
    """The state of a completed set-up on one GPU."""
    weights = weight_bytes(shape, str(run.weight_dtype), bool(run.fp32_residual))
    count = trainable(shape, run)
    each = DTYPE_BYTES[str(run.adapter_dtype)]
    adapter = count * each if run.trains_adapter else 0.0
    gradients = count * each
    optimizer = count * state_bytes(run)
    step = count * each if run.optimizer in ("adamw", "lion", "sgd-momentum") else 0.0
    first = (
        (shape.block_parameters() + shape.vocab * shape.hidden) * each if run.method == "full" else gradients
    )
    if run.optimizer_in_backward:
        gradients = first = min(gradients, first)
        step = min(step, first)
    model = run.tensor_parallel * run.pipeline_parallel
    weights, adapter, gradients, optimizer, step = (
        amount / model for amount in (weights, adapter, gradients, optimizer, step)
    )
    first = min(first / run.tensor_parallel, gradients)
    return _sharded(shape, run, State(weights, adapter, gradients, first, optimizer, step, 0.0))


def _sharded(shape: Shape, run: Setup, whole: State) -> State:
    """Divide what the sharding divides (Rajbhandari et al. 2020, arXiv 1910.02054, section 5)."""
    n = run.shards
    by_states = n if run.sharding in ("zero1", "zero2", "zero3", "fsdp") else 1
    by_gradients = n if run.sharding in ("zero2", "zero3", "fsdp") else 1
    if _deepspeed_master(run):  # a float32 copy of 16-bit gradients; stage 3 makes it piece by piece
        piece = 4.0 * SUB_GROUP * n if run.sharding == "zero3" else math.inf
        whole = replace(whole, step=min(2.0 * whole.gradients, piece))
    by_weights = n if run.sharding in ("zero3", "fsdp") else 1
    weights, adapter = whole.weights / by_weights, whole.adapter / by_weights
    gradients, optimizer = whole.gradients / by_gradients, whole.optimizer / by_states
    step = whole.step / by_states
    first = whole.first_gradients
    gathered = _buckets(shape, run)
    if by_weights > 1:
        gathered += _gathered(shape, run)
        first = min(whole.first_gradients, (shape.vocab * shape.hidden + shape.block_parameters()) * 2.0)
        first = first if run.method == "full" else gradients
    if "optimizer" in run.offload:
        optimizer = step = 0.0
        gradients = gradients if by_gradients == 1 else 0.0
    if "weights" in run.offload:
        weights = adapter = 0.0
    return State(weights, adapter, gradients, first, optimizer, step, gathered)


def _buckets(shape: Shape, run: Setup) -> float:
    """Copies of gradients on their way between GPUs: all of them under DDP, two buckets under ZeRO-1 and 2.

    And the 16-bit copies that autocast keeps of float32 weights on a GPU that holds them whole.
    """
    count = trainable(shape, run) / (run.tensor_parallel * run.pipeline_parallel)
    each = DTYPE_BYTES[str(run.adapter_dtype)]
    found = 0.0
    if run.sharding == "ddp" and run.gpus > 1:
        found += count * each
    if run.sharding in ("zero1", "zero2"):
        found += 2 * min(ZERO_BUCKET, count) * 2.0
    if (
        run.method == "full"
        and each == 4.0
        and run.compute_dtype != "fp32"
        and run.sharding in ("none", "ddp")
    ):
        once = shape.block_parameters() + shape.vocab * shape.hidden
        found += 2.0 * (shape.parameters() if run.checkpointing == "none" else once)
    return found


def _gathered(shape: Shape, run: Setup) -> float:
    """Two blocks (in use and prefetched) and the root unit with embedding and head, in the compute dtype."""
    each = DTYPE_BYTES[run.compute_dtype]
    block = shape.linear_parameters() / shape.layers
    inside = block * QUANTISED_BYTES.get(str(run.weight_dtype), each)
    root = (shape.embedding_parameters() + shape.head_parameters()) * each
    return (2 * inside + root) / run.tensor_parallel


def paged_bytes(shape: Shape, run: Setup) -> float:
    """Bytes of paged optimizer states: on the GPU while there is room, uncounted by the framework."""
    return trainable(shape, run) / run.shards * PAGED_BYTES.get(run.optimizer, 0.0)


def host_bytes(shape: Shape, run: Setup) -> float:
    """Host memory of one node: what is offloaded or paged, and the weights on their way to the GPU."""
    count = trainable(shape, run)
    loading = min(shape.parameters() * 2.0, 5.0 * 2**30 + shape.parameters() * 0.1)
    host = 3.0 * 2**30 + loading
    if "optimizer" in run.offload:
        host += count * 12.0
    if "weights" in run.offload:
        host += weight_bytes(shape, str(run.weight_dtype))
    host += count * PAGED_BYTES.get(run.optimizer, 0.0)
    if "activations" in run.offload:
        host += run.tokens * shape.layers * shape.hidden * 2.0
    return host
