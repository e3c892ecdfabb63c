"""The story on one page: climb from the lightest rung, stop at the first that provably meets the target."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from tunewise.evidence.records import Evidence


class Named(Protocol):
    """All the ladder needs to know of a rung."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Why a rung fails, measured on selection items.

    kind: the most frequent of ``counts``; None when none of the ``checked`` items failed.
    counts: failures by kind (``format``, ``knowledge``, ``behaviour``).
    """

    kind: str | None
    counts: dict[str, int]
    checked: int


R = TypeVar("R", bound=Named)
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Step(Generic[C]):
    """One rung of a climb: skipped with a reason, or built and measured."""

    rung: str
    skipped_because: str | None = None
    candidate: C | None = None
    evidence: Evidence | None = None
    gap: Gap | None = None


def climb(
    rungs: Sequence[R],
    *,
    cannot_help: Callable[[R, Sequence[Step[C]]], str | None],
    build: Callable[[R, Sequence[Step[C]]], C],
    gather: Callable[[R, C], Evidence],
    diagnose: Callable[[R, C, Evidence], Gap | None] = lambda rung, candidate, evidence: None,
    on_not_proved: Literal["climb", "stop"] = "climb",
    exhaustive: bool = False,
) -> Iterator[Step[C]]:
    """Yield one Step per rung, from light to heavy, each as soon as it is known.

    Stops after the first rung that meets (with ``on_not_proved="stop"`` also after the first that is
    not proved); ``exhaustive`` measures every rung. ``cannot_help``, ``build``, ``gather`` and
    ``diagnose`` may raise: the steps yielded before stand. ``diagnose`` is asked only of rungs that
    do not meet; what it found is on the steps that the rungs above are given.
    """
    steps: list[Step[C]] = []
    ended_by: str | None = None
    for rung in rungs:
        reason = cannot_help(rung, tuple(steps)) or ended_by
        if reason is not None:
            step: Step[C] = Step(rung.name, skipped_because=reason)
        else:
            candidate = build(rung, tuple(steps))
            evidence = gather(rung, candidate)
            gap = None if evidence.verdict == "meets" else diagnose(rung, candidate, evidence)
            step = Step(rung.name, candidate=candidate, evidence=evidence, gap=gap)
            ended_by = None if exhaustive else _why_stop(step, on_not_proved)
        steps.append(step)
        yield step


def _why_stop(step: Step[C], on_not_proved: Literal["climb", "stop"]) -> str | None:
    assert step.evidence is not None
    if step.evidence.verdict == "meets":
        return f"not needed: the lighter rung {step.rung} meets the target"
    if step.evidence.verdict == "not_proved" and on_not_proved == "stop":
        return f"not tried: {step.rung} is not proved and on_not_proved is stop"
    return None
