"""How people write down a run: the spellings of published tables, turned into a set-up.

Keys are the columns of published measurements (``model``, ``method``, ``weight_dtype`` ...). Free text in
``other`` and ``source`` is searched for what no structured key said. A value that means nothing is a
SettingError; a guess is a warning.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation.models import find_model, known_model
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape

KEYS = (
    "id", "model", "params_b", "method", "weight_dtype", "optimizer", "optimizer_dtype", "lora_rank",
    "lora_targets", "lora_dropout", "adapter_dtype", "seq_len", "micro_batch", "grad_accum",
    "grad_checkpointing", "attention", "other", "gpus", "stack", "sharding", "cross_entropy", "gpu_model",
    "source", "offload", "compile",
)  # fmt: skip
# Columns that describe the measurement and not the run: known, and of no effect.
SILENT = ("metric", "measured_gib", "tokens_per_s", "time_note", "notes")
UNCAPPED = 512  # tokens assumed where a table says nothing of the length: short instruction data

# Patterns in order; the first that is found in the lower-cased value decides.
METHODS = (
    (r"q-?lora|4[- ]?bit|int4|nf4", "qlora"),
    (r"lora|dora|adapter|peft", "lora"),
    (r"full|sft|fine-?tun|pre-?train|cpt|^ft$|galore|badam|lisa|lomo|apollo", "full"),
)
WEIGHTS = (
    (r"fp32.*(bf16|bfloat16)|mixed|\bamp\b|master", "fp32/bf16"),
    (r"fp32.*(fp16|float16)", "fp32/fp16"),
    (r"gptq|awq|marlin|exl2|hqq", "gptq-int4"),
    (r"(nf4|bnb|4[- ]?bit|int4).*(dq|double)|nf4-dq|nf4dq", "nf4-dq"),
    (r"nf4|4[- ]?bit|int4|uint4|q4", "nf4"),
    (r"^fp4|float4", "fp4"),
    (r"int8|8[- ]?bit|w8", "int8"),
    (r"fp8|float8", "bf16"),  # what float8 training computes with; its weights stay 16-bit
    (r"bf16|bfloat16|^16-?bit|^half|16 ?bit", "bf16"),
    (r"fp16|float16|f16", "fp16"),
    (r"fp32|float32|f32|32-?bit|full precision|tf32", "fp32"),
)
OPTIMIZERS = (
    (r"paged.*(8-?bit|int8)", "paged-adamw-8bit"),
    (r"paged.*(lion)", "lion-8bit"),
    (r"paged", "paged-adamw"),
    (r"lion.*8-?bit", "lion-8bit"),
    (r"lion", "lion"),
    (r"(adam|ademamix).*8-?bit|8-?bit.*adam", "adamw-8bit"),
    (r"adam.*4-?bit|4-?bit.*adam", "adamw-4bit"),
    (r"adafactor|came", "adafactor"),
    (r"sgd.*moment|moment.*sgd|muon", "sgd-momentum"),
    (r"sgd|lomo", "sgd"),
    (r"(adam|ademamix).*fused|fused.*adam|apex|deepspeed|cpuadam", "adamw-fused"),
    (r"adam", "adamw"),
)
CHECKPOINTING = (
    (r"^(no|none|off|false|0|disabled|without)\b", "none"),
    (r"selective|sac\b|partial", "selective"),
    (r"yes|true|full|on\b|^1$|enabled|unsloth|recomput|offload|always|reentrant|every|block", "full"),
)
ATTENTION = (
    (r"flash|fa-?2|fa-?3|xformers|flex|mem.*eff", "flash"),
    (r"sdpa|torch", "sdpa"),
    (r"eager|naive|math|vanilla|manual|no flash|standard", "eager"),
)
CROSS_ENTROPY = (
    (r"liger|fused.?linear|^fused|cce|cut|linear.?ce|no logits|not materiali|unsloth|fused ce|flce", "fused"),
    (r"chunk", "chunked"),
    (r"fast|triton|in-?place|foak", "fast"),
    (r"logit|standard|hf|default|torch|materiali|full|plain|^ce$|cross|eager|naive|none|fp32", "logits"),
)
STACKS = (
    (r"unsloth", "unsloth"),
    (r"titan", "torchtitan"),
    (r"torchtune", "torchtune"),
    (r"lit-?gpt|lightning", "litgpt"),
    (r"liger|fused|foak|fast.?kernel|triton", "hf-fused"),
    (r"hf|hugging|transformers|trl|peft|axolotl|factory|swift|fms|foundation-model|accelerate|deepspeed|qwen"
     r"|answer|fsdp|lmflow|glm|internlm|xtuner|h2o|trainer|autotrain|baichuan|yi|plain|native", "hf"),
)  # fmt: skip
SHARDING = (
    (r"zero[-_ ]?(stage)?[-_ ]?3|stage[ -]?3|zero3|ds3", "zero3"),
    (r"zero[-_ ]?(stage)?[-_ ]?2|stage[ -]?2|zero2|ds2|grad.?op", "zero2"),
    (r"zero[-_ ]?(stage)?[-_ ]?1|stage[ -]?1|zero1", "zero1"),
    (r"fsdp|full.?shard|fully.?shard|hsdp|deepspeed", "fsdp"),
    (r"ddp|data.?parallel|^dp|replicat|mirror|zero-? ?0", "ddp"),
    (r"^(no|none|single|1|off|false)", "none"),
)


def read(value: Any, patterns: tuple[tuple[str, str], ...], key: str) -> str | None:
    """The word a value means, None where it says nothing. Raises SettingError for what means nothing."""
    if value is None or isinstance(value, dict | list):
        if value:
            raise SettingError(f"{key}: expected a word, got {value!r}")
        return None
    text = str(value).strip().lower()
    if text in ("", "nan", "null", "unknown", "not stated", "unstated", "n/a", "?", "-", "auto", "default"):
        return None
    known = list(dict.fromkeys(word for _, word in patterns))
    if text in known:
        return text
    for pattern, word in patterns:
        if re.search(pattern, text):
            return word
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SettingError(f"{key}: {value!r} is not understood{hint} Known: {', '.join(known)}")


def whole(value: Any, key: str) -> int | None:
    """A positive whole number, also as "4096", "4k", "8,192" or "2048 (cap)"; None where nothing is said."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise SettingError(f"{key}: expected a positive whole number, got {value!r}")
    if isinstance(value, int | float):
        number = float(value)
    else:
        text = str(value).strip().lower().replace(",", "").replace("_", "")
        if text in ("nan", "unknown", "not stated", "n/a", "?", "-", "none", "null"):
            return None
        found = re.match(r"([-+]?\d+(?:\.\d+)?)\s*(k\b|m\b)?", text)
        if found is None:
            raise SettingError(f"{key}: expected a positive whole number, got {value!r}")
        number = float(found.group(1)) * {"k": 1024, "m": 1048576}.get(found.group(2) or "", 1)
    if not number >= 1 or number != int(number):
        raise SettingError(f"{key}: expected a positive whole number, got {value!r}")
    return int(number)


def targets_of(value: Any) -> tuple[str, ...] | None:
    """LoRA targets from a list or from text with commas, slashes or plus signs."""
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, list | tuple):
        return tuple(str(word) for word in value)
    text = str(value).strip()
    if re.fullmatch(r"(?i)(library |recipe )?default.*|not stated|unknown|auto|n/?a|none|nan", text):
        return None
    if re.fullmatch(r"(?i)all[ -_]?(linear)?(\s*layers)?|linear|all linear.*", text):
        return ("all-linear",)
    words = [word for word in re.split(r"[\s,;/+|&]+", text.strip("[](){}\"'")) if word]
    return tuple(word.strip("\"'") for word in words if word.lower() not in ("and", "only", "layers"))


def model_of(request: Mapping[str, Any], warnings: list[str]) -> Shape:
    """The shape a request means: by name, by an inline config, or by its parameter count alone."""
    said = request.get("model")
    count = request.get("params_b")
    parameters = None
    if count not in (None, ""):
        try:
            parameters = round(float(str(count)) * 1e9)
        except ValueError:
            raise SettingError(f"params_b: expected a number of billions, got {count!r}") from None
        if not parameters > 0:
            raise SettingError(f"params_b: expected a positive number of billions, got {count!r}")
    if isinstance(said, Mapping):
        shape = find_model(said, parameters)
    elif isinstance(said, str) and said.strip():
        shape = known_model(said) or find_model(said, parameters)
    elif parameters is not None:
        shape = find_model("a model of this size", parameters)
    else:
        raise SettingError("model: expected a name, or an object with the keys of a config.json; got nothing")
    if parameters is not None and shape.exact and not 0.9 < shape.parameters() / parameters < 1.1:
        counted = shape.parameters() / 1e9
        warnings.append(
            f"params_b says {count}, the shape of {shape.name} counts {counted:.3f}; the shape is used"
        )
    return shape


def setup_of(request: Mapping[str, Any], warnings: list[str]) -> Setup:
    """The set-up a request means; what it leaves open is the stack's default."""
    said = (str(request.get(key) or "") for key in ("other", "source", "sharding"))
    hints = "; ".join(said).lower()
    weights = read(request.get("weight_dtype"), WEIGHTS, "weight_dtype")
    method = read(request.get("method"), METHODS, "method")
    if method is None:
        method = "qlora" if weights in ("nf4", "nf4-dq", "gptq-int4") else "lora"
        warnings.append(f"method is not given: {method} assumed")
    weights, compute = _weights(method, weights)
    stack = _stack(request, hints)
    optimizer_text = f"{request.get('optimizer') or ''} {request.get('optimizer_dtype') or ''}".strip()
    targets, whole_modules = _targets(request, method, warnings)
    gpus = whole(request.get("gpus"), "gpus") or _first(r"world size (\d+)", hints) or 1
    setup = Setup(
        method=method,
        weight_dtype=weights,
        compute_dtype=compute,
        adapter_dtype=_adapter_dtype(request),
        optimizer=_optimizer(request, optimizer_text, hints, warnings),
        optimizer_dtype=_optimizer_dtype(request),
        optimizer_in_backward=bool(
            re.search(r"in[_ ]b(ack)?w|in backward|lomo", f"{optimizer_text} {hints}".lower())
        ),
        lora_rank=whole(request.get("lora_rank"), "lora_rank") or 16,
        lora_targets=targets,
        trained_whole=whole_modules,
        dora="dora" in str(request.get("method")).lower(),
        seq_len=_length(request, warnings),
        micro_batch=whole(request.get("micro_batch"), "micro_batch") or _assume(warnings, "micro_batch", 1),
        accumulation=whole(request.get("grad_accum"), "grad_accum") or 1,
        checkpointing=read(request.get("grad_checkpointing"), CHECKPOINTING, "grad_checkpointing")
        or str(_assume(warnings, "grad_checkpointing", "full")),
        attention=read(request.get("attention"), ATTENTION, "attention") or "sdpa",
        cross_entropy=_cross_entropy(request, hints),
        stack=stack,
        compile=bool(request.get("compile")) or bool(re.search(r"\bcompile\b", hints)),
        fp32_residual=_fp32_residual(hints),
        master_weights=_master_weights(hints),
        gpus=gpus,
        sharding=_sharding(request, hints, gpus, stack, warnings),
        offload=_offload(request, hints),
        tensor_parallel=_first(r"\btp (\d+)", hints) or 1,
        context_parallel=_first(r"\bcp (\d+)", hints) or 1,
        pipeline_parallel=_first(r"\bpp (\d+)", hints) or 1,
        capacity_gib=capacity(request.get("gpu_model")),
    )
    assumed = {warning.split(" is not given")[0] for warning in warnings}
    return replace(setup, doubt=sum(more for key, more in DOUBT.items() if key in assumed))


def _first(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else None


# What the interval gains, relative, when a setting had to be assumed.
DOUBT = {"seq_len": 0.30, "micro_batch": 0.15, "grad_checkpointing": 0.10, "optimizer": 0.03}


def _assume(warnings: list[str], key: str, value: Any) -> Any:
    warnings.append(f"{key} is not given: {value} assumed")
    return value


def _weights(method: str, word: str | None) -> tuple[str | None, str]:
    """Weight dtype and compute dtype."""
    if word in ("fp32/bf16", "fp32/fp16"):
        return "fp32", word.removeprefix("fp32/")
    if word == "fp32":
        return "fp32", "fp32"
    if method == "qlora" and word in ("bf16", "fp16", "fp32"):
        return None, "bf16"  # a table that names the compute dtype of a quantised run
    return word, "fp16" if word == "fp16" else "bf16"


def _adapter_dtype(request: Mapping[str, Any]) -> str | None:
    word = read(request.get("adapter_dtype"), WEIGHTS, "adapter_dtype")
    return word if word in ("fp32", "bf16", "fp16") else None


def _optimizer_dtype(request: Mapping[str, Any]) -> str | None:
    text = str(request.get("optimizer_dtype") or "").lower()
    return next((word for word in ("bf16", "fp32", "fp16") if word in text), None)


def _optimizer(request: Mapping[str, Any], text: str, hints: str, warnings: list[str]) -> str:
    if not request.get("optimizer"):
        for pattern, word in ((r"paged.*8-?bit", "paged-adamw-8bit"), (r"paged", "paged-adamw")):
            if re.search(pattern, hints):
                return word
    try:
        found = read(request.get("optimizer"), OPTIMIZERS, "optimizer")
    except SettingError:
        if not isinstance(request.get("optimizer"), str):
            raise
        warnings.append(f"optimizer is not given in a known word ({request['optimizer']!r})")
        found = None
    if found == "adamw" and re.search(r"8-?bit", text.lower()):
        return "adamw-8bit"
    if found == "adamw" and "fused optimizer" in hints:
        return "adamw-fused"
    return found or str(_assume(warnings, "optimizer", "adamw"))


WHOLE = {"wte": "embedding", "embed_tokens": "embedding", "emb": "embedding", "embedding": "embedding"}


def _targets(
    request: Mapping[str, Any], method: str, warnings: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Adapted matrices, and modules trained whole: an embedding is, and then a head named beside it."""
    said = targets_of(request.get("lora_targets")) or _default_targets(method, warnings)
    found = dict.fromkeys(WHOLE[word.lower()] for word in said if word.lower() in WHOLE)
    rest = tuple(word for word in said if word.lower() not in WHOLE)
    if found and "lm_head" in rest:
        found["head"] = None
        rest = tuple(word for word in rest if word != "lm_head")
    return rest or ("all-linear",), tuple(found)


def _default_targets(method: str, warnings: list[str]) -> tuple[str, ...]:
    if method != "full":
        warnings.append("lora_targets is not given: all-linear assumed")
    return ("all-linear",)


def _length(request: Mapping[str, Any], warnings: list[str]) -> int:
    found = whole(request.get("seq_len"), "seq_len")
    return found if found is not None else int(_assume(warnings, "seq_len", UNCAPPED))


def _stack(request: Mapping[str, Any], hints: str) -> str:
    said = read(request.get("stack"), STACKS, "stack")
    if said == "torchtune" and "shards" in str(request.get("weight_dtype")):
        return "torchtitan"  # torchtune trains in one dtype; float32 shards computed in 16 bits are titan's
    if said == "hf" and re.search(r"foak|liger|fused rms", hints):
        return "hf-fused"
    if said is not None:
        return said
    for pattern, word in STACKS:
        if re.search(pattern, hints):
            return word
    return "hf"


def _cross_entropy(request: Mapping[str, Any], hints: str) -> str | None:
    said = read(request.get("cross_entropy"), CROSS_ENTROPY, "cross_entropy")
    if said is not None:
        return said
    if "liger fused" in hints or "-liger" in hints:
        return "fused"
    if "fast ce" in hints:
        return "fast"
    if re.search(r"chunked c", hints):
        return "chunked"
    if "optimization-flags" in hints:  # torchtune's table adds one flag per row; no chunks before that row
        return "logits"
    return "logits" if re.search(r"standard ce|framework_config", hints) else None


def _fp32_residual(hints: str) -> bool | None:
    if "prepare_model_for_kbit" in hints or "fp32 residual" in hints or "baseline-peft" in hints:
        return True
    return False if "accelerated-peft" in hints else None


def _master_weights(hints: str) -> bool | None:
    """Float32 shards: said, excluded (a trainer without autocast, pure bf16), or the stack's own way."""
    if "kept in fp32" in hints or "mixed precision" in hints:
        return True
    return False if re.search(r"framework_config(?!.*autocast)|pure bf16", hints) else None


def _sharding(
    request: Mapping[str, Any], hints: str, gpus: int, stack: str, warnings: list[str]
) -> str | None:
    said = read(request.get("sharding"), SHARDING, "sharding")
    if gpus == 1:
        return None
    if said is None:
        said = next((word for pattern, word in SHARDING[:5] if re.search(pattern, hints)), None)
    if said in (None, "none"):
        said = "fsdp" if stack.startswith("torcht") else "ddp"
        warnings.append(f"sharding is not given for {gpus} GPUs: {said} assumed")
    return said


def _offload(request: Mapping[str, Any], hints: str) -> tuple[str, ...]:
    text = " ".join(
        str(request.get(key) or "").lower() for key in ("offload", "sharding", "grad_checkpointing")
    )
    text = f"{text} {hints}"
    found = []
    if re.search(r"cpu[ _-]?offload|offload[ _-]?cpu|param.*offload|zero-?3.*offload|offload.*all", text):
        found += ["optimizer", "weights"]
    elif re.search(r"optim\w*[ _-]?(state)?s?[ _-]?offload|offload\w* optim|zero-?2.*offload", text):
        found += ["optimizer"]
    if re.search(r"activation\w*[ _-]?offload|offload\w*[ _-]?activation", text) and "may be on" not in text:
        found += ["activations"]
    return tuple(found)


def capacity(gpu: Any) -> float | None:
    """Usable GiB of a GPU as a table names it; None where the name says nothing.

    Vendors' GB are close to GiB on the label (an "80GB" A100 shows 79.3 GiB); 0.98 of the label can be used.
    """
    if not gpu:
        return None
    text = str(gpu).lower()
    found = re.search(r"(\d+(?:\.\d+)?)\s*g(i)?b?\b", text.replace("rtx", ""))
    if found:
        return 0.98 * float(found.group(1))
    for name, size in LABELS.items():
        if name in text:
            return 0.98 * size
    return None


LABELS = {
    "4090": 24, "3090": 24, "5090": 32, "a6000": 48, "l40": 46, "h200": 141, "h100": 80, "b200": 180,
    "t4": 15, "a10": 23, "l4": 22.5, "v100": 16, "a40": 46, "6000 ada": 48, "mi300": 192, "p100": 16,
    "a100": 80,
}  # fmt: skip
