"""Training in fp32 on a CPU with ``fused_layers`` and ``row_attention`` in the place of a model's own.

What takes their place is recognised by its formula's parts, not by a list of architectures, and then proved:
before training a pack is read and learnt from both ways, and where loss or gradients differ by more than
rounding the model keeps its own layers. Heavy: imports torch.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tunewise.training import fused_layers, packing, row_attention
from tunewise.training.masks import IGNORED, TrainRow
from tunewise.training.methods import core_of

OWN = "attention_before_lean"  # on the model while the lean operations are installed
PROBED = 2  # rows read both ways
# Largest distances, as a share of the model's own, that rounding explains; SmolLM2-135M: 5e-7 and 5e-6
SAME_LOSS = 1e-4
SAME_GRADIENT = 1e-3


def possible(model: Any) -> bool:
    """True for fp32 on a CPU with one linear layer as output matrix and attention that can be replaced.

    A sliding window is not what ``row_attention`` computes, and two short rows would not show it.
    """
    core = core_of(model)
    config = core.config.get_text_config()
    head = core.get_output_embeddings()
    return (
        model.device.type == "cpu"
        and all(p.dtype == torch.float32 for p in model.parameters())
        and type(head) is nn.Linear
        and head.bias is None
        and config._attn_implementation in ("sdpa", "eager", row_attention.NAME)
        and getattr(config, "sliding_window", None) is None
    )


@contextlib.contextmanager
def installed(model: Any) -> Iterator[None]:
    """The lean operations in the place of the model's own while it lasts."""
    core = core_of(model)
    config = core.config.get_text_config()
    row_attention.register()
    attention = config._attn_implementation
    with contextlib.ExitStack() as undo:
        siblings = siblings_in(model)
        for layer in model.modules():
            forward = siblings.get(layer) or lean_forward(layer)
            if forward is not None:
                layer.forward = Lean(forward)
                undo.callback(layer.__dict__.pop, "forward", None)
        for module in rotary_modules(core):
            undo.callback(setattr, module, "apply_rotary_pos_emb", module.apply_rotary_pos_emb)
            module.apply_rotary_pos_emb = fused_layers.rotary
        core.set_attn_implementation(row_attention.NAME)
        undo.callback(core.set_attn_implementation, attention)
        core.__dict__[OWN] = attention
        undo.callback(core.__dict__.pop, OWN)
        yield


@dataclass(frozen=True, slots=True)
class Lean:
    """A forward that stands in the place of a layer's own."""

    run: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x)


@contextlib.contextmanager
def suspended(model: Any) -> Iterator[None]:
    """The model's own layers while it lasts, for who reads it between steps."""
    core = core_of(model)
    own = core.__dict__.get(OWN)
    if own is None:
        yield
        return
    taken = [(layer, layer.__dict__.pop("forward")) for layer in core.modules() if is_lean(layer)]
    core.set_attn_implementation(own)
    try:
        yield
    finally:
        core.set_attn_implementation(row_attention.NAME)
        for layer, forward in taken:
            layer.forward = forward


def is_lean(layer: Any) -> bool:
    """True where a layer's own forward is replaced."""
    return isinstance(layer.__dict__.get("forward"), Lean)


def lean_forward(layer: Any) -> Any:
    """What takes the place of a layer's forward; None where there is nothing."""
    if (forward := lora_forward(layer)) is not None:
        return forward
    if hasattr(layer, "variance_epsilon") and type(layer).__name__.endswith("RMSNorm"):
        return lambda x: fused_layers.rms_norm(x, layer.weight, layer.variance_epsilon)
    gated = all(hasattr(layer, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    if gated and type(layer.act_fn).__name__ in ("SiLU", "SiLUActivation"):
        return lambda x: layer.down_proj(fused_layers.swiglu(layer.gate_proj(x), layer.up_proj(x)))
    return None


class Siblings:
    """Layers that read the same x in turn: the first multiplies for all, the others take theirs."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers
        self.read: Tensor | None = None
        self.left: dict[int, Tensor] = {}

    def __call__(self, number: int, x: Tensor) -> Tensor:
        """The answer of one of them; by itself where another x was read before."""
        if number == 0:
            found = fused_layers.sibling_linears(x, [plain_adapter(layer) for layer in self.layers])
            self.read, self.left = x, dict(enumerate(found))
        elif x is not self.read or number not in self.left:
            return fused_layers.lora_linear(x, *plain_adapter(self.layers[number]))
        answer = self.left.pop(number)
        if not self.left:
            self.read = None
        return answer


def siblings_in(model: Any) -> dict[Any, Callable[[Tensor], Tensor]]:
    """Forwards of the layers that read the same: queries, keys and values; gate and up."""
    found: dict[Any, Callable[[Tensor], Tensor]] = {}
    for module in model.modules():
        for names in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
            layers = [getattr(module, name, None) for name in names]
            if all(plain_adapter(layer) is not None for layer in layers):
                group = Siblings(layers)
                found |= {layer: partial(group, number) for number, layer in enumerate(layers)}
    return found


def lora_forward(layer: Any) -> Any:
    """The forward of a linear layer with one plain adapter; None for any other kind."""
    if plain_adapter(layer) is None:
        return None
    return lambda x: fused_layers.lora_linear(x, *plain_adapter(layer))


def plain_adapter(layer: Any) -> Any:
    """W, bias, A, B and scale of a frozen linear layer with one plain adapter; None for any other kind."""
    from peft.tuners.lora import Linear

    if not isinstance(layer, Linear):
        return None
    names = list(layer.active_adapters)
    base = layer.base_layer
    if len(names) != 1 or layer.lora_variant or type(base) is not nn.Linear or base.weight.requires_grad:
        return None
    (name,) = names
    a, b = layer.lora_A[name], layer.lora_B[name]
    if not isinstance(layer.lora_dropout[name], nn.Identity) or a.bias is not None or b.bias is not None:
        return None
    return base.weight, base.bias, a.weight, b.weight, layer.scaling[name]


def rotary_modules(core: Any) -> list[Any]:
    """The modules of transformers that turn the model's queries and keys."""
    names = {type(layer).__module__ for layer in core.modules()}
    found = [sys.modules[name] for name in sorted(names) if name.startswith("transformers.models.")]
    return [module for module in found if hasattr(module, "apply_rotary_pos_emb")]


def own_loss(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Summed negative log-likelihood in nats of a pack's targets, and how many there are.

    Where logits would take more than ``LOGIT_BYTES`` they exist for a part of the targets at a time.
    """
    targets = inputs["labels"].flatten()
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "shift_labels")}
    head = head_of_products(model)
    if head is not None and targets.numel() * 4 * len(head.weight) > packing.LOGIT_BYTES:
        total = chunked_loss(hidden_states(model, head, rest), head, targets)
    else:
        logits = model(**rest, use_cache=False).logits[0]
        total = functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
    return total, int((targets != IGNORED).sum())


def head_of_products(model: Any) -> nn.Linear | None:
    """The output layer where logits are its products alone, in one process; else None."""
    from tunewise.training.trainer import sharded

    if hasattr(model, "module") or sharded():
        return None
    core = core_of(model)
    config, head = core.config.get_text_config(), core.get_output_embeddings()
    after = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    plain = all(getattr(config, name, None) in (None, 1, 1.0) for name in after)
    return head if type(head) is nn.Linear and plain else None


def chunked_loss(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Summed cross-entropy in nats of ``head``'s logits, made again on the way back, a part at a time.

    hidden (m, h), targets (m,) -> scalar (checkpointing of Chen et al., "Training deep nets with sublinear
    memory cost", 2016, section 3).
    """

    def of(some: Tensor, aims: Tensor) -> Tensor:
        return functional.cross_entropy(head(some).float(), aims, ignore_index=IGNORED, reduction="sum")

    size = max(16, packing.LOGIT_BYTES // (4 * len(head.weight)))
    parts = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    return torch.stack([checkpoint(of, some, aims, use_reentrant=False) for some, aims in parts]).sum()


def hidden_states(model: Any, head: Any, rest: dict[str, Any]) -> Tensor:
    """What the output layer would be given, (m, h)."""
    head.forward = lambda hidden: hidden
    try:
        found: Tensor = model(**rest, use_cache=False).logits[0]
    finally:
        del head.forward
    return found


def pack_loss(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """As ``own_loss``, in a model with the lean operations; inputs have a ``row_layout``."""
    head = core_of(model if not hasattr(model, "module") else model.module).get_output_embeddings()
    targets = inputs["labels"].flatten()
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "shift_labels")}
    total = fused_layers.summed_cross_entropy(hidden_states(model, head, rest), head.weight, targets)
    return total, int((targets != IGNORED).sum())


def agrees(model: Any, rows: Sequence[TrainRow]) -> bool:
    """True when the lean operations give the loss and the gradients of the model's own, to rounding."""
    from tunewise.models.precision import products
    from tunewise.training.packing import tensors

    if not possible(model):
        return False
    some = sorted(rows, key=len)[:PROBED]
    with products("fp32"):
        own = learnt(model, *own_loss(model, tensors(some)))
        try:
            with installed(model):
                lean = learnt(model, *pack_loss(model, tensors(some, lean=True)))
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return False  # a forward that takes or gives something else
    model.zero_grad()
    return distance(lean[0], own[0]) <= SAME_LOSS and distance(lean[1], own[1]) <= SAME_GRADIENT


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Length of the difference as a share of the length of ``other``; not a number when one is none."""
    if one.shape != other.shape:
        return float("inf")
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))


def learnt(model: Any, loss: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss, and the gradients of all that is trained as one vector."""
    model.zero_grad()
    mean = loss / count
    mean.backward()  # type: ignore[no-untyped-call]
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return mean.detach(), torch.cat(parts)
