"""Right answers that do not have the form that their own task declares: found before anything is measured."""

from tunewise.data import Example, reference_text
from tunewise.errors import DataError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.splits import Parts
from tunewise.task import Task

FORMS = ("json_schema", "xml_schema", "markdown", "regex", "sql")
MAX_SHOWN = 10


def refuse_wrong_references(task: Task, parts: Parts) -> None:
    """Raises DataError naming the rows whose references lack a form of ``output``, each with its reason."""
    if task.output is None:
        return
    declared = [name for name in FORMS if getattr(task.output, name) is not None]
    context = MetricContext(output=task.output.spec())
    rows = (*parts.train, *parts.selection, *parts.certification)
    wrong = [line for row in rows for name in declared for line in _wrong(row, name, context)]
    if wrong:
        more = [f"... and {len(wrong) - MAX_SHOWN} more"] if len(wrong) > MAX_SHOWN else []
        said = "\n".join(f"  - {line}" for line in [*sorted(wrong)[:MAX_SHOWN], *more])
        raise DataError(
            f"{len(wrong)} right answers do not have the form that the task asks for; correct the rows "
            f"or the form:\n{said}"
        )


def _wrong(row: Example, form: str, context: MetricContext) -> list[str]:
    found = [METRICS[form].score(reference_text(r), (), context) for r in row.references]
    place = f"{row.source}:{row.line}" if row.source else f"example {row.key}"
    return [
        f"{place}: output.{form}: {score.detail.get('why', 'not met')}" for score in found if score.value != 1
    ]
