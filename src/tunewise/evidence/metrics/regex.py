"""``regex``: the raw answer as a whole matches the task's regular expression."""

from collections.abc import Sequence
from typing import Any

from tunewise.evidence.metrics.metric import MetricContext, form_of
from tunewise.evidence.records import Score
from tunewise.forms.bounded import TookTooLong
from tunewise.forms.patterns import Pattern, pattern
from tunewise.forms.wording import visible


def regex(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the answer, but for white space around it, matches ``output.regex`` from end to end.

    detail: ``repaired_value``, 1 where a match stands anywhere within it; ``why``. ``errored`` where the
    pattern took too long on this answer (only patterns that need back-tracking can, see
    ``forms.patterns``). Raises SettingError where no pattern is declared.
    """
    form: Pattern = form_of(context, "regex")
    text = answer.strip()
    try:
        if pattern(form.source, whole=True).found_in(text):
            return Score("scored", 1.0, {"repaired_value": 1.0})
        within = float(form.found_in(text))
    except TookTooLong as reason:
        return Score("errored", None, {"why": f"it could not be checked: {reason}"})
    why = f"does not match {visible(form.source, 100)}: {visible(text)!r}"
    return Score("scored", 0.0, {"repaired_value": within, "why": why})
