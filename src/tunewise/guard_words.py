"""Sentences on the forgetting guard that the run's notes, the terminal and the page share."""

from collections.abc import Mapping
from typing import Any


def kept_in_words(guard: Mapping[str, Any]) -> str:
    """Where the alarm was, and what is kept after it, for a guard that looked for a repair."""
    step, kept = guard["stopped_at"], guard["kept"]
    alarm = (
        "the alarm came on fresh items (set B)" if step is None else f"training was stopped at step {step}"
    )
    return f"{alarm}, kept is step {kept['step']} at {kept['scale']:g} of its strength"


def on_b_in_words(guard: Mapping[str, Any]) -> str:
    """What set B has to do with what is handed over."""
    again = "repair" in guard and guard["stopped_at"] is None and guard["kept"]["scale"] < 1
    return "on set B, read once more after its alarm" if again else "on set B, which chose nothing"
