"""Would more rows help? Learning curves of tuned rungs, after the climb."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunewise.errors import TunewiseError
from tunewise.rungs.prompt import PromptCandidate

if TYPE_CHECKING:
    from tunewise.run import Run


def measure_curves(run: "Run") -> None:
    """The curves of the tuned rungs of a run, with what is left of its caps, put with their results.

    Of those that do not meet, and of all where the task asks for it. An error ends the curve alone.
    """
    asked = run.task.training.curve is True
    for place, result in enumerate(run.results):
        candidate = run.candidates.get(result.rung)
        if not isinstance(candidate, PromptCandidate) or candidate.curve is None or result.build is None:
            continue
        if result.verdict == "meets" and not asked:
            continue
        run.let_go_of_weights()
        curve = curve_of(run, result.rung, candidate.curve)
        facts = {**result.build.facts, "learning_curve": curve}
        run.results[place] = replace(result, build=replace(result.build, facts=facts))


def curve_of(run: "Run", rung: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` gives, its hours paid for; why there is nothing where it ends with an error."""
    rate = run.task.tune.usd_per_hour if run.task.tune is not None else None
    try:
        with run.progress.paying(rung, rate):
            return measure()
    except (TunewiseError, OSError, RuntimeError) as error:
        text = f"whether more rows would help was not measured: {error}"
    run.progress.tell("note", text=f"{rung}: {text}")
    return {"not_measured": text}
