"""What a metric is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.evidence.records import Kind, Score


@dataclass(frozen=True, slots=True)
class MetricContext:
    """What a metric needs beside the answer: ``choices``, the closed set of labels, for ``accuracy``."""

    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A named way to score one answer.

    kind: ``binary`` where every value is 0 or 1, which decides which sequential test reads it.
    score: (answer, references, context) -> Score; raises for no answer, whatever its characters.
    """

    name: str
    kind: Kind
    score: Callable[[str, Sequence[Any], MetricContext], Score]
