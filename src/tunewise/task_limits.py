"""``limits`` and ``economics`` in the task file.

limits: {latency_ms: 500, cost_per_query: 0.001, concurrency: 1}
economics: {queries_per_day: 1000, today: few-shot, utilisation: 0.5, retrain_days: 90}
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from tunewise.marked_yaml import nearest
from tunewise.rungs.names import WEIGHTS
from tunewise.task_fields import Count, Number, Positive, Section, a_text, mistake
from tunewise.task_mistakes import shown


class Limits(Section):
    """What every answer must keep beside the target.

    latency_ms: at least 95 % of unbatched calls end within it. cost_per_query: USD; at least 95 % of
    calls cost no more. concurrency: calls under way at once while that is measured.
    """

    latency_ms: Positive | None = None
    cost_per_query: Annotated[Number, Field(ge=0)] | None = None
    concurrency: Count = 1

    @model_validator(mode="after")
    def _limits_something(self) -> "Limits":
        if self.latency_ms is None and self.cost_per_query is None:
            raise mistake("a limit was expected: latency_ms, cost_per_query or both")
        return self


def _rung(value: object) -> object:
    name = a_text(value)
    known = tuple(WEIGHTS)
    if name not in known:
        raise mistake(f"unknown rung {shown(value)}{nearest(value, known)}; there are {', '.join(known)}")
    return name


class Economics(Section):
    """What the rungs would cost to run.

    queries_per_day: the volume to price. today: the rung that is used now, which the others are compared
    with. utilisation: the share of its time that a machine of one's own is kept busy. retrain_days: days
    until what was built is built again.
    """

    queries_per_day: Positive
    today: Annotated[str, BeforeValidator(_rung)] | None = None
    utilisation: Annotated[Number, Field(gt=0, le=1)] = 0.5
    retrain_days: Positive = 90.0
