"""What was measured, frozen: one outcome, and the evidence that a candidate's outcomes add up to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["scored", "unparseable", "refused", "errored"]
Verdict = Literal["meets", "falls_short", "not_proved"]
Kind = Literal["binary", "graded"]


CUT = "cut_off_at_max_new_tokens"  # in the detail of an outcome


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric says of one answer.

    value: in [0, 1]; None only when ``status`` is ``errored``. ``unparseable`` and ``refused`` have value 0.
    detail: further figures (``field_recall``, ...) and, where it failed, ``why`` in words fit for the report.
    """

    status: Status
    value: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer on one certification item, as the report will show it.

    position: 0-based place of the item in the certification order, shared by all rungs.
    """

    example: str
    position: int
    status: Status
    value: float | None
    text: str
    tokens_in: int | None
    tokens_out: int | None
    seconds: float
    usd: float | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sequential test says after the first n values.

    verdict: None while the test may go on; ``not_proved`` only at the last look.
    """

    n: int
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All outcomes that the test has read, and what it says of them.

    estimate: mean of the first ``n`` values. low, high: bounds from inverting the same test, so that
    they never contradict the verdict; ``low`` at level 1 - alpha, ``high`` at 1 - 0.05. Each is None
    when undefined (no values). alpha: the false-*meets* budget of this rung.
    more_items: how many more items would settle it with 80 % power if the truth is the estimate;
    None when it is settled or no number would.
    """

    kind: Kind
    outcomes: tuple[Outcome, ...]
    verdict: Verdict
    n: int
    estimate: float | None
    low: float | None
    high: float | None
    successes: int | None
    alpha: float
    more_items: int | None = None
    notes: tuple[str, ...] = ()

    def statuses(self) -> dict[str, int]:
        """How many of the ``n`` outcomes have each status."""
        return dict(Counter(outcome.status for outcome in self.outcomes))


def values_of(outcomes: Sequence[Outcome], errored_as: float) -> list[float]:
    """The values a test reads, with every ``errored`` outcome taken as ``errored_as`` (0 or 1)."""
    return [errored_as if o.value is None else o.value for o in outcomes]


def cut_off(evidence: Evidence) -> int:
    """How many of its answers were not finished when they had all the tokens they may have."""
    return sum(outcome.detail.get(CUT) is True for outcome in evidence.outcomes)
