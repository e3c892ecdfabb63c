"""What ``tunewise score`` is asked to measure, and the context that its metric gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics import Metric, MetricContext, metric_named
from tunewise.marked_yaml import Lines, nearest
from tunewise.scoring.rows import OutputRow
from tunewise.task import Task
from tunewise.task_metric import METRIC_NAMES, is_own_metric, option_mistakes, options_of
from tunewise.task_output import FORM_KEYS, JsonSchemaFile, Output, XmlSchemaFile
from tunewise.task_scores import text_encoder


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """A metric and what it reads beside the rows.

    metric: its name. options: as under ``metric`` in a task file. choices: the closed set for
    ``accuracy``; by default the references of the rows. schema, xsd: files for the metrics of format.
    assert_format: ``format`` in ``schema`` is asserted, not a remark.
    style_references, style_bases: files with texts of the voice, and of the base model. task: the task whose
    metric, options and output forms are taken where nothing else is given. folder: where a metric of the
    user's own is looked for.
    """

    metric: str
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    schema: Path | None = None
    assert_format: bool = False
    xsd: Path | None = None
    style_references: tuple[Path, ...] = ()
    style_bases: tuple[Path, ...] = ()
    task: Task | None = None
    folder: Path = Path()


def settings_of(
    metric: str | None,
    *,
    options: Mapping[str, Any] | None = None,
    choices: Sequence[str] = (),
    schema: str | Path | None = None,
    assert_format: bool = False,
    xsd: str | Path | None = None,
    style_references: Sequence[str | Path] = (),
    style_bases: Sequence[str | Path] = (),
    task: Task | None = None,
) -> ScoreSettings:
    """Settings that were checked. Raises SettingError, naming the nearest metric or option."""
    name = metric or (task.metric if task is not None else None)
    if name is None:
        raise SettingError(f"name a metric (one of {', '.join(METRIC_NAMES)}), or a task that has one")
    if name not in METRIC_NAMES and not is_own_metric(name):
        raise SettingError(
            f"unknown metric '{name}'{nearest(name, METRIC_NAMES)}; use one of {', '.join(METRIC_NAMES)},"
            " or python:module:function for your own"
        )
    if is_own_metric(name) and name.count(":") != 2:
        raise SettingError(f"'{name}': a metric of your own is named python:module:function")
    given = dict(options or {})
    if task is not None and task.metric == name:
        given = {**task.metric_options, **given}
    if wrong := option_mistakes(name, given, Lines()):
        form = f"; its form is declared under output.{name}: {_how(name)}" if name in FORM_KEYS else ""
        raise SettingError("; ".join(text for _, text in wrong) + form)
    files = {"schema": schema, "xsd": xsd}
    for option, path in files.items():
        if path is not None and not Path(path).is_file():
            raise SettingError(f"--{option}: no such file: {path}")
    if assert_format and schema is None:
        raise SettingError("--assert-format: is said of a JSON Schema; give --schema FILE beside it")
    return ScoreSettings(
        metric=name,
        options=given,
        choices=tuple(choices),
        schema=None if schema is None else Path(schema),
        assert_format=assert_format,
        xsd=None if xsd is None else Path(xsd),
        style_references=tuple(Path(path) for path in style_references),
        style_bases=tuple(Path(path) for path in style_bases),
        task=task,
        folder=Path() if task is None else task.path.absolute().parent,
    )


def metric_for(settings: ScoreSettings) -> Metric:
    """The metric that ``decide`` would use under this name."""
    return metric_named(settings.metric, options_of(settings.metric, settings.options))


def context_for(settings: ScoreSettings, rows: Sequence[OutputRow]) -> MetricContext:
    """What the metric needs beside an answer; the same as in ``decide``, from options, forms and rows.

    Raises SettingError where a form is itself wrong, or the metric's own form is not declared.
    """
    output = output_of(settings)
    choices = output.choices or ()
    if not choices and settings.metric == "accuracy":
        choices = tuple(dict.fromkeys(reference_text(r) for row in rows for r in row.references))
    return MetricContext(
        choices=choices,
        options=options_of(settings.metric, settings.options),
        encode=text_encoder() if settings.metric == "semantic" else None,
        folder=settings.folder.absolute(),
        output=output.spec(),
    )


def output_of(settings: ScoreSettings) -> Output:
    """The declared forms: the given files and choices, and those of the task beside them."""
    task_output = settings.task.output if settings.task is not None else None
    output = task_output or Output()
    if settings.schema is not None:
        declared = JsonSchemaFile(file=settings.schema, assert_format=settings.assert_format)
        output = output.model_copy(update={"json_schema": declared})
    if settings.xsd is not None:
        output = output.model_copy(update={"xml_schema": XmlSchemaFile(file=settings.xsd)})
    if settings.choices:
        if len(set(settings.choices)) < max(2, len(settings.choices)):
            listed = ", ".join(map(repr, settings.choices))
            raise SettingError(f"--choice: at least two, each once, were expected, got {listed}")
        output = output.model_copy(update={"choices": settings.choices})
    metric = settings.metric
    if metric in FORM_KEYS and getattr(output, metric) is None:
        raise SettingError(f"metric {metric} checks a declared form, and there is none: {_how(metric)}")
    return output


def _how(metric: str) -> str:
    """How its form is given to ``tunewise score``."""
    flag = FLAG_OF.get(metric)
    return f"give {flag}" if flag else f"declare output.{metric} in a task file and give --task"


FLAG_OF = {"json_schema": "--schema FILE", "xml_schema": "--xsd FILE", "choices": "--choice, twice or more"}


__all__ = ["ScoreSettings", "context_for", "metric_for", "settings_of"]
