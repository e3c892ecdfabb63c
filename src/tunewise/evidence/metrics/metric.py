"""What a metric is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunewise.errors import SettingError
from tunewise.evidence.judge import Judge
from tunewise.evidence.records import Kind, Score, Status
from tunewise.evidence.style.measure import StyleMeasure
from tunewise.forms.spec import OutputSpec

Vectors = Any  # shape (texts, width), rows of length 1


@dataclass(frozen=True, slots=True)
class MetricContext:
    """What a metric needs beside the answer and its references.

    choices: the closed set of labels, for ``accuracy``. options: the metric's options, a section of
    ``task_metric``; None: its defaults. input: what was asked. encode: texts to unit vectors, for
    ``semantic``. folder: where a metric of the user's own is looked for first.
    output: the declared forms, compiled once, for the format metrics: ``task.output.spec()``, or
    ``OutputSpec(json_schema=JsonSchema.read(path))``.
    style, content: the fitted voice and the metric that stands beside it. judge: who is asked.
    """

    choices: tuple[str, ...] = ()
    options: Any = None
    input: str = ""
    encode: Callable[[Sequence[str]], Vectors] | None = field(default=None, compare=False)
    folder: Path | None = None
    output: OutputSpec | None = None
    style: StyleMeasure | None = None
    content: "Metric | None" = None
    judge: Judge | None = None


def form_of(context: MetricContext, name: str) -> Any:
    """A compiled form by its key in ``output``. Raises SettingError where the context declares none."""
    form = None if context.output is None else getattr(context.output, name)
    if form is None:
        raise SettingError(f"the metric {name} needs its form: set output.{name} in the task file")
    return form


class Scored(Protocol):
    """What a summary reads: a Score or an Outcome."""

    @property
    def status(self) -> Status: ...
    @property
    def value(self) -> float | None: ...
    @property
    def detail(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Metric:
    """A named way to score one answer.

    kind: ``binary`` where every value is 0 or 1, which decides which sequential test reads it.
    score: (answer, references, context) -> Score; raises for no answer, whatever its characters.
    needs_reference: whether an answer without a right one beside it cannot be scored.
    summary: figures over all answers that are no mean of one answer's figures (macro F1, counts);
        a figure that is undefined is None. They stand in ``tunewise score`` and in ``decision.json``.
    beyond: how the names of further figures begin that nothing confines to [0, 1], so that their mean has no
        interval, whatever values came; "": all of them.
    """

    name: str
    kind: Kind
    score: Callable[[str, Sequence[Any], MetricContext], Score]
    needs_reference: bool = True
    summary: Callable[[Sequence[Scored]], Mapping[str, Any]] | None = None
    beyond: tuple[str, ...] = ()
