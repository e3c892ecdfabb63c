"""``xml_schema``: the raw answer is well-formed XML that meets the task's XSD, with required elements."""

import re
from collections.abc import Sequence
from typing import Any

from tunewise.evidence.metrics.json_extract import fenced
from tunewise.evidence.metrics.metric import MetricContext, form_of
from tunewise.evidence.records import Score
from tunewise.forms.xml_schema import NotXml, XmlForm

ELEMENT = re.compile(r"<[A-Za-z_]")


def xml_schema(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the answer, but for white space around it, is one valid XML document (``forms.xml_schema``).

    ``unparseable`` where it is not well-formed or not accepted unread. detail: ``well_formed``;
    ``extracted_value`` and ``repaired_value``, both the same after cutting the document out of prose or a
    code fence; ``why``. Raises SettingError where the context declares no XML form.
    """
    form: XmlForm = form_of(context, "xml_schema")
    well_formed, why = _read(answer, form)
    if why is None:
        return Score("scored", 1.0, {"well_formed": 1.0, "extracted_value": 1.0, "repaired_value": 1.0})
    cut = float(any(_read(part, form)[1] is None for part in _parts(answer)))
    detail = {"well_formed": float(well_formed), "extracted_value": cut, "repaired_value": cut, "why": why}
    return Score("scored" if well_formed else "unparseable", 0.0, detail)


def _read(text: str, form: XmlForm) -> tuple[bool, str | None]:
    if not text.strip():
        return False, "the answer is empty"
    try:
        root = form.parse(text)
    except NotXml as wrong:
        return False, str(wrong)
    return True, form.why_not(root)


def _parts(answer: str) -> list[str]:
    """Where the document may stand in the answer: in a fence, or from the first tag to the last."""
    start, end = ELEMENT.search(answer), answer.rfind(">")
    inner = [answer[start.start() : end + 1]] if start is not None and end > start.start() else []
    return [*fenced(answer), *inner]
