"""An estimate as one JSON object. Memory in GiB, time in seconds, money in USD; absent figures are null."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunewise.estimation.fit import Fit
from tunewise.estimation.memory import Range

if TYPE_CHECKING:
    from tunewise.estimation.estimate import Estimate, Run


def to_json(found: "Estimate") -> dict[str, Any]:
    """See ``Estimate.to_json``."""
    run = found.run
    return {
        "model": {
            "name": found.shape.name,
            "family": found.shape.family,
            "parameters": found.shape.parameters(),
            "exact": found.shape.exact,
            "note": found.shape.note,
        },
        "method": found.setup.method,
        "setup": _setup(found),
        "lengths": found.lengths.to_json(),
        "memory": _memory(found),
        "trainable_params": found.memory.trainable,
        "checkpoint_gib": round(found.disk.checkpoint, 6),
        "disk_gib": dict(found.disk.as_dict()),
        "host_gib": round(found.memory.host, 3),
        "flops_per_token": {
            "forward": found.flops.forward,
            "backward": found.flops.backward,
            "recomputed": found.flops.recomputed,
        },
        "time": None if run is None else _time(run, found),
        "gpu": None if found.fit is None else _fit(found.fit, None),
        "gpus": [_fit(one, _run_on(found, one)) for one in found.fits],
        "smallest_gpu": None if found.smallest is None else found.smallest.name,
        "inference": _inference(found),
        "rule_of_thumb": found.rule.as_dict(),
        "calibration": {
            "runs": found.calibrated.runs,
            "memory_factor": found.calibrated.memory,
            "time_factor": found.calibrated.time,
            "said": found.calibrated.said,
        },
        "warnings": list(found.warnings),
    }


def _setup(found: "Estimate") -> dict[str, Any]:
    plain = {name: getattr(found.setup, name) for name in type(found.setup).__dataclass_fields__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _memory(found: "Estimate") -> dict[str, Any]:
    memory = found.memory
    return {
        "allocated_gib": ranged(memory.allocated),
        "reserved_gib": ranged(memory.reserved),
        "device_gib": ranged(memory.device),
        "evaluation_gib": ranged(memory.evaluation),
        "resume_gib": ranged(memory.resume),
        "merge_gib": ranged(memory.merge) if memory.merge.expected else None,
        "parts_gib": {name: round(value, 3) for name, value in memory.parts.items()},
        "phases_gib": {name: round(value, 3) for name, value in memory.phases.items()},
        "peak": memory.peak,
    }


def ranged(one: Range, places: int = 3) -> dict[str, float]:
    """Low, expected and high, rounded."""
    return {
        "low": round(one.low, places),
        "expected": round(one.expected, places),
        "high": round(one.high, places),
    }


def _time(run: "Run", found: "Estimate") -> dict[str, Any]:
    price = run.gpu.price
    return {
        "gpu": run.gpu.name,
        "gpus": found.setup.gpus,
        "for": "a million tokens" if found.lengths.rows is None else "the run",
        "rows": found.lengths.rows,
        "epochs": found.epochs if found.lengths.rows is not None else None,
        "steps": run.steps,
        "padded_tokens": run.tokens,
        "seconds": ranged(run.seconds, 1),
        "step_seconds": ranged(run.speed.step_seconds, 4),
        "tokens_per_second": ranged(run.speed.tokens_per_second, 1),
        "utilisation": round(run.speed.utilisation, 4),
        "executed_share": round(run.speed.executed_share, 4),
        "step_parts_seconds": {name: round(value, 5) for name, value in run.speed.parts.items()},
        "why": run.speed.why,
        "usd": None if run.usd is None else ranged(run.usd, 4),
        "usd_per_gpu_hour": None
        if price is None
        else {
            "low": price.low,
            "expected": price.expected,
            "high": price.high,
            "date": price.date,
            "source": price.source,
        },
    }


def _run_on(found: "Estimate", one: Fit) -> "Run | None":
    return next((run for run in found.runs if run.gpu.name == one.gpu.name), None)


def _fit(one: Fit, run: "Run | None") -> dict[str, Any]:
    said: dict[str, Any] = {
        "gpu": one.gpu.name,
        "memory_gib": one.gpu.memory_gib,
        "usable_gib": one.gpu.usable_gib,
        "verdict": one.verdict,
        "needs_gib": round(one.needs, 3),
        "safe_gib": round(one.safe, 3),
        "changes": [
            {"change": change.name, "said": change.said, "price": change.price} for change in one.changes
        ],
        "safe_gib_after": None if one.after is None else round(one.after, 3),
        "note": one.note or None,
    }
    if run is not None:
        said["tokens_per_second"] = ranged(run.speed.tokens_per_second, 1)
        said["seconds"] = ranged(run.seconds, 1)
        said["usd"] = None if run.usd is None else ranged(run.usd, 4)
    return said


def _inference(found: "Estimate") -> Mapping[str, Any]:
    serve = found.inference
    pairs = {
        "prefill_seconds": serve.prefill_seconds,
        "decode_seconds_per_token": serve.decode_seconds,
        "tokens_per_second": serve.tokens_per_second,
    }
    return {
        "weights_gib": round(serve.weights_gib, 3),
        "kv_cache_gib": round(serve.kv_gib, 4),
        "kv_bytes_per_token": serve.kv_bytes_per_token,
        "total_gib": ranged(serve.total_gib),
        **{name: None if value is None else ranged(value, 5) for name, value in pairs.items()},
        "fits": serve.fits,
        "adapters": None if serve.adapters is None else {k: round(v, 4) for k, v in serve.adapters.items()},
    }
