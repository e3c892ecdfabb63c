"""``sql``: the raw answer is SQL that parses in the task's dialect."""

from collections.abc import Sequence
from typing import Any

from tunewise.evidence.metrics.json_extract import fenced
from tunewise.evidence.metrics.metric import MetricContext, form_of
from tunewise.evidence.records import Score
from tunewise.forms.bounded import TookTooLong
from tunewise.forms.sql import SqlForm


def sql(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where every statement of the answer parses (``forms.sql.SqlForm``); else ``unparseable``, 0.

    Only the syntax is checked: no table is known and nothing is run. detail: ``repaired_value``, the same for
    the content of the first code fence; ``why``. ``errored`` where it could not be checked in bounded time.
    Raises SettingError where no dialect is declared.
    """
    form: SqlForm = form_of(context, "sql")
    try:
        why = form.why_not(answer)
        if why is None:
            return Score("scored", 1.0, {"repaired_value": 1.0})
        mended = float(any(form.why_not(content) is None for content in fenced(answer)[:1]))
    except TookTooLong as reason:
        return Score("errored", None, {"why": f"it could not be checked: {reason}"})
    return Score("unparseable", 0.0, {"repaired_value": mended, "why": f"not SQL: {why}"})
