"""Activations where everything is float32, as on a CPU: counted tensor by tensor, no constant fitted.

What autograd saves in one block of the reference code (transformers 5), elements per token:

    norms       each keeps its input; a trained RMSNorm also what its weight multiplies
    inputs      a trained matrix and an adapter keep their input; matrices with the same input share it
    attention   queries, keys and values after rotation, and the output; eager: the probabilities too
    MLP         gate, its activation, up (gated); the first product and its activation (plain)
    adapters    rank elements for each

In 16 bits the same tensors are kept, but norms and casts add copies: ``activations``. Checked against counted
tensors of real steps by ``benchmarks/own_memory.py``.
"""

from dataclasses import replace

from tunewise.estimation.activations import Activations
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape

BYTES = 4.0
LOSS = 3.0  # per vocabulary entry: log-probabilities, their gradient, the logits' gradient


def of(shape: Shape, run: Setup, half: Activations) -> Activations:
    """The activations of a completed float32 set-up. half: what ``activations.of`` says of it in 16 bits."""
    tokens = run.tokens / run.tensor_parallel
    layers = shape.layers / run.pipeline_parallel
    saved = saved_in_block(shape, run)
    kept = {"full": float(shape.hidden), "selective": 0.6 * saved, "none": saved}[run.checkpointing] * layers
    again = saved if run.checkpointing == "full" else 0.0
    if "activations" in run.offload:
        kept = 2.0 * shape.hidden
    gradients = (3.0 if shape.mlp == "gated" else 2.0) * shape.active_width + 3.0 * shape.hidden
    loss = LOSS * shape.vocab + 3.0 * shape.hidden
    each = BYTES * tokens
    found = replace(
        half, kept_forward=kept * each, kept_backward=kept * each, block=(again + gradients) * each
    )
    return replace(found, loss=loss * each) if run.cross_entropy == "logits" else found


def saved_in_block(shape: Shape, run: Setup) -> float:
    """Elements per token that autograd keeps of one block."""
    h, width = shape.hidden, shape.active_width
    norms = shape.norms * h
    inside = (3.0 if shape.mlp == "gated" else 1.0) * width
    inputs = {"attention": h, "output": shape.query_width, "mlp": h, "down": width}
    if run.method == "full":
        scaled = shape.norms * h if shape.norm == "rms" else 0
        found = norms + scaled + inside + sum(inputs.values()) - inputs["output"]
    else:
        adapted = shape.targeted(run.lora_targets)
        read = {_reads(linear.roles[0]) for linear in adapted} - {"output", "head"}
        found = norms + inside + sum(inputs[name] for name in read) + run.lora_rank * len(adapted)
    found += (
        2 * shape.query_width + 2 * shape.kv_width
    )  # the attention's output is what the next matrix reads
    if run.attention == "eager":
        found += shape.heads * run.seq_len
    return found


def _reads(role: str) -> str:
    """Which tensor of the block a matrix of this role reads."""
    return {"o": "output", "down": "down", "head": "head"}.get(
        role, "attention" if role in ("q", "k", "v") else "mlp"
    )
