"""What a run's memory was estimated to be beside what it was, kept for later estimates.

Watched are a few steps after the first, by then gradients and optimizer states exist. Nothing here can fail a
run.
"""

import time
from pathlib import Path
from typing import Any

from tunewise.errors import TunewiseError

WATCHED = 3  # steps; counting tensors takes a tenth to a quarter of each
GIB = 2**30


class MemoryWatch:
    """Peak bytes over ``WATCHED`` steps, with the largest pass in them.

    And the speed of this process's steps.
    """

    def __init__(self) -> None:
        self.others = 0  # bytes on the GPU that are not of this training
        self.steps = 0
        self.tokens = 0
        self.kept = 0
        self.peak = 0
        self.computed = 0
        self._gauge: Any = None
        self._began = time.monotonic()
        self.seconds = 0.0

    def before_step(self, model: Any, optimizer: Any) -> None:
        """Start counting, unless this is the first step or enough were watched."""
        self.steps += 1
        if 1 < self.steps <= 1 + WATCHED:
            from tunewise.training.tensor_memory import Gauge

            self._gauge = Gauge(self.others)
            self._gauge.start(model, optimizer)
        elif self.steps == 2 + WATCHED:
            self._began = time.monotonic()

    def see_pass(self, tokens: int, kept: int) -> None:
        """A forward pass over ``tokens`` positions, logits at ``kept`` of them."""
        if self._gauge is not None and tokens > self.tokens:
            self.tokens, self.kept = tokens, kept
        if self.steps >= 2 + WATCHED:
            self.computed += tokens

    def after_step(self) -> None:
        """Stop counting."""
        if self._gauge is not None:
            self.peak = max(self.peak, self._gauge.stop())
            self._gauge = None
        if self.steps >= 2 + WATCHED:
            self.seconds = time.monotonic() - self._began

    def leave_out(self, seconds: float) -> None:
        """Time between two steps that was spent on something else."""
        self._began += seconds

    def close(self) -> None:
        """Let go of a gauge that an error left running."""
        if self._gauge is not None:
            self._gauge.stop()
            self._gauge = None

    def rate(self) -> float | None:
        """Tokens per second that went through the model, all padding included; None before it is known."""
        return self.computed / self.seconds if self.seconds > 0 and self.computed else None

    def facts(self) -> dict[str, Any] | None:
        """JSON-able; None when the run was too short to watch a step."""
        if not self.peak:
            return None
        rate = self.rate()
        return {
            "peak_bytes": self.peak,
            "pass_tokens": self.tokens,
            "pass_logits": self.kept,
            "computed_tokens_per_second": None if rate is None else round(rate, 1),
        }


def against_estimate(model: str | Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Estimate the watched passes of a run, keep both figures in the calibration file, and return them.

    model: as the task names it. facts: of ``recipe.train``. None when there is nothing to compare with: no
    step was watched, or the model's architecture cannot be estimated.
    """
    seen = facts.get("memory")
    if not seen or not seen["pass_tokens"]:  # padded batches: TRL's passes are not ours to count
        return None
    from tunewise.estimation import calibration

    try:
        expected, name, device, seconds = _estimated(model, facts, seen)
    except TunewiseError as error:
        return {"not_estimated": str(error)}
    measured = seen["peak_bytes"] / GIB
    rate = seen["computed_tokens_per_second"]
    kept = calibration.record(
        calibration.Record(
            source="train",
            model=name,
            method=facts.get("method", "lora"),
            stack="hf",
            device=device,
            estimated_gib=expected,
            measured_gib=measured,
            estimated_seconds=seconds,
            measured_seconds=None if rate is None else seen["pass_tokens"] / rate,
            length=seen["pass_tokens"],
            micro_batch=1,
            checkpointing=recomputed(facts),
        )
    )
    found: dict[str, Any] = {
        "estimated_gib": round(expected, 6),
        "measured_gib": round(measured, 6),
        "ratio": round(measured / expected, 4),
        "device": device,
    }
    return found if kept is None else {**found, "not_kept": kept}


def recomputed(facts: dict[str, Any]) -> str:
    """Whether states were computed again on the way back, in the estimate's words."""
    return "full" if facts.get("checkpointing") else "none"


def _estimated(
    model: str | Path, facts: dict[str, Any], seen: dict[str, Any]
) -> tuple[float, str, str, float | None]:
    """GiB of the largest watched pass, the model's name, the device, and the seconds of such a pass."""
    from tunewise.estimation.estimate import estimate
    from tunewise.estimation.setup import as_trained_here
    from tunewise.training.probe import this_device

    device = this_device({"hardware": None})
    said = estimate(
        str(model),
        method=facts.get("method", "lora"),
        lengths=max(1, seen["pass_tokens"]),
        gpu=device,
        calibrate=False,
        **({"lora_rank": facts["rank"]} if "rank" in facts else {}),
        **{**as_trained_here(facts.get("method", "lora")), "checkpointing": recomputed(facts)},
        attention="sdpa",
    )
    memory = said.memory
    logits = memory.parts.get("logits", 0.0) * (1 - seen["pass_logits"] / max(1, seen["pass_tokens"]))
    training = {name: memory.phases[name] for name in ("loss", "backward", "step")}
    training["loss"] -= logits  # the loss is taken where a token carries it, no logits elsewhere
    run = said.run
    return (
        max(training.values()),
        said.shape.name,
        device,
        None if run is None else run.speed.step_seconds.expected,
    )
