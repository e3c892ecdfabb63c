"""A model's shape: the few numbers from which its parameters, modules and adapters follow exactly.

Nothing here loads weights: a shape is read from a ``config.json`` (``families.py`` knows the architectures).
"""

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tunewise.errors import SettingError


@dataclass(frozen=True)
class Linear:
    """One kind of linear layer in a block: ``copies`` of it, each ``outputs`` x ``inputs``."""

    name: str
    inputs: int
    outputs: int
    roles: tuple[str, ...]  # of q, k, v, o, gate, up, down, router
    copies: int = 1
    active: int = 1  # copies that one token passes through
    bias: bool = False

    @property
    def weights(self) -> int:
        """Weights of all copies in one block, without biases."""
        return self.inputs * self.outputs * self.copies


@dataclass(frozen=True)
class Shape:
    """Shapes of a decoder-only transformer; widths in elements.

    ``exact`` is False for a shape that was guessed from a parameter count or an unknown architecture; then
    ``spread`` is the relative width that every estimate gains on each side, and ``note`` says why.
    """

    name: str
    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    max_positions: int | None
    mlp: str = "gated"  # gated (three matrices) or plain (two)
    experts: int = 0
    active_experts: int = 0
    norm: str = "rms"  # rms (one vector), layer (weight and bias) or none (no parameters)
    norms: int = 2  # norms of width hidden in one block
    final_norm: bool = True
    qk_norm: str = "none"  # none, head (per head) or width (over the whole projection)
    head_bias: bool = False
    learned_positions: int = 0  # rows of a table of positions
    extra_parameters: int = 0  # of parts without a rule, as counted from a published figure
    sliding_window: int | None = None
    full_layers: int = 0  # with a window: layers that read the whole context all the same
    upcasts_logits: bool = True  # the reference code turns logits to float32 before the loss
    linears: tuple[Linear, ...] = ()
    exact: bool = True
    spread: float = 0.0
    note: str | None = None

    @property
    def query_width(self) -> int:
        """Elements of all query heads of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of the keys (or the values) of a token."""
        return self.kv_heads * self.head_dim

    @property
    def active_width(self) -> int:
        """MLP width that one token passes through: all active experts together."""
        return self.intermediate * max(1, self.active_experts)

    def embedding_parameters(self) -> int:
        """Input embedding with the table of positions; the output head is apart unless tied."""
        return (self.vocab + self.learned_positions) * self.hidden

    def head_parameters(self) -> int:
        """The output head's own parameters: 0 when tied, but for a bias."""
        return (0 if self.tied else self.vocab * self.hidden) + (self.vocab if self.head_bias else 0)

    def norm_parameters(self) -> int:
        """All normalisation vectors of the model."""
        vectors = {"rms": 1, "layer": 2, "none": 0}[self.norm]
        heads = {"none": 0, "head": 2 * self.head_dim, "width": self.query_width + self.kv_width}[
            self.qk_norm
        ]
        block = vectors * self.norms * self.hidden + heads
        return self.layers * block + (vectors * self.hidden if self.final_norm else 0)

    def linear_parameters(self) -> int:
        """Weights of the linear layers in the blocks, without biases: what quantisation shrinks."""
        return self.layers * sum(linear.weights for linear in self.linears)

    def bias_parameters(self) -> int:
        """Biases of the linear layers in the blocks."""
        return self.layers * sum(linear.outputs * linear.copies for linear in self.linears if linear.bias)

    def block_parameters(self) -> int:
        """Parameters of one block."""
        vectors = {"rms": 1, "layer": 2, "none": 0}[self.norm]
        final = vectors * self.hidden if self.final_norm else 0
        inside = self.linear_parameters() + self.bias_parameters() + self.norm_parameters() - final
        return inside // self.layers

    def over_layers(self, per_layer: Callable[[int | None], float]) -> float:
        """A sum over the layers of what depends on their window (None: they read the whole context)."""
        full = self.layers if self.sliding_window is None else self.full_layers
        return full * per_layer(None) + (self.layers - full) * per_layer(self.sliding_window)

    def parameters(self) -> int:
        """Every parameter, tied ones once."""
        return (
            self.embedding_parameters()
            + self.head_parameters()
            + self.norm_parameters()
            + self.linear_parameters()
            + self.bias_parameters()
            + self.extra_parameters
        )

    def matmul_parameters(self) -> int:
        """Weights that one token is multiplied with: active experts only, output head included.

        The input embedding is a look-up and does not count (Kaplan et al. 2020, section 2.1).
        """
        inside = sum(linear.inputs * linear.outputs * linear.active for linear in self.linears)
        return self.layers * inside + self.vocab * self.hidden

    def modules(self) -> Mapping[str, tuple[int, int]]:
        """Names a LoRA adapter can target, with (inputs, outputs)."""
        return {linear.name: (linear.inputs, linear.outputs) for linear in self.linears} | {
            "lm_head": (self.hidden, self.vocab)
        }

    def targeted(self, targets: Iterable[str]) -> tuple[Linear, ...]:
        """The linear layers that targets name, each once, in the block's order; the head as ``lm_head``.

        A target is a module's name ("q_proj"), the end of one ("c_proj" names both), a role ("q", "mlp",
        "attention") or "all-linear". Raises SettingError with the names that exist.
        """
        return self._targeted(tuple(targets))

    @functools.lru_cache(maxsize=1024)  # noqa: B019  (a shape is a small value, and few are alive)
    def _targeted(self, targets: tuple[str, ...]) -> tuple[Linear, ...]:
        wanted: set[str] = set()
        for target in targets:
            found = self._named(target.strip())
            if not found:
                raise SettingError(self._no_such_target(target))
            wanted |= found
        head = Linear("lm_head", self.hidden, self.vocab, ("head",))
        return tuple(linear for linear in (*self.linears, head) if linear.name in wanted)

    def _named(self, target: str) -> set[str]:
        """Names of the modules that one target means."""
        word = target.removeprefix("model.").lower()
        if word in ("lm_head", "output", "embed_out", "head"):
            return {"lm_head"}
        if word in ("all", "all-linear", "all_linear", "all linear", "linear"):
            return {linear.name for linear in self.linears if "router" not in linear.roles}
        ends = {
            linear.name
            for linear in self.linears
            if word in (linear.name.lower(), linear.name.split(".")[-1].lower())
        }
        roles = ROLES.get(word, ())
        if self.experts:  # experts' matrices were renamed between releases of transformers
            roles = ROLES.get(_EXPERTS.get(word, word), ())
        return ends or {linear.name for linear in self.linears if set(roles) & set(linear.roles)}

    def _no_such_target(self, target: str) -> str:
        names = [name for name in self.modules() if name != "lm_head"]
        near = difflib.get_close_matches(target, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return (
            f"LoRA target {target!r} does not exist in {self.name} ({self.family}){hint} "
            f"It has: {', '.join(names)}, lm_head; or say all-linear, attention or mlp"
        )

    def lora_parameters(self, rank: int, targets: Iterable[str], dora: bool = False) -> int:
        """Trainable parameters of a LoRA adapter: rank x (inputs + outputs) for each targeted matrix.

        Hu et al. 2021 (arXiv 2106.09685), section 4.1. DoRA adds a magnitude for each output (Liu et al.
        2024, arXiv 2402.09353, section 4.1).
        """
        total = 0
        for linear in self.targeted(targets):
            copies = 1 if linear.name == "lm_head" else self.layers * linear.copies
            total += copies * (rank * (linear.inputs + linear.outputs) + (linear.outputs if dora else 0))
        return total

    def active_lora_parameters(self, rank: int, targets: Iterable[str]) -> int:
        """Those of an adapter that one token is multiplied with: of the experts it passes through."""
        return sum(
            (1 if linear.name == "lm_head" else self.layers * linear.active)
            * rank
            * (linear.inputs + linear.outputs)
            for linear in self.targeted(targets)
        )


# What short names of targets mean, over all families: roles, and the words for them.
_WORDS = {
    ("q",): "q query lora_query lora_q",
    ("k",): "k key lora_key",
    ("v",): "v value lora_value",
    ("q", "k", "v"): "qkv",
    ("o",): "o out output_proj projection lora_projection",
    ("q", "k", "v", "o"): "attention attn qkvo self_attn",
    ("gate", "up", "down"): "mlp ffn feed_forward lora_mlp",
    ("gate",): "gate",
    ("up",): "up",
    ("down",): "down",
}
_EXPERTS = {
    "gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down",
}  # fmt: skip
ROLES: Mapping[str, tuple[str, ...]] = {
    word: roles for roles, words in _WORDS.items() for word in words.split()
}
