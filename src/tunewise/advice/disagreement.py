"""Where the advice on paper and the measured ladder meet, and where they part."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunewise.advice.framework import APPROACHES
from tunewise.advice.rungs import APPROACH_OF


def meet(
    approach: str, rule: str, choice: str | None, verdicts: Sequence[tuple[str, str | None]]
) -> Mapping[str, Any]:
    """The ``advice`` of decision.json: what was advised, whether the evidence agrees, and one sentence.

    choice: the rung that was chosen. verdicts: (rung, verdict) of every rung, None for skipped ones.
    agrees: None where the evidence says nothing on the advised approach.
    """
    advised = {rung: verdict for rung, verdict in verdicts if APPROACH_OF.get(rung) == approach}
    measured = {rung: verdict for rung, verdict in advised.items() if verdict is not None}
    found = APPROACH_OF.get(choice) if choice is not None else None
    agrees, says = _compare(approach, rule, choice, found, measured)
    return {"approach": approach, "rule": rule, "agrees": agrees, "says": says}


def _compare(
    approach: str, rule: str, choice: str | None, found: str | None, measured: Mapping[str, str | None]
) -> tuple[bool | None, str]:
    on_paper = f"On paper the facts pointed to {approach} ({rule})"
    if found == approach:
        return True, f"{on_paper}, and the evidence agrees: {choice} is the lightest rung that meets."
    if choice is not None and found in APPROACHES:
        if APPROACHES.index(found) < APPROACHES.index(approach):
            return False, f"{on_paper}; measured, the lighter {choice} already meets the target."
        if measured:
            return (
                False,
                f"{on_paper}; measured, {_failed(measured)}, and only {choice} meets the target.",
            )
        return False, f"{on_paper}; no rung of that kind was measured, and {choice} meets the target."
    if not measured:
        return None, f"{on_paper}; no rung of that kind was measured, and none meets the target."
    if all(verdict == "falls_short" for verdict in measured.values()):
        return False, f"{on_paper}; measured, {_failed(measured)}, and no other rung meets the target either."
    return None, f"{on_paper}; measured, {_failed(measured)}: the evidence does not settle it."


def _failed(measured: Mapping[str, str | None]) -> str:
    words = {"falls_short": "falls short", "not_proved": "is not proved", "meets": "meets"}
    return ", ".join(f"{rung} {words.get(verdict or '', str(verdict))}" for rung, verdict in measured.items())
