"""Layers of a transformer as single operations with gradients written out, for fp32 training on a CPU.

What autograd makes of the plain formulas costs much on a CPU: every intermediate is memory that has to be
fetched from the system, and every small operation is a start of all threads. Here each layer keeps only
what its gradient needs. Sums may come in another order; nothing else differs from the plain formulas, which
stand in the docstrings. Heavy: imports torch.

Shapes: n tokens, i inputs, o outputs, r rank, h width, v vocabulary, m places that carry loss.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tunewise.models.precision import products
from tunewise.training.masks import IGNORED

# Most bytes of fp32 logits at a time. For every chunk the output matrix is put in order anew: with a quarter
# of this the loss on 864 targets of 49,152 tokens took 1.6 times as long.
CHUNK_BYTES = 128 * 2**20


class LoraLinear(Function):
    """y = x W^T + bias + scale * (x A^T) B^T, W and bias frozen (Hu et al., "LoRA", ICLR 2022, section 4.1).

    x (..., i), W (o, i), A (r, i), B (o, r) -> (..., o).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = functional.linear(flat, weight, bias)
        with products("fp32"):  # products of a few columns: rounding them takes longer than it saves
            low = flat @ a.t()
            y.addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(flat, weight, a, b, low)
        ctx.scale = scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, a, b, low = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        x_grad = grad @ weight if ctx.needs_input_grad[0] else None
        with products("fp32"):
            low_grad = (grad @ b).mul_(ctx.scale)
            a_grad = low_grad.t() @ flat
            b_grad = (low.t() @ grad).mul_(ctx.scale).t().contiguous()
            if x_grad is not None:
                x_grad = x_grad.addmm_(low_grad, a).view(*grads[0].shape[:-1], -1)
        return x_grad, None, None, a_grad, b_grad, None


class SiblingLinears(Function):
    """``LoraLinear`` of several layers that read the same x: one product with all their A, one gradient of x.

    x (..., i) and for each layer W (o, i), bias, A (r, i), B (o, r), which may differ in o and r -> (..., o)
    of each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *layers: Any) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        weights, biases, a, b = (layers[place::4] for place in range(4))
        ranks = [len(one) for one in a if one is not None]
        stacked = torch.cat([one for one in a if one is not None])
        answers = [
            functional.linear(flat, weight, bias) for weight, bias in zip(weights, biases, strict=True)
        ]
        with products("fp32"):
            low = flat @ stacked.t()
            for y, part, up, scale in zip(answers, torch.split(low, ranks, 1), b, scales, strict=True):
                y.addmm_(part, up.t(), alpha=scale)
        ctx.save_for_backward(flat, low, stacked, *weights, *b)
        ctx.scales, ctx.ranks = scales, ranks
        return tuple(y.view(*x.shape[:-1], -1) for y in answers)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, stacked, *rest = ctx.saved_tensors
        count = len(ctx.ranks)
        weights, b = rest[:count], rest[count:]
        given = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = given[0] @ weights[0]
            for grad, weight in zip(given[1:], weights[1:], strict=True):
                x_grad.addmm_(grad, weight)
        with products("fp32"):
            low_grad = torch.cat(
                [(grad @ up).mul_(scale) for grad, up, scale in zip(given, b, ctx.scales, strict=True)], 1
            )
            a_grads = (low_grad.t() @ flat).split(ctx.ranks)
            b_grads = [
                (part.t() @ grad).mul_(scale).t().contiguous()
                for grad, part, scale in zip(given, low.split(ctx.ranks, 1), ctx.scales, strict=True)
            ]
            if x_grad is not None:
                x_grad = x_grad.addmm_(low_grad, stacked).view(*grads[0].shape[:-1], -1)
        each = [
            g for pair in zip(a_grads, b_grads, strict=True) for g in (None, None, pair[0].clone(), pair[1])
        ]
        return x_grad, None, *each


class RmsNorm(Function):
    """y = w * x / sqrt(mean(x^2) + eps) (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).

    x (..., h), w (h,) -> (..., h).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = (x * inverse).mul_(weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        (grad,) = grads
        weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = (grad * x).mul_(inverse).flatten(0, -2).sum(0)
        x_grad = grad * weight
        along = (x_grad * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
        x_grad.mul_(inverse).addcmul_(x, along)
        return x_grad, weight_grad, None


class SwiGlu(Function):
    """y = silu(gate) * up, silu(z) = z * sigmoid(z) (Shazeer, "GLU Variants Improve Transformer", 2020)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        y: Tensor = functional.silu(gate).mul_(up)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        gate, up = ctx.saved_tensors
        up_grad = functional.silu(gate).mul_(grads[0])
        gate_grad = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return gate_grad, up_grad


class Rotary(Function):
    """y = x * cos + rotate(x) * sin, where rotate swaps the halves of a head and negates the first of them.

    Su et al., "RoFormer", 2021, section 3.4.2. x (..., n, d), cos and sin (..., n, d) broadcast over heads.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        first, second = x.chunk(2, -1)
        (cos1, cos2), (sin1, sin2) = cos.chunk(2, -1), sin.chunk(2, -1)
        y = torch.empty_like(x)
        y1, y2 = y.chunk(2, -1)
        torch.mul(first, cos1, out=y1).addcmul_(second, sin1, value=-1)
        torch.mul(second, cos2, out=y2).addcmul_(first, sin2)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        (cos1, cos2), (sin1, sin2) = cos.chunk(2, -1), sin.chunk(2, -1)
        first, second = grads[0].chunk(2, -1)
        x_grad = torch.empty_like(grads[0])
        x1, x2 = x_grad.chunk(2, -1)
        torch.mul(first, cos1, out=x1).addcmul_(second, sin2)
        torch.mul(second, cos2, out=x2).addcmul_(first, sin1, value=-1)
        return x_grad, None, None


class SummedCrossEntropy(Function):
    """Sum over places of logsumexp(z) - z[target] in nats, z = hidden W^T; targets ``IGNORED`` add nothing.

    hidden (m, h), W (v, h), targets (m,) -> scalar. Logits exist for a chunk of places at a time, and turn
    into their own gradient, softmax(z) - onehot(target), where they lie (Hsu et al., "Liger Kernel", 2024,
    section 3.2): the gradients are made on the way forward.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        hidden_grad = torch.zeros_like(hidden) if wants_hidden else None
        weight_grad = torch.zeros_like(weight) if wants_weight else None
        total = hidden.new_zeros(())
        most = max(16, CHUNK_BYTES // (4 * weight.shape[0]))
        size = -(-len(hidden) // -(-len(hidden) // most)) if len(hidden) else most  # chunks of about one size
        buffer = hidden.new_empty(min(size, len(hidden)), weight.shape[0])
        for start in range(0, len(hidden), size):
            some, aims = hidden[start : start + size], targets[start : start + size]
            counted = aims != IGNORED
            place = aims.clamp(min=0)[:, None]
            scores = torch.mm(some, weight.t(), out=buffer[: len(some)])
            torch.log_softmax(scores, -1, out=scores)
            total -= scores.gather(1, place)[:, 0].masked_select(counted).sum()
            if hidden_grad is None and weight_grad is None:
                continue
            scores.exp_().scatter_add_(1, place, -torch.ones_like(place, dtype=scores.dtype))
            scores.mul_(counted[:, None])
            if hidden_grad is not None:
                torch.mm(scores, weight, out=hidden_grad[start : start + size])
            if weight_grad is not None:
                weight_grad.addmm_(scores.t(), some)
        ctx.save_for_backward(hidden_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, weight_grad = ctx.saved_tensors
        (grad,) = grads
        return (
            None if hidden_grad is None else hidden_grad * grad,
            None if weight_grad is None else weight_grad * grad,
            None,
        )


def lora_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """``LoraLinear``."""
    y: Tensor = LoraLinear.apply(x, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return y


def sibling_linears(
    x: Tensor, layers: Sequence[tuple[Tensor, Tensor | None, Tensor, Tensor, float]]
) -> tuple[Tensor, ...]:
    """``SiblingLinears`` of (W, bias, A, B, scale) each."""
    scales = tuple(layer[-1] for layer in layers)
    parts = [part for layer in layers for part in layer[:-1]]
    found: tuple[Tensor, ...] = SiblingLinears.apply(x, scales, *parts)  # type: ignore[no-untyped-call]
    return found


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``RmsNorm``."""
    y: Tensor = RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return y


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``SwiGlu``."""
    y: Tensor = SwiGlu.apply(gate, up)  # type: ignore[no-untyped-call]
    return y


def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """``Rotary`` of queries and keys, with the arguments of transformers' ``apply_rotary_pos_emb``."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    turned: Any = Rotary.apply
    return turned(q, cos, sin), turned(k, cos, sin)


def summed_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """``SummedCrossEntropy``."""
    total: Tensor = SummedCrossEntropy.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return total
