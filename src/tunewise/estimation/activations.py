"""What forward and backward hold for a while: boundaries, one block, the loss; bytes on one GPU."""

from dataclasses import dataclass

from tunewise.estimation.setup import DTYPE_BYTES, Setup
from tunewise.estimation.shapes import Linear, Shape


@dataclass(frozen=True)
class Activations:
    """Bytes on one GPU for one micro-batch."""

    kept_forward: float  # of all blocks at the end of forward
    kept_backward: float  # of all blocks while backward goes on
    block: float  # one recomputed block with its gradients' temporaries
    loss: float  # logits and what the cross-entropy makes of them
    logits: float  # one byte for each logit: tokens x vocabulary

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
    one = {"full": boundary, "none": saved, "selective": selected_in_block(shape, run)}[run.checkpointing]
    kept = layers * one
    twice = 1.0
    if run.checkpointing == "full" and "activations" in run.offload:
        kept = 2 * boundary  # one on its way out, one on its way in
    elif run.checkpointing == "full" and run.trains_adapter and run.sharding == "fsdp":
        twice = run.coefficients.peft_fsdp
    block = temporary + max(0.0, saved - one)  # what is kept anyway is part of what is saved
    loss = loss_per_token(shape, run) * tokens + head_gradients(shape, run)
    return Activations(kept * tokens, twice * kept * tokens, block * tokens, loss, tokens * shape.vocab)


def saved_in_block(shape: Shape, run: Setup) -> float:
    """Bytes per token that one block keeps for backward.

    A frozen matrix does not keep its input; a trained one does (after Korthikanti et al. 2022, arXiv
    2205.05198, section 4.1, for gated MLPs and grouped queries).
    """
    h, q, kv, width = shape.hidden, shape.query_width, shape.kv_width, shape.active_width
    coefficients = run.coefficients
    trained = run.method == "full"
    pointwise = coefficients.block_h / 2 * h + inside_mlp(shape, run) * width
    if run.compile:
        pointwise *= coefficients.compile_block
    total = pointwise + 4.0 * q + 4.0 * kv + (8.0 * h + 2.0 * width if trained else 0.0)
    if shape.experts:
        total += 6.0 * h * shape.active_experts  # what is routed to experts and back
    if run.attention == "eager":
        total += 5.0 * shape.heads * run.seq_len
    if run.trains_adapter:  # an adapter keeps its input; matrices with the same input share it
        targets = shape.targeted(run.lora_targets)
        total += coefficients.adapter_inputs * sum(
            {_input_of(linear): linear.inputs for linear in targets}.values()
        )
    if run.trains_adapter and run.lora_dropout:
        total += sum(2.5 * linear.inputs for linear in shape.targeted(run.lora_targets))
    return total


def selected_in_block(shape: Shape, run: Setup) -> float:
    """Bytes per token that selective checkpointing keeps of a block.

    The block's input, the attention's output, and every second matrix product (torchtitan's per-operation
    policy); the rest is recomputed.
    """
    outputs = sum(2.0 * linear.outputs * linear.active for linear in shape.linears)
    return min(2.0 * shape.hidden + 2.0 * shape.query_width + outputs / 2, saved_in_block(shape, run))


def _input_of(linear: Linear) -> str:
    """Which tensor of the block a matrix reads."""
    role = linear.roles[0]
    if role in ("q", "k", "v"):
        return "attention"
    return "mlp" if role in ("gate", "up", "router") else role


def temporary_in_block(shape: Shape, run: Setup) -> float:
    """Bytes per token that backward through one block holds beside what was saved; experts go one by one."""
    width = shape.intermediate * (shape.active_experts / shape.experts if shape.experts else 1.0)
    return inside_mlp(shape, run) * width + run.coefficients.block_h / 2 * shape.hidden


def inside_mlp(shape: Shape, run: Setup) -> float:
    """Bytes per token and unit of width that an MLP keeps: gate, its activation and up; or two of them.

    A 4-bit layer answers in the number format of what it reads: beside a float32 residual in float32.
    Queries, keys and values do as well, but attention keeps them in 16 bits.
    """
    return (3 if shape.mlp == "gated" else 2) * (4.0 if run.fp32_residual else DTYPE_BYTES[run.compute_dtype])


def loss_per_token(shape: Shape, run: Setup) -> float:
    """Bytes per token at the peak of the cross-entropy."""
    found = run.coefficients
    upcast = shape.upcasts_logits or not run.stack.startswith("hf")
    each = {
        "logits": found.ce_logits if upcast else found.ce_plain_logits,
        "fast": found.ce_fast if upcast else found.ce_plain_fast,
        "chunked": found.ce_chunked,
        "fused": found.ce_fused,
    }[str(run.cross_entropy)]
    if run.compile:
        each *= found.compile_ce
    return each * shape.vocab + found.ce_hidden * shape.hidden


def head_gradients(shape: Shape, run: Setup) -> float:
    """Bytes of the head's gradient where the loss already makes it in chunks: the sum and one addend."""
    if run.method != "full" or run.cross_entropy not in ("chunked", "fused"):
        return 0.0
    return 2 * shape.vocab * shape.hidden * DTYPE_BYTES[run.compute_dtype] / run.tensor_parallel
