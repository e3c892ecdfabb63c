"""Architectures: how a ``config.json`` becomes a shape.

A family is a few facts (how matrices are named and fused, which have biases, which norms there are), taken
from the reference implementations in transformers and checked against published parameter counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation.shapes import Linear, Shape

UNKNOWN_SPREAD = 0.25  # on each side, for an architecture without a rule
COUNT_SPREAD = 0.35  # on each side, for a shape guessed from a parameter count


@dataclass(frozen=True)
class Family:
    """What the code of an architecture fixes and its config does not say."""

    names: str = "llama"
    mlp: str = "gated"
    norm: str = "rms"
    norms: int = 2
    qk_norm: str = "none"
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    tied: bool = False  # when the config does not say; transformers' own default is True
    upcasts: bool = True


_LAYER = Family(names="neox", mlp="plain", norm="layer", qkv_bias=True, output_bias=True, mlp_bias=True)
FAMILIES: Mapping[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "mixtral": Family(names="mixtral"),
    "qwen": Family(names="qwen", qkv_bias=True),
    "qwen2": Family(qkv_bias=True),
    "qwen2_moe": Family(qkv_bias=True),
    "qwen3": Family(qk_norm="head"),
    "qwen3_moe": Family(qk_norm="head"),
    "gemma": Family(tied=True),
    "gemma2": Family(norms=4, tied=True),
    "gemma3_text": Family(norms=4, qk_norm="head", tied=True),
    "gemma3": Family(norms=4, qk_norm="head", tied=True),
    "phi": replace(_LAYER, names="phi", norms=1, head_bias=True),
    "phi3": Family(names="phi3"),
    "granite": Family(),
    "granitemoe": Family(),
    "olmo": Family(norm="none"),
    "olmo2": Family(qk_norm="width"),
    "olmo3": Family(qk_norm="width"),
    "olmoe": Family(qk_norm="width"),
    "smollm3": Family(tied=True),
    "cohere": Family(norms=1, tied=True),
    "stablelm": Family(norm="layer"),
    "starcoder2": replace(_LAYER, names="starcoder2", tied=True),
    "gpt_neox": replace(_LAYER, upcasts=False),
    "gpt2": replace(_LAYER, names="gpt2", tied=True, upcasts=False),
    "gpt_bigcode": replace(_LAYER, names="gpt2", tied=True, upcasts=False),
    "falcon": Family(names="neox", mlp="plain", norm="layer", norms=1, tied=True, upcasts=False),
    "opt": replace(_LAYER, names="opt", tied=True, upcasts=False),
    "bloom": replace(_LAYER, tied=True, upcasts=False),
    "mpt": Family(names="mpt", mlp="plain", tied=True, upcasts=False),  # its norms have no bias
    "chatglm": Family(names="glm", qkv_bias=True),
    "glm": Family(names="phi3", qkv_bias=True),
    "glm4": Family(names="phi3", qkv_bias=True, norms=4),
    "baichuan": Family(names="baichuan"),
    "internlm": Family(qkv_bias=True, output_bias=True),
    "internlm2": Family(names="internlm2"),
    "yi": Family(),
    "minicpm": Family(tied=True),
    "gpt_oss": Family(qkv_bias=True, output_bias=True, mlp_bias=True),
}
_ALIASES = {
    "gpt-neox": "gpt_neox",
    "gptbigcode": "gpt_bigcode",
    "refinedweb": "falcon",
    "refinedwebmodel": "falcon",
}
# Names of the matrices: (query, key, value or one fused), output, (gate, up or one fused), down
_NAMES: Mapping[str, tuple[tuple[str, ...], str, tuple[str, ...], str]] = {
    "llama": (("q_proj", "k_proj", "v_proj"), "o_proj", ("gate_proj", "up_proj"), "down_proj"),
    "mixtral": (("q_proj", "k_proj", "v_proj"), "o_proj", ("w1", "w3"), "w2"),
    "phi3": (("qkv_proj",), "o_proj", ("gate_up_proj",), "down_proj"),
    "glm": (("query_key_value",), "dense", ("dense_h_to_4h",), "dense_4h_to_h"),
    "baichuan": (("W_pack",), "o_proj", ("gate_proj", "up_proj"), "down_proj"),
    "internlm2": (("wqkv",), "wo", ("w1", "w3"), "w2"),
    "qwen": (("c_attn",), "attn.c_proj", ("w2", "w1"), "mlp.c_proj"),
    "phi": (("q_proj", "k_proj", "v_proj"), "dense", ("fc1",), "fc2"),
    "opt": (("q_proj", "k_proj", "v_proj"), "out_proj", ("fc1",), "fc2"),
    "starcoder2": (("q_proj", "k_proj", "v_proj"), "o_proj", ("c_fc",), "c_proj"),
    "neox": (("query_key_value",), "dense", ("dense_h_to_4h",), "dense_4h_to_h"),
    "gpt2": (("c_attn",), "attn.c_proj", ("c_fc",), "mlp.c_proj"),
    "mpt": (("Wqkv",), "out_proj", ("up_proj",), "down_proj"),
}
_KEYS = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab": ("vocab_size", "padded_vocab_size"),
    "intermediate": ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "n_kv_heads"),
    "head_dim": ("head_dim", "kv_channels"),
    "positions": (
        "max_position_embeddings", "max_position", "n_positions", "n_ctx", "max_seq_len", "seq_length",
        "model_max_length",
    ),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "active": ("num_experts_per_tok", "experts_per_token", "num_experts_per_token"),
}  # fmt: skip


def shape_of(config: Mapping[str, Any], name: str, parameters: int | None = None) -> Shape:
    """The shape that a Hugging Face ``config.json`` describes.

    ``parameters`` is a published count, if one is known: it decides what a config without ``model_type``
    leaves open. Raises SettingError naming the key that is missing, or the value that cannot be.
    """
    config = _text_part(config)
    kind = _kind(config)
    if kind is not None and kind in FAMILIES:
        return _build(config, name, kind, FAMILIES[kind])
    guesses = [
        _build(
            config, name, kind or "llama-like", Family(mlp=mlp, tied=tied, names="llama" if gated else "phi")
        )
        for mlp, gated in (("gated", True), ("plain", False))
        for tied in (False, True)
    ]
    best = guesses[0]
    if parameters is not None:
        best = min(guesses, key=lambda shape: abs(shape.parameters() - parameters))
    return _guessed(best, kind, parameters)


def _guessed(shape: Shape, kind: str | None, parameters: int | None) -> Shape:
    """Say how a config without a known ``model_type`` was read; sure when a published count agrees."""
    if parameters is not None and abs(shape.parameters() / parameters - 1) < 0.01:
        return replace(
            shape, note=None if kind is None else f"architecture {kind!r} read as {shape.mlp} decoder"
        )
    if kind is None:
        return replace(shape, note="the config has no model_type: read as a Llama-like decoder")
    note = f"architecture {kind!r} has no rule: read as a Llama-like decoder, so the interval is wide"
    return replace(shape, exact=False, spread=UNKNOWN_SPREAD, note=note)


def shape_from_count(parameters: int, name: str) -> Shape:
    """A typical Llama-like shape with about this many parameters; not exact, with a wide interval.

    The aspect ratio hidden / layers = 128 and a vocabulary of 64,000 are the middle of the catalogue.
    """
    if parameters < 1_000_000:
        raise SettingError(
            f"{name}: {parameters:,} parameters are too few for a shape to be guessed (from 1M)"
        )
    layers = 2
    while _typical(layers + 1, name).parameters() <= parameters:
        layers += 1
    shape = _typical(layers, name)
    size = f"{parameters / 1e9:.3g}B"
    note = f"{name} is not known: a typical shape with {size} parameters, so the interval is wide"
    rest = parameters - shape.parameters()
    return replace(shape, extra_parameters=rest, exact=False, spread=COUNT_SPREAD, note=note)


def _typical(layers: int, name: str) -> Shape:
    hidden = 128 * layers
    heads = layers
    config = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads if heads % 4 else heads // 4,
        "vocab_size": 64_000 if layers > 8 else 32_000,
        "intermediate_size": int(3.25 * hidden), "tie_word_embeddings": layers < 16,
    }  # fmt: skip
    return _build(config, name, "typical", FAMILIES["llama"])


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model of a multimodal config; its vision tower is not counted."""
    inner = config.get("text_config") or config.get("language_config") or config.get("llm_config")
    if isinstance(inner, Mapping) and inner:
        outer = {key: value for key, value in config.items() if key in ("model_type", "tie_word_embeddings")}
        return {**outer, **inner}
    return config


def _kind(config: Mapping[str, Any]) -> str | None:
    """The family's name, from ``model_type`` or the first of ``architectures``."""
    kind = config.get("model_type")
    if not kind:
        architectures = config.get("architectures") or []
        kind = str(architectures[0]) if architectures else ""
        for ending in ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model"):
            kind = kind.removesuffix(ending)
        kind = "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(kind))
        kind = {"g_p_t2": "gpt2", "g_p_t_neo_x": "gpt_neox", "g_p_t_big_code": "gpt_bigcode"}.get(kind, kind)
        kind = {
            "o_p_t": "opt",
            "m_p_t": "mpt",
            "chat_g_l_m": "chatglm",
            "q_wen": "qwen",
            "chatglm": "chatglm",
        }.get(kind, kind)
    kind = str(kind).lower()
    kind = _ALIASES.get(kind, kind)
    return kind or None


def _number(config: Mapping[str, Any], what: str, name: str, default: int | None = None) -> int:
    """A positive whole number under any of its known keys."""
    for key in _KEYS[what]:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value <= 0:
            raise SettingError(f"{name}: config key {key!r} must be a positive whole number, got {value!r}")
        return int(value)
    if default is None:
        known = ", ".join(_KEYS[what])
        raise SettingError(f"{name}: the config lacks {_KEYS[what][0]!r} (looked for {known})")
    return default


def _build(config: Mapping[str, Any], name: str, kind: str, family: Family) -> Shape:
    """The shape of a config whose family is known."""
    hidden = _number(config, "hidden", name)
    heads = _number(config, "heads", name)
    if "head_dim" not in config and "kv_channels" not in config and hidden % heads:
        raise SettingError(f"{name}: hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    kv_heads = _kv_heads(config, name, kind, heads)
    if heads % kv_heads:
        raise SettingError(
            f"{name}: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    experts = _number(config, "experts", name, 0)
    shape = Shape(
        name=name,
        family=kind,
        layers=_number(config, "layers", name),
        hidden=hidden,
        intermediate=_intermediate(config, name, kind, hidden, experts),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_number(config, "head_dim", name, hidden // heads),
        vocab=_number(config, "vocab", name),
        tied=_tied(config, family),
        max_positions=_number(config, "positions", name, 0) or None,
        mlp=family.mlp,
        experts=experts,
        active_experts=_number(config, "active", name, 2) if experts else 0,
        norm=family.norm,
        norms=_norms(config, kind, family),
        final_norm=True,
        qk_norm=family.qk_norm,
        head_bias=family.head_bias,
        learned_positions=_learned_positions(config, name, kind),
        sliding_window=_sliding(config),
        full_layers=_full_layers(config, kind, _number(config, "layers", name)),
        upcasts_logits=family.upcasts,
    )
    return replace(shape, linears=_linears(shape, config, family), extra_parameters=_extra(shape))


def _extra(shape: Shape) -> int:
    """Parameters of parts that no other rule counts."""
    if shape.family == "bloom":
        return 2 * shape.hidden  # a LayerNorm after the embedding
    if shape.family == "gpt_oss":
        return shape.layers * (shape.heads + shape.experts)  # attention sinks, biases of the router
    return 0


def _kv_heads(config: Mapping[str, Any], name: str, kind: str, heads: int) -> int:
    if kind == "gpt_bigcode" and config.get("multi_query", True):
        return 1
    if kind == "falcon" and not config.get("new_decoder_architecture") and config.get("multi_query", True):
        return 1
    return _number(config, "kv_heads", name, heads)


def _intermediate(config: Mapping[str, Any], name: str, kind: str, hidden: int, experts: int) -> int:
    if experts and config.get("moe_intermediate_size"):
        return int(config["moe_intermediate_size"])
    width = _number(config, "intermediate", name, 4 * hidden if kind in _FOUR_TIMES else None)
    return width // 2 if kind == "qwen" else width  # Qwen 1 counts both halves of its gated MLP


_FOUR_TIMES = {"gpt2", "gpt_bigcode", "gpt_neox", "falcon", "bloom", "mpt"}


def _tied(config: Mapping[str, Any], family: Family) -> bool:
    said = config.get("tie_word_embeddings")
    return family.tied if said is None else bool(said)


def _norms(config: Mapping[str, Any], kind: str, family: Family) -> int:
    if kind == "falcon" and config.get("new_decoder_architecture"):
        return 2
    return family.norms


def _learned_positions(config: Mapping[str, Any], name: str, kind: str) -> int:
    if kind in ("gpt2", "gpt_bigcode"):
        return _number(config, "positions", name, 1024)
    if kind == "opt":
        return _number(config, "positions", name, 2048) + 2  # the table begins with two unused rows
    return 0


def _sliding(config: Mapping[str, Any]) -> int | None:
    window = config.get("sliding_window")
    return (
        int(window)
        if isinstance(window, int) and window > 0 and config.get("use_sliding_window", True)
        else None
    )


def _full_layers(config: Mapping[str, Any], kind: str, layers: int) -> int:
    """Layers that read the whole context although others have a sliding window; without a window it is moot.

    Newer configs list each layer's kind. Else every n-th layer (Gemma 3: 6), every second one (Gemma 2,
    gpt-oss), or the first ones (Qwen2: ``max_window_layers``).
    """
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == layers:
        return sum("sliding" not in str(one) for one in kinds)
    for key in ("sliding_window_pattern", "_sliding_window_pattern"):
        if isinstance(every := config.get(key), int) and every > 0:
            return layers // every
    if kind.startswith("gemma3"):
        return layers // 6
    if kind in ("gemma2", "gpt_oss"):
        return layers // 2
    first = config.get("max_window_layers") if kind.startswith("qwen2") else None
    return min(first, layers) if isinstance(first, int) else 0


def _linears(shape: Shape, config: Mapping[str, Any], family: Family) -> tuple[Linear, ...]:
    """The matrices of one block, under the names of the reference code."""
    qkv, output, up, down = _NAMES[family.names]
    h, width = shape.hidden, shape.intermediate
    qkv_bias = bool(config.get("attention_bias", config.get("qkv_bias", family.qkv_bias)))
    output_bias = bool(config.get("attention_bias", family.output_bias)) or family.output_bias
    if shape.family.startswith("qwen") or shape.family in ("chatglm", "glm", "glm4"):
        output_bias = False
    mlp_bias = bool(config.get("mlp_bias", family.mlp_bias))
    sizes = (shape.query_width, shape.kv_width, shape.kv_width)
    found: list[Linear] = []
    if len(qkv) == 1:
        found.append(Linear(qkv[0], h, sum(sizes), ("q", "k", "v"), bias=qkv_bias))
    else:
        for matrix, size, role in zip(qkv, sizes, ("q", "k", "v"), strict=True):
            found.append(Linear(matrix, h, size, (role,), bias=qkv_bias))
    found.append(Linear(output, shape.query_width, h, ("o",), bias=output_bias))
    copies, active = max(1, shape.experts), max(1, shape.active_experts)
    gated = family.mlp == "gated"
    for position, matrix in enumerate(up):
        roles = ("gate", "up") if gated and len(up) == 1 else (("gate", "up")[position] if gated else "up",)
        outputs = width * (2 if gated and len(up) == 1 else 1)
        found.append(Linear(matrix, h, outputs, roles, copies, active, mlp_bias))
    found.append(Linear(down, width, h, ("down",), copies, active, mlp_bias))
    if shape.experts:
        found.append(Linear("router", h, shape.experts, ("router",)))
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    if shared:
        found += [
            Linear("shared_expert.gate_proj", h, shared, ("gate",)),
            Linear("shared_expert.up_proj", h, shared, ("up",)),
            Linear("shared_expert.down_proj", shared, h, ("down",)),
            Linear("shared_expert_gate", h, 1, ("router",)),
        ]
    return tuple(found)
