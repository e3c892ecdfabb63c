"""What a forward and a backward pass hold for a while: boundaries, one block, the loss; bytes on one GPU."""

from dataclasses import dataclass

from tunewise.estimation.setup import DTYPE_BYTES, Setup, stacks
from tunewise.estimation.shapes import Shape


@dataclass(frozen=True)
class Activations:
    """Bytes on one GPU for one micro-batch."""

    kept_forward: float  # of all blocks at the end of forward
    kept_backward: float  # of all blocks while backward goes on
    block: float  # one recomputed block with its gradients' temporaries
    loss: float  # logits and what the cross-entropy makes of them

    def parts(self) -> dict[str, float]:
        """By name, for the table."""
        return {"boundaries": self.kept_forward, "block": self.block, "logits": self.loss}


def of(shape: Shape, run: Setup) -> Activations:
    """The activations of a completed set-up."""
    tokens = run.tokens / run.tensor_parallel
    residual = 4.0 if run.fp32_residual else DTYPE_BYTES[run.compute_dtype]
    boundary = residual * shape.hidden
    saved = saved_in_block(shape, run)
    temporary = temporary_in_block(shape, run)
    layers = shape.layers / run.pipeline_parallel
    kept = {"full": boundary, "none": saved, "selective": saved * 0.6}[run.checkpointing] * layers
    if "activations" in run.offload:
        kept = 2 * boundary
    twice = 2.0 if run.trains_adapter and run.sharding == "fsdp" and run.stack.startswith("hf") else 1.0
    backward = kept * (twice if run.checkpointing == "full" else 1.0)
    block = temporary + (saved if run.checkpointing == "full" else 0.0)
    return Activations(kept * tokens, backward * tokens, block * tokens, loss_per_token(shape, run) * tokens)


def saved_in_block(shape: Shape, run: Setup) -> float:
    """Bytes per token that one block keeps for backward."""
    stack = stacks()[run.stack]
    h, q, kv, width = shape.hidden, shape.query_width, shape.kv_width, shape.active_width
    frozen = run.trains_adapter
    matrices = 6.0 if shape.mlp == "gated" else 4.0
    inputs = 0.0 if frozen else 2.0
    total = float(stack["block_h"]) * h / 2 + (0 if frozen else 8.0 * h) + 4.0 * q + 4.0 * kv
    total += (matrices + inputs) * width
    if shape.experts:
        total += 6.0 * h * shape.active_experts  # routed inputs and outputs
    if run.attention == "eager":
        total += 5.0 * shape.heads * run.seq_len
    if frozen and run.lora_dropout:
        total += sum(2.5 * linear.inputs for linear in shape.targeted(run.lora_targets))
    return total


def temporary_in_block(shape: Shape, run: Setup) -> float:
    """Bytes per token that backward through one block holds beside what was saved."""
    stack = stacks()[run.stack]
    width = shape.intermediate * (shape.active_experts / shape.experts if shape.experts else 1.0)
    matrices = 6.0 if shape.mlp == "gated" else 4.0
    return matrices * width + float(stack["block_h"]) * shape.hidden / 2


def loss_per_token(shape: Shape, run: Setup) -> float:
    """Bytes per token at the peak of the cross-entropy."""
    stack = stacks()[run.stack]
    table = stack["ce"] if shape.upcasts_logits else stack["ce_plain"]
    kind = str(run.cross_entropy)
    return float(table[kind]) * shape.vocab + float(stack["ce_hidden"][kind]) * shape.hidden
