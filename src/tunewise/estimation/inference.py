"""Serving: weights, KV cache, latency bounds, and one base with many adapters against many models.

Decoding one token reads every weight once for the whole batch and each sequence's own keys and values (Pope
et al. 2022, arXiv 2211.05102, section 2); reading the prompt is bound by arithmetic. The shares of bandwidth
and peak that servers reach are assumed from published runs: 0.85 for tuned engines, 0.60 in the middle, 0.27
measured for plain eager decoding (litgpt, Llama-2-7B on an A100).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewise.errors import SettingError
from tunewise.estimation.compute import visible_tokens
from tunewise.estimation.hardware import GIB, Gpu
from tunewise.estimation.memory import Range
from tunewise.estimation.shapes import Shape

BYTES: Mapping[str, float] = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0,
    "nf4": 0.5625, "nf4-dq": 0.5159, "gptq-int4": 0.53,
}  # fmt: skip
FOUR_BITS = ("nf4", "nf4-dq", "gptq-int4", "int8")  # embeddings and head stay in 16 bits
CONTEXT_GIB = 0.6  # CUDA context and kernels: 0.45 to 0.95 measured on A100s
WORKSPACE = 0.05  # of weights and cache, for activations and the allocator
BANDWIDTH_REACHED = (0.85, 0.60, 0.27)  # best, expected, worst
PEAK_REACHED = (0.85, 0.55, 0.30)  # of what large products reach


@dataclass(frozen=True, slots=True)
class Inference:
    """What serving takes. GiB, seconds, tokens per second; latencies are None without a GPU.

    decode_seconds: from one token to the next of a sequence; tokens_per_second: of all sequences together.
    adapters: one base with N adapters against N merged models, both with the same cache.
    """

    weights_gib: float
    kv_gib: float
    kv_bytes_per_token: float
    total_gib: Range
    prefill_seconds: Range | None
    decode_seconds: Range | None
    tokens_per_second: Range | None
    fits: bool | None
    adapters: Mapping[str, float] | None


def weight_bytes(shape: Shape, dtype: str) -> float:
    """Bytes of the weights. Quantised: the blocks' matrices only; the rest stays in 16 bits."""
    if dtype not in BYTES:
        raise SettingError(f"unknown weight format {dtype!r} for serving; known: {', '.join(BYTES)}")
    if dtype not in FOUR_BITS:
        return BYTES[dtype] * shape.parameters()
    inside = shape.linear_parameters()
    return BYTES[dtype] * inside + 2.0 * (shape.parameters() - inside)


def kv_bytes_per_token(shape: Shape, dtype: str = "bf16") -> float:
    """Keys and values of one token in all layers: 2 x layers x KV width x bytes."""
    return 2.0 * shape.layers * shape.kv_width * BYTES[dtype]


def inference(
    shape: Shape,
    *,
    context: int,
    concurrency: int = 1,
    prompt: int | None = None,
    weights: str = "bf16",
    cache: str = "bf16",
    gpu: Gpu | None = None,
    adapters: int = 0,
    adapter_parameters: int = 0,
) -> Inference:
    """Serving ``concurrency`` sequences of ``context`` tokens each, ``prompt`` of them read at the start.

    adapters: number of LoRA adapters of ``adapter_parameters`` each (bf16) beside one base. Raises
    SettingError.
    """
    if context < 1 or concurrency < 1 or adapters < 0:
        raise SettingError(
            f"context and concurrency start at 1, adapters at 0; got {context}, {concurrency}, {adapters}"
        )
    held = weight_bytes(shape, weights)
    seen = shape.over_layers(lambda window: min(context, window or context)) / shape.layers
    kv = kv_bytes_per_token(shape, cache) * seen * concurrency
    one = 2.0 * adapter_parameters
    total = (held + kv + adapters * one) * (1 + WORKSPACE)
    range_gib = Range((held + kv) / GIB, total / GIB + CONTEXT_GIB, total * 1.1 / GIB + 2 * CONTEXT_GIB)
    return Inference(
        weights_gib=held / GIB,
        kv_gib=kv / GIB,
        kv_bytes_per_token=kv_bytes_per_token(shape, cache),
        total_gib=range_gib,
        prefill_seconds=None if gpu is None else _prefill(shape, gpu, prompt or context),
        decode_seconds=None if gpu is None else _decode(shape, gpu, weights, kv, concurrency),
        tokens_per_second=None
        if gpu is None
        else _rate(_decode(shape, gpu, weights, kv, concurrency), concurrency),
        fits=None if gpu is None else range_gib.high <= gpu.usable_gib,
        adapters=_many(held, kv, one, adapters, gpu) if adapters else None,
    )


def _prefill(shape: Shape, gpu: Gpu, tokens: int) -> Range:
    """Seconds until the first token of one prompt, nothing cached."""
    seen = shape.over_layers(lambda window: visible_tokens(tokens, window))
    attention = 4.0 * shape.query_width * seen
    flops = (2.0 * shape.matmul_parameters() + attention) * tokens
    ideal = flops / (gpu.tflops * 1e12 * gpu.reachable)
    return Range(*(ideal / share for share in PEAK_REACHED))


def _decode(shape: Shape, gpu: Gpu, weights: str, kv: float, concurrency: int) -> Range:
    """Seconds per token: the memory read or, in large batches, the arithmetic, whichever takes longer."""
    active = shape.matmul_parameters() / max(1, shape.linear_parameters() + shape.vocab * shape.hidden)
    touched = weight_bytes(shape, weights) * min(
        1.0, active * concurrency
    )  # experts that no token chose stay unread
    read = (touched + kv) / (gpu.bandwidth_gb_s * 1e9)
    arithmetic = 2.0 * shape.matmul_parameters() * concurrency / (gpu.tflops * 1e12 * gpu.reachable)
    pairs = zip(BANDWIDTH_REACHED, PEAK_REACHED, strict=True)
    return Range(*(max(read / bandwidth, arithmetic / peak) for bandwidth, peak in pairs))


def _rate(each: Range, concurrency: int) -> Range:
    return Range(concurrency / each.high, concurrency / each.expected, concurrency / each.low)


def _many(held: float, kv: float, one: float, adapters: int, gpu: Gpu | None) -> dict[str, float]:
    """GiB of one base with N adapters and of N merged models.

    How many of either the GPU holds with this cache.
    """
    found = {
        "adapters": float(adapters),
        "one_base_gib": (held + adapters * one + kv) / GIB,
        "merged_models_gib": adapters * (held + kv) / GIB,
        "adapter_gib": one / GIB,
    }
    if gpu is not None:
        room = (gpu.usable_gib - 2 * CONTEXT_GIB) * GIB / (1 + WORKSPACE)
        found["adapters_that_fit"] = float(max(0, int((room - held - kv) / one))) if one else 0.0
        found["merged_models_that_fit"] = float(max(0, int(room / (held + kv))))
    return found
