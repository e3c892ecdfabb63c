"""The story on one page: climb from the lightest rung, stop at the first that provably meets the target."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from tunewise.evidence.limits import Probe
from tunewise.evidence.records import Evidence, Verdict


class NotBuilt(Exception):
    """Building found out that the rung has no candidate to offer; the climb goes on. Says why."""


class Named(Protocol):
    """All the ladder needs to know of a rung."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Gap:
    """Why a rung fails, measured on selection items; ``latency`` and ``cost`` on the calls of the probe.

    kind: the most frequent of ``counts``; None when none of the ``checked`` items failed.
    counts: failures by kind (``format``, ``knowledge``, ``behaviour``; ``latency`` or ``cost``).
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
    probe: Probe | None = None
    gap: Gap | None = None
    held_back: str | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Of quality, limits and guard together; None when the rung was not measured."""
        return verdict_of(self.evidence, self.probe, self.held_back)


def verdict_of(
    evidence: Evidence | None, probe: Probe | None, held_back: str | None = None
) -> Verdict | None:
    """A rung meets when its quality does, every limit holds and nothing holds it back.

    Limits are tried where quality meets. held_back: why a rung may not win whatever it answers (the guard).
    """
    if evidence is None or evidence.verdict != "meets":
        return None if evidence is None else evidence.verdict
    if held_back is not None:
        return "falls_short"
    return "meets" if probe is None or probe.verdict is None else probe.verdict


def climb(
    rungs: Sequence[R],
    *,
    cannot_help: Callable[[R, Sequence[Step[C]]], str | None],
    build: Callable[[R, Sequence[Step[C]]], C],
    gather: Callable[[R, C], Evidence],
    probe: Callable[[R, C], Probe | None] = lambda rung, candidate: None,
    diagnose: Callable[[R, C, Evidence], Gap | None] = lambda rung, candidate, evidence: None,
    holds_back: Callable[[C], str | None] = lambda candidate: None,
    on_not_proved: Literal["climb", "stop"] = "climb",
    exhaustive: bool = False,
) -> Iterator[Step[C]]:
    """Yield one Step per rung, from light to heavy, each as soon as it is known.

    Stops after the first rung that meets (with ``on_not_proved="stop"`` also after the first that is
    not proved); ``exhaustive`` measures every rung. A rung whose ``build`` raises NotBuilt is
    skipped with what it says. ``cannot_help``, ``build``, ``gather``, ``probe`` and
    ``diagnose`` may raise: the steps yielded before stand. ``probe`` tries the limits of rungs whose
    quality meets. ``diagnose`` is asked only of rungs whose quality does not; what it found is on the
    steps that the rungs above are given. ``holds_back`` says why a rung may not win though its quality meets;
    the climb then goes on.
    """
    steps: list[Step[C]] = []
    ended_by: str | None = None
    for rung in rungs:
        reason = cannot_help(rung, tuple(steps)) or ended_by
        if reason is not None:
            step: Step[C] = Step(rung.name, skipped_because=reason)
        else:
            try:
                candidate = build(rung, tuple(steps))
            except NotBuilt as why:
                steps.append(Step(rung.name, skipped_because=str(why)))
                yield steps[-1]
                continue
            evidence = gather(rung, candidate)
            held_back = holds_back(candidate)
            probed: Probe | None = None
            gap: Gap | None = None
            if evidence.verdict == "meets" and held_back is None:
                probed = probe(rung, candidate)
                gap = limit_gap(probed)
            elif evidence.verdict != "meets":
                gap = diagnose(rung, candidate, evidence)
            step = Step(
                rung.name,
                candidate=candidate,
                evidence=evidence,
                probe=probed,
                gap=gap,
                held_back=held_back,
            )
            ended_by = None if exhaustive else _why_stop(step, on_not_proved)
        steps.append(step)
        yield step


def limit_gap(probe: Probe | None) -> Gap | None:
    """The gap of a rung whose quality meets and which a limit rules out."""
    failed = probe.failed if probe is not None else None
    if failed is None:
        return None
    return Gap(failed.name, {failed.name: failed.n - (failed.within or 0)}, failed.n)


def _why_stop(step: Step[C], on_not_proved: Literal["climb", "stop"]) -> str | None:
    if step.verdict == "meets":
        return f"not needed: the lighter rung {step.rung} meets the target"
    if step.verdict == "not_proved" and on_not_proved == "stop":
        return f"not tried: {step.rung} is not proved and on_not_proved is stop"
    return None
