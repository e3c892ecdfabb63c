"""What a rung's metric measures beside its value, in one line: the same on the terminal and on the page."""

from collections.abc import Mapping
from typing import Any


def further_figures(rung: Mapping[str, Any]) -> str:
    """One rung of ``decision.json`` -> ``field_recall 0.912, macro_f1 0.804, ...``; empty without any.

    A figure over all answers (``figures``) stands for the mean of a detail of its name, or of which it
    is the ``avg_``. Counts are whole numbers; an undefined figure says so.
    """
    over_all: Mapping[str, Any] = rung.get("figures") or {}
    details: Mapping[str, Any] = rung.get("details") or {}
    means = {
        name: value
        for name, value in details.items()
        if name not in over_all and f"avg_{name}" not in over_all
    }
    return ", ".join(
        f"{name} {_number(value)}"
        for name, value in {**over_all, **means}.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    )


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
