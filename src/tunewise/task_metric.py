"""``metric`` in the task file: a name, or a name with options of its own.

    metric: exact
    metric: {name: numeric, tolerance: 0.01}
    metric: {name: "python:my_metrics:helpfulness", seconds: 2, kind: binary}

METRIC_NAMES is the one list of names; ``evidence.metrics.METRICS`` has a scoring function for each.
"""

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo

from tunewise.marked_yaml import Lines, nearest
from tunewise.task_fields import Number, Positive, Section, mistake
from tunewise.task_mistakes import explain, shown

METRIC_NAMES = (
    "accuracy",
    "exact",
    "token_f1",
    "json_fields",
    "rouge_l",
    "chrf",
    "numeric",
    "semantic",
    "json_schema",
    "xml_schema",
    "markdown",
    "regex",
    "sql",
    "choices",
    "style",
    "judge",
)
METRICS_NOT_YET: frozenset[str] = frozenset()
OWN_METRIC = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")

NormaliseStep = Literal["unicode", "case", "spaces", "marks", "punctuation", "articles", "accents"]


class NoOptions(Section):
    """For metrics that take none."""


class ExactOptions(Section):
    """When two texts count as the same: the steps that are applied to both, in the order of this list.

    unicode: NFKC. case: case folded. accents: combining marks dropped. punctuation: all of it dropped.
    articles: English a, an, the dropped. spaces: runs of white space are one space, none at the ends.
    marks: quotes, emphasis and closing punctuation cut off both ends. ``[]``: byte for byte.
    """

    normalise: tuple[NormaliseStep, ...] = ("unicode", "case", "spaces", "marks")


class NumericOptions(Section):
    """When two numbers count as the same: |a - b| <= max(tolerance, relative * |reference|).

    read: ``whole`` (the answer is one number, perhaps with a currency sign or unit), ``first`` or
    ``last`` (that number within the answer).
    """

    tolerance: Annotated[Number, Field(ge=0)] = 0.0
    relative: Annotated[Number, Field(ge=0)] = 0.0
    read: Literal["whole", "first", "last"] = "whole"


class RougeOptions(Section):
    """words: ``ascii`` as in rouge-score (a-z and 0-9), ``unicode`` for other scripts. stem: Porter's."""

    words: Literal["ascii", "unicode"] = "ascii"
    stem: bool = False


class ChrfOptions(Section):
    """word_order: 0 is chrF, 2 is chrF++."""

    word_order: Literal[0, 1, 2] = 0


class OwnOptions(Section):
    """seconds: time for one answer. kind: ``binary`` where every value is 0 or 1."""

    seconds: Positive = 5.0
    kind: Literal["binary", "graded"] = "graded"


_OPTIONS: Mapping[str, type[Section]] = MappingProxyType(
    {
        "exact": ExactOptions,
        "numeric": NumericOptions,
        "rouge_l": RougeOptions,
        "chrf": ChrfOptions,
    }
)


def is_own_metric(name: str) -> bool:
    """Whether the name says where the user's own metric stands: ``python:module:function``."""
    return name.startswith("python:")


def options_of(name: str, given: Mapping[str, Any]) -> Section:
    """The options of a metric, with defaults where none were given. Raises pydantic's ValidationError."""
    return _section(name).model_validate(dict(given))


def _section(name: str) -> type[Section]:
    return OwnOptions if is_own_metric(name) else _OPTIONS.get(name, NoOptions)


def known_metric(value: object) -> object:
    """A known metric's name; else a mistake that names the nearest."""
    if value in METRIC_NAMES:
        return value
    known = ", ".join(METRIC_NAMES)
    if isinstance(value, str) and is_own_metric(value):
        if OWN_METRIC.fullmatch(value):
            return value
        raise mistake(f"{shown(value)}: a metric of your own is named python:module:function")
    if isinstance(value, str) and value in METRICS_NOT_YET:
        raise mistake(f"'{value}' is not supported yet; use one of {known}")
    raise mistake(
        f"unknown metric {shown(value)}{nearest(value, METRIC_NAMES)}; use one of {known},"
        " or python:module:function for your own"
    )


def checked_options(value: object, info: ValidationInfo) -> object:
    """The options that were given, checked against the metric's own; a mistake for the first wrong one."""
    name = info.data.get("metric")
    if not isinstance(value, Mapping) or not isinstance(name, str):
        return {}
    wrong = option_mistakes(name, value, Lines())
    if wrong:
        raise mistake(wrong[0][1])
    return dict(value)


def option_mistakes(name: str, given: Mapping[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """What is wrong with the options of a metric, each with its line and its key below ``metric``."""
    section = _section(name)
    try:
        section.model_validate(dict(given))
    except ValidationError as error:
        inner = Lines({place[1:]: line for place, line in lines.of.items() if place[:1] == ("metric",)})
        tell = partial(explain, lines=inner, top=section)
        found = [tell(detail) for detail in error.errors(include_url=False)]
        return [(line, f"metric.{text}") for line, text in found]
    return []


def split_metric(given: Mapping[str, Any]) -> dict[str, Any]:
    """A task's keys with ``metric: {name: ..., options}`` as ``metric`` and ``metric_options``."""
    metric = given.get("metric")
    if not isinstance(metric, Mapping) or "name" not in metric:
        return dict(given)
    options = {key: value for key, value in metric.items() if key != "name"}
    return {**given, "metric": metric["name"], "metric_options": options}


def metric_mistakes(document: dict[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """Mistakes under ``metric`` of a task file. What is wrong is taken out, so that it is told once."""
    problems: list[tuple[int, str]] = []
    if "metric_options" in document:
        problems.append(
            (lines.at(("metric_options",)), "metric_options: unknown key; write metric: {name: ..., ...}")
        )
        del document["metric_options"]
    metric = document.get("metric")
    if isinstance(metric, dict):
        if "name" not in metric:
            problems.append((lines.at(("metric",)), "metric: missing 'name', as in {name: numeric, ...}"))
            document["metric"] = METRIC_NAMES[0]
        else:
            options = {key: value for key, value in metric.items() if key != "name"}
            name = metric["name"]
            if isinstance(name, str) and (name in METRIC_NAMES or is_own_metric(name)):
                problems += option_mistakes(name, options, lines)
            document["metric"] = name
            if not problems:
                document["metric_options"] = options
    return problems
