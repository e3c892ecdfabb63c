"""``markdown``: the raw answer has the declared structure."""

from collections.abc import Sequence
from typing import Any

from tunewise.evidence.metrics.json_extract import fenced
from tunewise.evidence.metrics.metric import MetricContext, form_of
from tunewise.evidence.records import Score
from tunewise.forms.markdown import MAX_LENGTH, MarkdownForm

MAX_SHOWN = 5


def markdown(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where nothing that ``output.markdown`` asks for is missing (``forms.markdown.MarkdownForm``).

    detail: ``structure_share``, 1 - missing / asked for, not below 0, None where the text is too long to be
    read; ``repaired_value``, the same as the value where the whole answer was wrapped into one code fence,
    after unwrapping it; ``why``. Any text is Markdown, so that no answer is ``unparseable``. Raises
    SettingError where no structure is declared.
    """
    form: MarkdownForm = form_of(context, "markdown")
    missing = form.wanting(answer)
    if not missing:
        return Score("scored", 1.0, {"structure_share": 1.0, "repaired_value": 1.0})
    wrapped = answer.lstrip().startswith(("```", "~~~"))
    mended = wrapped and any(not form.wanting(content) for content in fenced(answer)[:1])
    more = f" (and {len(missing) - MAX_SHOWN} more)" if len(missing) > MAX_SHOWN else ""
    detail = {
        "structure_share": max(0.0, 1 - len(missing) / max(form.asked(), 1))
        if len(answer) <= MAX_LENGTH
        else None,
        "repaired_value": float(mended),
        "why": "; ".join(missing[:MAX_SHOWN]) + more,
    }
    return Score("scored", 0.0, detail)
