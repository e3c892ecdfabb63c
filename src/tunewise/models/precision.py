"""The number format in which matrices are multiplied, in training and in answering."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Precision = Literal["fp32", "bf16"]


def best_precision(*, whole: bool = False) -> Precision:
    """bf16 on GPUs that have it and on CPUs that multiply it in their own unit (AMX), else fp32.

    whole: all weights are trained. Then a CPU takes fp32: most models come in bf16, so that a weight starts
    where a rounded one can stand, and its first steps, less than half the way to the next such place, are not
    seen by the passes that are to follow them. Measured with SmolLM2-135M, 200 rows, rate 2e-5, 75 steps: a
    held-out loss of 0.83 in place of 0.40. Adapters start from nothing and lose nothing. A GPU, where fp32 is
    eight times slower and answers are in bf16 as well, keeps what all trainers do.

    CPUs that have bf16 without AMX stay at fp32: measured with 135M parameters and AVX512-BF16, autocast gave
    15 % more tokens a second.
    """
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if has_amx() and not whole else "fp32"


def has_amx() -> bool:
    """True where this machine's CPU has AMX for bf16."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def can_round() -> bool:
    """True where torch has layers in bf16 for this machine's CPU."""
    import torch

    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is not None and supported())


@contextmanager
def half(precision: str, device: str) -> Iterator[None]:
    """On a GPU, multiply matrices in bf16 (autocast) when ``precision`` says so; on a CPU: ``products``."""
    import torch

    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" and device != "cpu"):
        yield


@contextmanager
def products(precision: str) -> Iterator[None]:
    """How a CPU multiplies fp32 matrices while it lasts; sums and results are fp32 either way.

    The setting is the process's: not for threads that multiply side by side.

    ``bf16``: a CPU with AMX rounds the factors to bf16. One product is off by 0.24 % of its length, and a
    step of LoRA on SmolLM2-135M, with the adapters' products rounded as well, took 0.46 of the time on one
    core, 0.63 on two. Autocast would round the results, too, where an adapter's first small differences are
    lost.

    ``fp32``: exact. torch's default, MKL, leaves half of an AMD processor's width unused: measured 225
    against 505 GFLOP/s by oneDNN on two cores of an EPYC with AVX-512, with errors of the same size. The
    setting that lets oneDNN do it allows bf16 by its name; oneDNN makes use of that only with AMX.
    """
    import torch

    backend: Any = torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "ieee" if precision == "fp32" and has_amx() else "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
