"""``json_schema``: the raw answer is JSON and nothing but JSON, and meets the task's schema."""

from collections.abc import Mapping, Sequence
from typing import Any

from tunewise.evidence.metrics.json_extract import extracted, repaired
from tunewise.evidence.metrics.json_fields import field_figures
from tunewise.evidence.metrics.json_text import Found, NotStrictJson, parse_strict
from tunewise.evidence.metrics.metric import MetricContext, Scored, form_of
from tunewise.evidence.records import Score
from tunewise.forms.bounded import TookTooLong
from tunewise.forms.json_schema import JsonSchema


def json_schema(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the raw answer parses (``json_text.parse_strict``) and meets ``context.output.json_schema``.

    ``unparseable`` where it is not JSON; ``errored`` where it could not be checked in bounded time. detail:

    - ``valid_json``, ``schema_compliant``: 0 or 1, of the raw answer;
    - ``completeness``: share of the required fields that are there (``JsonSchema.completeness``), 0 where
      the answer is not JSON; None where the schema requires no field, or counting takes too long;
    - ``field_correctness``, ``field_recall``, ``field_precision``: F1 of the (path, leaf) pairs against the
      best reference and its parts, as in ``json_fields``; None without a reference;
    - ``extracted_value``: the same as the value, after cutting the JSON out of prose or a code fence;
    - ``repaired_value``: and after mending it (json-repair) where that was not enough;
    - ``why``: where it fails, and for what reason.

    Raises SettingError where the context holds no schema.
    """
    schema: JsonSchema = form_of(context, "json_schema")
    try:
        return _scored(answer, references, schema)
    except TookTooLong as reason:
        return Score("errored", None, {"why": f"it could not be checked: {reason}"})


def _scored(answer: str, references: Sequence[Any], schema: JsonSchema) -> Score:
    try:
        said = Found(parse_strict(answer))
        why = schema.why_not(said.value)
    except NotStrictJson as mistake:
        said, why = None, str(mistake)
    meets = float(why is None)
    detail: dict[str, Any] = {
        "valid_json": float(said is not None),
        "schema_compliant": meets,
        "completeness": _completeness(said, schema, why is None),
        **_against(said, references),
        "extracted_value": meets,
        "repaired_value": meets,
    }
    if why is not None:
        detail |= _mended(answer, said, schema) | {"why": why}
    return Score("unparseable" if said is None else "scored", meets, detail)


def _completeness(said: Found | None, schema: JsonSchema, meets: bool) -> float | None:
    if meets and said is not None and schema.requires_of(said.value):
        return 1.0  # nothing required is missing where the schema is met
    try:
        counted = schema.completeness(None if said is None else said.value)
    except TookTooLong:
        return None
    return counted.present / counted.required if counted.required else None


def _against(said: Found | None, references: Sequence[Any]) -> dict[str, float | None]:
    if not references:
        return dict.fromkeys(("field_correctness", "field_recall", "field_precision"))
    if said is None:
        return dict.fromkeys(("field_correctness", "field_recall", "field_precision"), 0.0)
    f1, recall, precision = field_figures(said.value, references)
    return {"field_correctness": f1, "field_recall": recall, "field_precision": precision}


def _mended(answer: str, said: Found | None, schema: JsonSchema) -> dict[str, float]:
    """Whether the answer meets the schema after extraction, and after repair where that is not enough."""
    kinds = schema.top_types()
    if said is not None:  # JSON as it is: nothing to cut out or to mend
        return {"extracted_value": 0.0, "repaired_value": 0.0}
    found = extracted(answer, kinds)
    cut = found is not None and schema.meets(found.value)
    mended = None if cut else repaired(answer, kinds)
    return {
        "extracted_value": float(cut),
        "repaired_value": float(cut or (mended is not None and schema.meets(mended.value))),
    }


def summary(scores: Sequence[Scored]) -> Mapping[str, Any]:
    """The figures of a set of answers, under the names that reports of format compliance use.

    total: answers that could be checked (``errored`` ones are left out). valid_json, schema_compliant:
    how many. json_rate, compliance_rate: their shares of the total. avg_completeness: mean
    completeness over all of them, None where the schema requires no field. extracted_rate,
    repaired_rate: compliance after extraction and after repair. avg_field_correctness: mean F1 against
    the references. Every rate is None without an answer. A refusal is an answer that is not JSON.
    """
    known = [score for score in scores if score.value is not None]
    total = len(known)

    def mean(name: str, *, always: bool = True) -> float | None:
        """always: whether every answer has the figure, so that a refusal without it is 0."""
        refused = 0.0 if always or any(s.detail.get(name) is not None for s in known) else None
        figures = [s.detail.get(name, refused) for s in known]
        there = [float(figure) for figure in figures if figure is not None]
        return sum(there) / len(there) if there else None

    return {
        "total": total,
        "valid_json": sum(score.detail.get("valid_json") == 1 for score in known),
        "schema_compliant": sum(score.detail.get("schema_compliant") == 1 for score in known),
        "json_rate": mean("valid_json"),
        "compliance_rate": mean("schema_compliant"),
        "avg_completeness": mean("completeness", always=False),
        "extracted_rate": mean("extracted_value"),
        "repaired_rate": mean("repaired_value"),
        "avg_field_correctness": mean("field_correctness", always=False),
    }
