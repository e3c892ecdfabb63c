"""Score a file of outputs: the metric of ``decide`` on each row, figures with intervals, failures."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import DataError
from tunewise.evidence.intervals import LEVEL, Figure, figure
from tunewise.evidence.metrics import Metric
from tunewise.evidence.metrics.normalise import shown
from tunewise.evidence.records import Score
from tunewise.evidence.references import refuse_wrong_answers
from tunewise.scoring.rows import OutputRow, read_outputs
from tunewise.scoring.settings import ScoreSettings, context_for, metric_for, output_of, settings_of
from tunewise.task import Task

WholeFile = Callable[[Sequence[OutputRow], ScoreSettings], "WholeFileScores"]


@dataclass(frozen=True, slots=True)
class WholeFileScores:
    """What a scorer of whole files gives: one score per row, in order, and figures over all of them.

    figures: JSON-able; an undefined figure is None, with its reason under ``NAME_why``.
    """

    scores: tuple[Score, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)


# The hook for metrics that read a file as a whole, since what they measure no row shows alone (a voice, a
# judge whose trust rests on labels). Metric name -> "module:function" of the shape ``WholeFile``: it gets all
# rows and the settings (``settings.style_references`` are the files of ``--style-reference``; rows carry
# ``input``, ``conversation`` and ``turn``) and gives WholeFileScores. It is imported when first needed and
# raises SettingError or DataError for what the user can mend. Intervals, statuses, failures, ``--json`` and
# ``--compare`` then work as for any metric. A metric that is not listed here is scored row by row.
WHOLE_FILE: dict[str, str] = {
    "style": "tunewise.scoring.style:score_style",
    "judge": "tunewise.scoring.judged:score_judged",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An output that is not right, and why. value: None where it errored."""

    line: int
    id: str | None
    status: str
    value: float | None
    why: str
    output: str


@dataclass(frozen=True)
class ScoreReport:
    """The figures of one file.

    quality: the mean of the metric. figures: means of its further figures, with intervals.
    summary: figures over all rows (macro F1, counts). unit: ``row``, or ``conversation`` where rows name
    one: turns of one conversation are no independent items, so its mean is one value. values: the
    metric of every row, in file order; None where it errored.
    """

    file: str
    metric: str
    kind: str
    rows: int
    unit: str
    quality: Figure
    figures: Mapping[str, Figure]
    summary: Mapping[str, Any]
    statuses: Mapping[str, int]
    failures: tuple[Failure, ...]
    values: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where undefined."""
        plain = asdict(self)
        plain["level"] = LEVEL
        plain["failures"] = [asdict(failure) for failure in self.failures]
        plain["values"] = list(self.values)
        return plain


def score(
    outputs: str | Path,
    metric: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    choices: Sequence[str] = (),
    schema: str | Path | None = None,
    assert_format: bool = False,
    xsd: str | Path | None = None,
    style_references: Sequence[str | Path] = (),
    style_bases: Sequence[str | Path] = (),
    task: Task | None = None,
) -> ScoreReport:
    """Score a file of outputs with the metric that ``decide`` uses under this name.

    outputs: rows with ``output`` and optionally ``reference`` or ``references``, ``input``, ``id``,
    ``conversation``, ``turn``. options: as under ``metric`` in a task file. choices: the closed set for
    ``accuracy``, by default the references. task: metric, options and output forms where not given here.
    Raises DataError for broken rows with their lines, SettingError for an unknown metric or option.
    """
    settings = settings_of(
        metric,
        options=options,
        choices=choices,
        schema=schema,
        assert_format=assert_format,
        xsd=xsd,
        style_references=style_references,
        style_bases=style_bases,
        task=task,
    )
    rows = read_outputs(outputs)
    return report_of(str(outputs), rows, score_rows(rows, settings, str(outputs)), settings)


def score_rows(rows: Sequence[OutputRow], settings: ScoreSettings, file: str) -> WholeFileScores:
    """One score per row, in order."""
    place = WHOLE_FILE.get(settings.metric)
    if place is not None:
        module, _, name = place.partition(":")
        whole: WholeFile = getattr(import_module(module), name)
        return whole(rows, settings)
    metric = metric_for(settings)
    without = [row.line for row in rows if not row.references]
    if metric.needs_reference and without:
        lines = ", ".join(map(str, without[:10])) + (", ..." if len(without) > 10 else "")
        raise DataError(
            f"{file}: metric {metric.name} compares with a reference, and {len(without)} of {len(rows)} rows"
            f" have neither 'reference' nor 'references' (lines {lines})"
        )
    context = context_for(settings, rows)
    refuse_wrong_answers(
        output_of(settings), [(f"{file}:{row.line}", row.references) for row in rows], context
    )
    return WholeFileScores(tuple(_score(metric, row, replace(context, input=row.input)) for row in rows))


def _score(metric: Metric, row: OutputRow, context: Any) -> Score:
    if row.state == "refused":
        return Score("refused", 0.0, {"why": "the model refused to answer"})
    if row.state == "errored":
        return Score("errored", None, {"why": row.error or "the call failed"})
    return metric.score(row.output, row.references, context)


def report_of(
    file: str, rows: Sequence[OutputRow], scored: WholeFileScores, settings: ScoreSettings
) -> ScoreReport:
    """Scores -> figures with intervals, statuses, failures with their reasons."""
    metric, scores = metric_for(settings), scored.scores
    unit = "conversation" if rows and all(row.conversation is not None for row in rows) else "row"
    names = dict.fromkeys(
        name
        for score in scores
        for name, value in score.detail.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    summary = dict(metric.summary(scores)) if metric.summary is not None else {}
    return ScoreReport(
        file=file,
        metric=metric.name,
        kind=metric.kind,
        rows=len(rows),
        unit=unit,
        quality=_figure(rows, [score.value for score in scores], unit),
        figures={
            name: _detail(name, rows, scores, unit, not name.startswith(metric.beyond)) for name in names
        },
        summary={**summary, **scored.figures},
        statuses=dict(Counter(score.status for score in scores)),
        failures=tuple(_failures(rows, scores)),
        values=tuple(score.value for score in scores),
    )


def _figure(
    rows: Sequence[OutputRow], values: Sequence[float | None], unit: str, confined: bool = True
) -> Figure:
    if unit == "row":
        return figure(values, confined=confined)
    return figure(by_conversation(rows, values), unit=unit, confined=confined)


def _detail(
    name: str, rows: Sequence[OutputRow], scores: Sequence[Score], unit: str, confined: bool
) -> Figure:
    """A further figure over the rows that have it; a row where it is undefined (None) has none."""
    having = [
        (row, float(score.detail[name]))
        for row, score in zip(rows, scores, strict=True)
        if score.detail.get(name) is not None
    ]
    return _figure([row for row, _ in having], [value for _, value in having], unit, confined)


def by_conversation(rows: Sequence[OutputRow], values: Sequence[float | None]) -> list[float | None]:
    """The mean of each conversation, in order of first appearance; None where a turn has no value."""
    turns: dict[str, list[float | None]] = {}
    for row, value in zip(rows, values, strict=True):
        turns.setdefault(str(row.conversation), []).append(value)
    known = [[value for value in found if value is not None] for found in turns.values()]
    return [
        sum(some) / len(some) if len(some) == len(found) else None
        for some, found in zip(known, turns.values(), strict=True)
    ]


def _failures(rows: Sequence[OutputRow], scores: Sequence[Score]) -> list[Failure]:
    """Rows below 1 or without a value: the worst first, then in file order."""
    failed = [
        Failure(row.line, row.id, score.status, score.value, _why(row, score), row.output)
        for row, score in zip(rows, scores, strict=True)
        if score.value is None or score.value < 1
    ]
    return sorted(failed, key=lambda failure: -1.0 if failure.value is None else failure.value)


def _why(row: OutputRow, score: Score) -> str:
    said = score.detail.get("why")
    if said:
        return str(said)
    if not row.references:
        return "below 1"
    if any(reference_text(reference) == row.output for reference in row.references):
        return f"it is a reference, and still the metric gives {score.value}"
    return f"{shown(reference_text(row.references[0]))} was expected, got {shown(row.output)}"
