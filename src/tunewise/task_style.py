"""``style`` in the task file: where the voice stands, what is asked beside it.

metric: style
style:
  reference: voice.jsonl              # texts of the voice; without it, the outputs of the train part
  base: plain.jsonl                   # texts not in the voice; without it, the bare model's answers
  content: {metric: token_f1, at_least: 0.30}
  rules: {banned: [cheap], contractions: always, sentence_words: 20, reading_grade: 8}
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tunewise.marked_yaml import Lines
from tunewise.task_fields import DataFile, Number, Positive, Section, Text, mistake
from tunewise.task_metric import METRIC_NAMES, known_metric
from tunewise.task_mistakes import shown

PREPARED = ("style", "judge")  # metrics with a section of their own


# Metrics that cannot stand beside a voice: what they need is prepared for the task's own metric alone.
UNFIT = (*PREPARED, "accuracy", "semantic")


def _content_metric(value: object) -> object:
    if value in UNFIT or str(value).startswith("python:"):
        others = ", ".join(name for name in METRIC_NAMES if name not in UNFIT)
        raise mistake(f"{shown(value)} cannot measure content beside a voice; use one of {others}")
    return known_metric(value)


def _phrases(value: object) -> object:
    """One phrase may stand without a list."""
    return [value] if isinstance(value, str) else value


class StyleContent(Section):
    """The content metric that stands beside the voice.

    at_least: what an answer needs of it to count; without it content is shown and does not count.
    """

    metric: Annotated[str, BeforeValidator(_content_metric)] = "token_f1"
    at_least: Annotated[Number, Field(gt=0, le=1)] | None = None


class StyleRules(Section):
    """Surface rules, reported beside the voice; see ``evidence.style.rules.SurfaceRules``."""

    banned: Annotated[tuple[Text, ...], BeforeValidator(_phrases)] = ()
    contractions: Literal["always", "never"] | None = None
    sentence_words: Positive | None = None
    greeting_by_name: bool | None = None
    reading_grade: Positive | None = None


class Style(Section):
    """A voice, given by reference texts; without a file, by the outputs of the train part.

    base: texts that are not in the voice; without a file, the bare model's answers to the same inputs.
    """

    reference: DataFile | None = None
    base: DataFile | None = None
    content: StyleContent = StyleContent()
    rules: StyleRules = StyleRules()


def prepared_mistakes(document: Mapping[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """A section without its metric, or a metric without its section."""
    problems: list[tuple[int, str]] = []
    metric = document.get("metric")
    needed = {
        "style": "style: {reference: voice.jsonl}",
        "judge": "judge: {model: MODEL, rubric: rubric.yaml, labels: labels.jsonl}",
    }
    for name, example in needed.items():
        if metric == name and name not in document:
            problems.append(
                (lines.at(("metric",)), f"metric: '{name}' needs a section '{name}', as in {example}")
            )
        if name in document and isinstance(metric, str) and metric != name:
            text = f"{name}: the metric is {shown(metric)}, so this would not be measured"
            problems.append((lines.at((name,)), f"{text}; set metric: {name}, or take the section out"))
    return problems
