"""``exact``: the answer is one of the references, normalised."""

from collections.abc import Sequence
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import normalise_by, shown
from tunewise.evidence.records import Score
from tunewise.task_metric import ExactOptions


def exact(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where answer and a reference are the same after the declared steps (``ExactOptions``), else 0."""
    options = context.options if isinstance(context.options, ExactOptions) else ExactOptions()
    right = [normalise_by(options.normalise, reference_text(reference)) for reference in references]
    if normalise_by(options.normalise, answer) in right:
        return Score("scored", 1.0)
    why = f"{shown(reference_text(references[0]))} was expected" if references else "there is no reference"
    return Score("scored", 0.0, {"why": f"{why}, got {shown(answer)}"})
