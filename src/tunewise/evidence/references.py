"""Right answers that do not have the form that their own task declares: found before anything is measured."""

from collections.abc import Sequence
from typing import Any

from tunewise.data import Example, reference_text
from tunewise.errors import DataError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.metrics.json_text import NotStrictJson, parse_strict
from tunewise.evidence.metrics.normalise import normalise, shown
from tunewise.evidence.metrics.numeric import number_in
from tunewise.splits import Parts
from tunewise.task import Task
from tunewise.task_output import Output

FORMS = ("json_schema", "xml_schema", "markdown", "regex", "sql")
MAX_SHOWN = 10


def refuse_wrong_references(task: Task, parts: Parts) -> None:
    """Raises DataError naming the rows whose references no answer could equal, each with its reason.

    ``numeric``: one reference must be a number. ``json_fields``: a text that begins as an object or a list
    must be JSON. ``output``: every reference must have its forms; of a closed set one must be a choice.
    """
    rows = [(_place(row), row.references) for row in (*parts.train, *parts.selection, *parts.certification)]
    refuse_unmatchable(task.metric, rows)
    if task.output is None:
        return
    refuse_wrong_answers(task.output, rows, MetricContext(output=task.output.spec()))


def refuse_unmatchable(metric: str, rows: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Raises DataError for rows that every answer would get wrong under ``metric``, with the reason."""
    reason = {"numeric": _no_number, "json_fields": _broken_json}.get(metric)
    if reason is not None:
        said = [(place, reason(references)) for place, references in rows]
        _refuse([f"{place}: metric {metric}: {why}" for place, why in said if why])


def _no_number(references: Sequence[Any]) -> str | None:
    texts = [reference_text(reference) for reference in references]
    if any(number_in(text, "whole") is not None for text in texts):
        return None
    return f"a number was expected (1234.5 or 1,234.5), right is {shown(texts[0])}"


def _broken_json(references: Sequence[Any]) -> str | None:
    """Why none of the right answers is JSON though one looks like it (Python's quotes); else None."""
    why = None
    for reference in references:
        if not isinstance(reference, str) or not reference.lstrip().startswith(("{", "[")):
            return None
        try:
            parse_strict(reference)
        except NotStrictJson as mistake:
            why = why or f"the right answer {shown(reference)} looks like JSON and is none: {mistake}"
        else:
            return None
    return why


def refuse_wrong_answers(
    output: Output, rows: Sequence[tuple[str, Sequence[Any]]], context: MetricContext
) -> None:
    """The same for right answers from anywhere. rows: where a row stands, and its references."""
    declared = [name for name in FORMS if getattr(output, name) is not None]
    wrong = [
        f"{place}: output.{form}: {why}"
        for place, references in rows
        for form in declared
        for why in _wrong(references, form, context)
    ]
    if output.choices is not None:
        wrong += [
            f"{place}: output.choices: no choice is right, right is {shown(reference_text(references[0]))}"
            for place, references in rows
            if references and not _choosable(references, output.choices)
        ]
    _refuse(wrong)


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = [f"... and {len(wrong) - MAX_SHOWN} more"] if len(wrong) > MAX_SHOWN else []
        said = "\n".join(f"  - {line}" for line in [*sorted(wrong)[:MAX_SHOWN], *more])
        raise DataError(
            f"{len(wrong)} right answers do not have the form that the task asks for; correct the rows "
            f"or the form:\n{said}"
        )


def _choosable(references: Sequence[Any], choices: Sequence[str]) -> bool:
    """Whether a right answer is a choice, as ``accuracy`` compares them."""
    known = {normalise(choice) for choice in choices}
    return any(normalise(reference_text(reference)) in known for reference in references)


def _place(row: Example) -> str:
    return f"{row.source}:{row.line}" if row.source else f"example {row.key}"


def _wrong(references: Sequence[Any], form: str, context: MetricContext) -> list[str]:
    found = [METRICS[form].score(reference_text(r), (), context) for r in references]
    return [str(score.detail.get("why", "not met")) for score in found if score.value != 1]
