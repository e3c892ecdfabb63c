"""``choices``: the raw answer is one of a closed set, letter for letter (the right one or not)."""

from collections.abc import Sequence
from typing import Any

from tunewise.errors import SettingError
from tunewise.evidence.metrics.accuracy import named_choices
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import shown
from tunewise.evidence.records import Score


def choices(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the answer, but for white space around it, is a choice as it was declared, else 0.

    detail: ``repaired_value``, 1 where it is one after normalising, or names exactly one ("The queue is:
    billing"), as in ``accuracy``; ``why``. Raises SettingError where no choices are declared.
    """
    declared = (context.output.choices if context.output is not None else None) or context.choices
    if not declared:
        raise SettingError("the metric choices needs the closed set: list it under output.choices")
    if answer.strip() in declared:
        return Score("scored", 1.0, {"repaired_value": 1.0})
    mended = float(len(named_choices(answer, tuple(declared))) == 1)
    why = f"not one of the {len(declared)} choices: {shown(answer)}"
    return Score("scored", 0.0, {"repaired_value": mended, "why": why})
