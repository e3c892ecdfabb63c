"""``exact``: the answer is one of the references, normalised."""

from collections.abc import Sequence
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import normalise
from tunewise.evidence.records import Score


def exact(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where answer and a reference are the same after ``normalise``, else 0."""
    right = {normalise(reference_text(reference)) for reference in references}
    return Score("scored", float(normalise(answer) in right))
