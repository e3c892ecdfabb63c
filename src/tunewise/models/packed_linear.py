"""Linear layers whose weights lie as oneDNN wants them, for answering on a CPU.

torch multiplies fp32 matrices with MKL, which on an AMD processor does not use its widest instructions.
oneDNN, also a part of torch, does, and reads weights that were put in order once: measured on one core of an
EPYC with AVX-512, 228 against 95 GFLOP/s for 32 rows times 576 x 1536, 250 against 110 for 512 rows. The
result is fp32 as before; only the order of the sums differs.

Rounded, the weights lie in bf16, factors and results of each product are rounded, and what stands between
the layers stays fp32 (``joint_attention`` rounds factors of its own). A CPU with AMX then takes 0.2 to 0.5 of
the time: reading gains by the faster products, writing by the halved way of the weights from memory (measured
on one core, 576 x 1536: 10 rows 58 against 166 GFLOP/s, 256 rows 93 against 662).
"""

from typing import Any

import torch
from torch import Tensor, nn

ROWS_HINT = 256  # the order chosen for 256 rows was within 5 % of the best for 1 to 2,048 rows


class PackedWeight:
    """A matrix (out, in) in oneDNN's order."""

    def __init__(self, weight: Tensor) -> None:
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_HINT)

    def times(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (..., in) -> x W^T + bias, (..., out)."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")
        return product


class PackedLinear(nn.Module):
    """y = x W^T + b, forward only. Takes the place of an ``nn.Linear`` and lets go of its weight.

    rounded: weight, factors and results in bf16; what comes and goes stays in its own number format.
    """

    bias: Any  # a tensor or None

    def __init__(self, linear: nn.Linear, rounded: bool = False) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.rounded = rounded
        weight = linear.weight.detach()
        bias = None if linear.bias is None else linear.bias.detach()
        self.weight_in_order = PackedWeight(weight.bfloat16() if rounded else weight)
        self.bias = bias.bfloat16() if rounded and bias is not None else bias

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        if self.rounded:
            return self.weight_in_order.times(x.bfloat16(), self.bias).to(x.dtype)
        return self.weight_in_order.times(x, self.bias)

    def unpacked(self) -> nn.Linear:
        """The ``nn.Linear`` it was made from, to the last bit."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.weight_in_order.packed.to_dense(), requires_grad=False)
        linear.bias = self.bias
        return linear


def can_pack(model: Any) -> bool:
    """True for an fp32 model on a CPU where torch was built with oneDNN and offers the two operations."""
    return (
        model.device.type == "cpu"
        and model.dtype == torch.float32
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def pack_linears(model: Any, *, rounded: bool = False) -> None:
    """Replace every linear layer of ``model`` in place. Weights shared with an embedding are copied.

    rounded: those inside in bf16. The last one, which makes the logits, is not: rounded to three digits two
    of them are often the same.
    """
    last = model.get_output_embeddings()
    last = getattr(last, "base_layer", last)  # inside of an adapter's
    replace(
        model,
        lambda layer: (
            PackedLinear(layer, rounded and layer is not last) if type(layer) is nn.Linear else None
        ),
    )


def unpack_linears(model: Any) -> None:
    """Undo ``pack_linears``. Weights that were shared with an embedding stay copies of it."""
    replace(model, lambda layer: layer.unpacked() if isinstance(layer, PackedLinear) else None)


def replace(model: Any, substitute: Any) -> None:
    """Put ``substitute(layer)`` in the place of every layer for which it is not None.

    Layers of an adapter, which lie in a ModuleDict by its name, stay: they are small, and PEFT asks for their
    weights.
    """
    for parent in [module for module in model.modules() if not isinstance(module, nn.ModuleDict)]:
        for name, layer in list(parent.named_children()):
            new = substitute(layer)
            if new is not None:
                setattr(parent, name, new)
