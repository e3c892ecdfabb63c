"""Rungs that are out before any call is made, and what the others have left to share and to learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewise.rungs.names import LEARNS_FROM_ROWS, TUNED
from tunewise.rungs.rung import Rung, Workbench
from tunewise.rungs.tuned_settings import method_that_fits
from tunewise.splits import Parts
from tunewise.store import Store


def without_overlap(parts: Parts, rung: str) -> Parts:
    """The parts a rung may learn from: without what overlaps with certification, exactly or but for marks.

    Rungs that live from rows are left out altogether in that case (see ``static_reasons``). The others
    (``rag`` chooses its passages, ``constrained`` its prompt) show no train rows, and choose on selection
    rows that do not overlap.
    """
    if rung in LEARNS_FROM_ROWS or parts.blocked_reason() is None:
        return parts
    return replace(parts, train=(), selection=parts.clean_selection())


def static_reasons(
    rungs: Sequence[Rung], bench: Workbench, asked_for: Sequence[str] | None
) -> dict[str, str]:
    """The rungs that are out before any call is made, each with its reason; the others share alpha."""
    reasons = {}
    blocked = bench.parts.blocked_reason()
    for rung in rungs:
        if asked_for is not None and rung.name not in asked_for:
            reasons[rung.name] = "not asked for"
        elif asked_for is None and (reason := not_this_method(rung.name, bench)) is not None:
            reasons[rung.name] = reason
        elif asked_for is None and rung.name == "cpt-sft" and bench.task.training.cpt is None:
            reasons[rung.name] = (
                "pre-training climbs when the task has training.cpt; name cpt-sft with --rungs to have it "
                "measured on knowledge.documents"
            )
        elif blocked is not None and rung.name in LEARNS_FROM_ROWS:
            reasons[rung.name] = blocked
        elif (reason := rung.cannot_help(bench)) is not None:
            reasons[rung.name] = reason
    return reasons


def not_this_method(rung: str, bench: Workbench) -> str | None:
    """Why a rung that trains weights is left out: one method climbs, ``tune.method``, by default lora.

    Where the estimate says that lora does not fit this machine's GPU and qlora does, qlora climbs instead.
    """
    if rung not in TUNED or bench.tune_door is None:
        return None
    tune = bench.task.tune
    method, why = (
        (tune.method, "") if tune is not None and tune.method is not None else method_that_fits(bench)
    )
    if rung == method:
        return None
    return f"tuning climbs with {method}{why}; name {rung} with --rungs or tune.method to have it measured"


def count_in_play(store: Store, rungs: Sequence[Rung], left_out: Mapping[str, str]) -> int:
    """How many rungs share the false-*meets* budget, frozen in the store at the start of the run."""
    in_play: Any = store.freeze("rungs in play", [r.name for r in rungs if r.name not in left_out])
    return len(in_play)
