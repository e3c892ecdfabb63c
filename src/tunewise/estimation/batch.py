"""Batch mode: one JSON request per line in, one JSON estimate per line out, in order."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunewise.errors import TunewiseError
from tunewise.estimation.disk import disk
from tunewise.estimation.memory import memory
from tunewise.estimation.spelling import KEYS, SILENT, model_of, setup_of


def estimate_batch(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields one estimate for each request, as they come; blank lines are passed over.

    A request that cannot be estimated gives ``{"error": ...}`` (with its ``id`` where it has one), and the
    rest go on. Keys: see ``spelling.KEYS``.
    """
    for line in lines:
        if line.strip():
            yield estimate_line(line)


def estimate_line(line: str) -> dict[str, Any]:
    """The estimate of one request in JSON."""
    try:
        request = json.loads(line)
    except json.JSONDecodeError as error:
        return {"error": f"not JSON: {error}"}
    if not isinstance(request, dict):
        return {"error": f"expected a JSON object, got {type(request).__name__}"}
    return estimate_request(request)


def estimate_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The estimate of one request; errors of the request are part of the answer."""
    head = {"id": request["id"]} if "id" in request else {}
    warnings = [f"unknown key {key!r} is ignored" for key in request if key not in KEYS and key not in SILENT]
    try:
        shape = model_of(request, warnings)
        setup = setup_of(request, warnings)
        found = memory(shape, setup)
        sizes = disk(shape, setup)
    except TunewiseError as error:
        return {**head, "error": str(error)}
    return {
        **head,
        "model": shape.name,
        "memory": {
            "allocated_gib": found.allocated.as_dict(),
            "reserved_gib": found.reserved.as_dict(),
            "device_gib": found.device.as_dict(),
            "peak": found.peak,
        },
        "trainable_params": found.trainable,
        "checkpoint_gib": round(sizes.checkpoint, 6),
        "adapter_gib": None if setup.method == "full" else round(sizes.model, 6),
        "warnings": [*warnings, *found.warnings],
    }
