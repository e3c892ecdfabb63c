"""Sizes on disk: adapters, checkpoints, a whole run."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewise.estimation.setup import DTYPE_BYTES, Setup
from tunewise.estimation.shapes import Shape
from tunewise.estimation.state import PAGED_BYTES, state_bytes, trainable

GIB = float(2**30)
TENSOR_HEADER = 150.0  # bytes of safetensors' JSON header per tensor: name, shape, dtype, offsets


@dataclass(frozen=True)
class Disk:
    """GiB on disk."""

    model: float  # the trained artefact: adapter, or all weights in 16 bits
    checkpoint: float  # one checkpoint that can be resumed: artefact, optimizer states, master weights
    merged: float  # adapter merged into 16-bit weights; the model itself for full fine-tuning
    run: float  # all kept checkpoints and the last artefact

    def as_dict(self) -> Mapping[str, float]:
        """For JSON."""
        return {name: round(value, 6) for name, value in vars(self).items()}


def adapter_bytes(
    shape: Shape, rank: int, targets: tuple[str, ...], dtype: str = "fp32", dora: bool = False
) -> int:
    """Bytes of an ``adapter_model.safetensors``: the weights in their dtype and a header per tensor."""
    count = shape.lora_parameters(rank, targets, dora)
    tensors = sum(
        2 * (1 if linear.name == "lm_head" else shape.layers * linear.copies)
        for linear in shape.targeted(targets)
    )
    return int(count * DTYPE_BYTES[dtype] + tensors * TENSOR_HEADER)


def disk(shape: Shape, setup: Setup, kept: int = 2) -> Disk:
    """Sizes of what a run writes, with ``kept`` checkpoints. Raises SettingError as ``Setup.complete``
    does."""
    run = setup.complete()
    count = trainable(shape, run)
    if run.method == "full":
        # A resumable checkpoint keeps the weights as they are trained: float32 masters stay float32.
        artefact = shape.parameters() * DTYPE_BYTES[str(run.weight_dtype)]
        merged = shape.parameters() * 2.0
    else:
        dtype = str(run.adapter_dtype)
        whole = count - shape.lora_parameters(run.lora_rank, run.lora_targets, run.dora)
        artefact = whole * DTYPE_BYTES[dtype]
        artefact += float(adapter_bytes(shape, run.lora_rank, run.lora_targets, dtype, run.dora))
        merged = shape.parameters() * 2.0
    states = count * _states_on_disk(run)
    checkpoint = artefact + states
    return Disk(artefact / GIB, checkpoint / GIB, merged / GIB, (kept * checkpoint + artefact) / GIB)


def _states_on_disk(run: Setup) -> float:
    """Optimizer bytes per trainable parameter; paged states are saved too."""
    return PAGED_BYTES.get(run.optimizer, state_bytes(run))
