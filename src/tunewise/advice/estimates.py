"""What each rung would take, beside the advice: from the task's plan, or for a named model and bare facts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunewise.advice.facts import Facts

if TYPE_CHECKING:
    from tunewise.estimation.estimate import Estimate
    from tunewise.forecast import RungForecast
    from tunewise.task import Task

METHODS = ("full", "lora", "qlora")
METHOD_OF = {
    "lora": "lora",
    "qlora": "qlora",
    "full": "full",
    "rag-lora": "lora",
    "cpt-sft": "lora",
    "distilled": "lora",
}
ROW_TOKENS = 512  # assumed for a row where only facts are known
SHOWN = ("calls", "seconds", "memory_gib", "disk_gib", "usd", "usd_per_query", "leaves")


def needs_gib(model: str, lengths: Any = ROW_TOKENS, task: "Task | None" = None) -> dict[str, float]:
    """Method -> GPU memory of its training in GiB, as nvidia-smi shows it, expected.

    task: whose batch, rank and checkpointing count; without one, this package's own.
    """
    from tunewise.estimation.estimate import estimate
    from tunewise.estimation.setup import as_trained_here

    found = {
        method: estimate(model, method=method, lengths=lengths, **as_trained_here(method, task))
        for method in METHODS
    }
    return {method: one.memory.device.expected for method, one in found.items()}


def of_forecast(rungs: "Sequence[RungForecast]") -> dict[str, dict[str, Any]]:
    """The figures of a task's plan, by rung."""
    return {
        rung.rung: {name: getattr(rung, name) for name in SHOWN} for rung in rungs if not rung.skipped_because
    }


def of_model(model: str, facts: Facts, rungs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Training figures of the tuned rungs for this model, on the smallest GPU that fits; rows are assumed
    to have 512 tokens. Without a number of rows, time and money are per million tokens. Raises SettingError
    for an unknown model.
    """
    from tunewise.estimation.estimate import estimate
    from tunewise.estimation.setup import as_trained_here

    rows = facts.dataset_size or None
    return {
        rung: _figures(
            estimate(
                model,
                method=METHOD_OF[rung],
                lengths=ROW_TOKENS,
                rows=rows,
                **as_trained_here(METHOD_OF[rung]),
            ),
            rows,
        )
        for rung in rungs
        if rung in METHOD_OF
    }


def _figures(found: "Estimate", rows: int | None) -> dict[str, Any]:
    run = found.run
    return {
        "gpu": None if found.smallest is None else found.smallest.name,
        "for": f"{rows:,} rows, 1 epoch" if rows else "a million tokens",
        "seconds": None if run is None else (run.seconds.low, run.seconds.high),
        "memory_gib": (found.memory.device.low, found.memory.device.high),
        "disk_gib": found.disk.run,
        "usd": None if run is None or run.usd is None else (run.usd.low, run.usd.high),
    }


def in_words(figures: Mapping[str, Any]) -> str:
    """One rung's figures in a line."""
    said = []
    if calls := figures.get("calls"):
        said.append(f"{calls[0]}-{calls[1]} calls")
    if seconds := figures.get("seconds"):
        said.append(f"{seconds[0] / 60:.1f}-{seconds[1] / 60:.1f} min")
    if memory := figures.get("memory_gib"):
        said.append(f"{memory[0]:.1f}-{memory[1]:.1f} GiB of memory")
    if figures.get("disk_gib"):
        said.append(f"{figures['disk_gib']:.2f} GiB on disk")
    if usd := figures.get("usd"):
        said.append(f"{usd[0]:.4f}-{usd[1]:.4f} USD")
    if figures.get("gpu"):
        said.append(f"training on {figures['gpu']}, {figures['for']}")
    return ", ".join(said)
