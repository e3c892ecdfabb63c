"""Lines that terminal and page share: a metric's further figures, how often items were opened, USD."""

from collections.abc import Mapping
from typing import Any

IN_WORDS = {"repaired_value": "with answers repaired"}  # names that say nothing to who has not read the code


def how_often(number: int) -> str:
    """1 -> once, 2 -> twice, 3 -> 3 times."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def usd_in_words(spent: Mapping[str, Any]) -> str | None:
    """What a run has cost: a bound where a reserve is part of it, None where nothing had a price."""
    if spent["usd"] is None:
        return None
    return f"{'at most ' if spent.get('usd_at_most') else ''}{spent['usd']:.4f} USD"


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
        f"{IN_WORDS.get(name, name)} {_number(value)}"
        for name, value in {**over_all, **means}.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    )


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
