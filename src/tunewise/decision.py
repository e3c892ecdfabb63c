"""Pure: what was measured -> the decision, its reasons, and what would change it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewise.bar import Bar, in_short
from tunewise.evidence.limits import Probe
from tunewise.evidence.limits_in_words import latency_json, limit_flips, limit_in_words, limit_json
from tunewise.evidence.records import Evidence, Outcome, Verdict, cut_off
from tunewise.evidence.unpriced import mean_usd, usd_why
from tunewise.ladder import Gap, verdict_of


@dataclass(frozen=True, slots=True)
class Build:
    """What building a rung took (seconds of wall time; usd None without a price) and what was chosen."""

    seconds: float
    usd: float | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RungResult:
    """One rung of a decision: skipped with a reason, or measured.

    all_outcomes: with ``--exhaustive`` every certification item, beyond where the test stopped.
    figures: figures of the metric over all outcomes (macro F1, counts). probe: its unbatched calls.
    constrained: what a grammar gives on top, on selection items; None where the task declares no form.
    teacher: what a student keeps of its teacher's quality, on the same items; None for other rungs.
    """

    rung: str
    skipped_because: str | None = None
    evidence: Evidence | None = None
    gap: Gap | None = None
    build: Build | None = None
    all_outcomes: tuple[Outcome, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    probe: Probe | None = None
    constrained: Mapping[str, Any] | None = None
    teacher: Mapping[str, Any] | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Of quality, limits and guard together; None when it was not measured."""
        return verdict_of(self.evidence, self.probe, self.held_back)

    @property
    def guard(self) -> Mapping[str, Any] | None:
        """What the forgetting guard found; None where nothing was trained."""
        return self.build.facts.get("guard") if self.build is not None else None

    @property
    def held_back(self) -> str | None:
        """Why it may not win whatever it answers; None when it may."""
        return held_back(self.build.facts) if self.build is not None else None


def held_back(facts: Mapping[str, Any]) -> str | None:
    """Why the guard keeps a built rung from winning, by its facts; None when it does not."""
    guard = facts.get("guard")
    if not guard or guard["verdict"] != "failed" or guard.get("forgetting") == "ignore":
        return None
    return f"it forgets: {guard['why']}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The lightest rung that meets the target, or none, with reasons and with what would change it."""

    task: str
    metric: str
    target: float
    tolerance: float
    choice: str | None
    verdict: Verdict
    reasons: tuple[str, ...]
    what_would_change_this: tuple[str, ...]
    rungs: tuple[RungResult, ...]
    maybe_enough: tuple[str, ...]
    ended_by: str
    spent: Mapping[str, Any]
    baselines: Mapping[str, Any]
    openings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    seed: int
    exhaustive: bool = False
    advice: Mapping[str, Any] | None = None
    staleness: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    economics: Mapping[str, Any] | None = None
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 a rung meets, 3 all fall short, 4 one is not proved and none meets, 5 the budget ended it."""
        if self.choice is not None:
            return 0
        if self.ended_by == "budget":
            return 5
        return 4 if self.verdict == "not_proved" else 3

    @property
    def sentence(self) -> str:
        """The choice in one plain sentence that states the tolerance."""
        return self.reasons[0]

    def result(self, rung: str) -> RungResult:
        """The result of one rung. Raises KeyError when the decision does not list it."""
        for result in self.rungs:
            if result.rung == rung:
                return result
        raise KeyError(rung)

    def to_json(self) -> dict[str, Any]:
        """``decision.json``: plain values, None where undefined. Keys are added, never renamed."""
        return {
            "task": self.task,
            "choice": self.choice,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "what_would_change_this": list(self.what_would_change_this),
            "metric": self.metric,
            "target": self.target,
            "tolerance": self.tolerance,
            "limits": dict(self.limits),
            "economics": None if self.economics is None else dict(self.economics),
            "rungs": [rung_json(result) for result in self.rungs],
            "spent": dict(self.spent),
            "maybe_enough": list(self.maybe_enough),
            "baselines": dict(self.baselines),
            "openings": dict(self.openings),
            "data": dict(self.data),
            "measures": dict(self.measures),
            "ended_by": self.ended_by,
            "exhaustive": self.exhaustive,
            "versions": dict(self.versions),
            "seed": self.seed,
            "advice": None if self.advice is None else dict(self.advice),
            "staleness": None if self.staleness is None else dict(self.staleness),
        }


def rung_json(result: RungResult) -> dict[str, Any]:
    """One entry of ``rungs`` in ``decision.json``."""
    if result.evidence is None:
        return {"rung": result.rung, "skipped_because": result.skipped_because}
    evidence, gap = result.evidence, result.gap
    return {
        "rung": result.rung,
        "verdict": result.verdict,
        "gap": gap.kind if gap else None,
        "gap_counts": {**gap.counts, "checked": gap.checked} if gap else None,
        "quality": {
            "verdict": evidence.verdict,
            "estimate": evidence.estimate,
            "low": evidence.low,
            "high": evidence.high,
            "n": evidence.n,
            "successes": evidence.successes,
            "alpha": evidence.alpha,
            "more_items": evidence.more_items,
        },
        "all_items": all_items(result.all_outcomes),
        "details": mean_details(evidence.outcomes),
        "figures": dict(result.figures),
        "statuses": evidence.statuses(),
        "constrained": None if result.constrained is None else dict(result.constrained),
        "teacher": None if result.teacher is None else dict(result.teacher),
        "limits": [limit_json(limit) for limit in result.probe.limits] if result.probe else [],
        "latency_ms": latency_json(result.probe, evidence.verdict),
        "usd_per_query": mean_usd(evidence.outcomes),
        "usd_why": usd_why(evidence.outcomes),
        "calls": len(evidence.outcomes),
        "tokens_in": total(o.tokens_in for o in evidence.outcomes),
        "tokens_out": total(o.tokens_out for o in evidence.outcomes),
        "build": build_json(result.build),
        "guard": None if result.guard is None else dict(result.guard),
        "notes": list(evidence.notes),
    }


def build_json(build: Build | None) -> dict[str, Any] | None:
    """What building took and chose; the guard stands beside it."""
    if build is None:
        return None
    facts = {name: value for name, value in build.facts.items() if name != "guard"}
    return {"seconds": build.seconds, "usd": build.usd, **facts}


def all_items(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Mean over every certification item (``--exhaustive``), None when only the test's items were asked."""
    values = [o.value for o in outcomes if o.value is not None]
    return {"estimate": sum(values) / len(values), "n": len(values)} if values else None


def total(counts: Any) -> int | None:
    """Sum of the counts, None when any is not known or there are none."""
    known = list(counts)
    return None if not known or any(count is None for count in known) else sum(known)


def mean_details(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Means of a metric's further figures (``field_recall``, ...) over the outcomes that have them."""
    sums: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in outcome.detail.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                sums.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def choose(
    results: Sequence[RungResult],
    *,
    metric: str,
    target: float,
    tolerance: float,
    budget_ended: bool,
    stops: bool = False,
) -> dict[str, Any]:
    """The fields of a Decision that follow from the results: choice, verdict, reasons, what would change it.

    The choice is the lightest rung whose verdict is ``meets``. ``not_proved`` never counts as success, and a
    budget that ended the run leaves open what the rungs above could do. stops: the climb ends at a rung that
    is not proved (``on_not_proved: stop``).
    """
    measured = [r for r in results if r.evidence is not None]
    meeting = [r for r in measured if r.verdict == "meets"]
    undecided = [r.rung for r in measured if r.verdict == "not_proved"]
    choice = meeting[0] if meeting else None
    lighter = measured[: measured.index(choice)] if choice else measured
    maybe = [r.rung for r in lighter if r.rung in undecided]
    open_yet = bool(undecided) or not measured or budget_ended
    verdict: Verdict = "meets" if choice else ("not_proved" if open_yet else "falls_short")
    if budget_ended:
        ended_by = "budget"
    elif choice:
        ended_by = "meets"
    elif stops and undecided:
        ended_by = "on_not_proved: stop"
    else:
        ended_by = "every rung was tried"
    bar = Bar(metric, target, tolerance)
    return {
        "choice": choice.rung if choice else None,
        "verdict": verdict,
        "reasons": _reasons(choice, lighter, results, bar, budget_ended),
        "what_would_change_this": _flips(choice, lighter, bar),
        "maybe_enough": tuple(maybe),
        "ended_by": ended_by,
    }


def figures(evidence: Evidence) -> str:
    """Estimate, interval and count in one phrase; why there is none when undefined."""
    if evidence.estimate is None:
        return evidence.notes[0] if evidence.notes else "no scores"
    low = "?" if evidence.low is None else f"{evidence.low:.3f}"
    high = "?" if evidence.high is None else f"{evidence.high:.3f}"
    return f"estimate {evidence.estimate:.3f}, between {low} and {high}, {evidence.n} items"


def _reasons(
    choice: RungResult | None,
    lighter: Sequence[RungResult],
    results: Sequence[RungResult],
    bar: Bar,
    budget_ended: bool,
) -> tuple[str, ...]:
    lines = []
    if choice and choice.evidence:
        lines.append(
            f"Use {choice.rung}: it meets {bar}: proved at least {bar.at_least} ({figures(choice.evidence)})."
        )
        if choice.probe is not None:
            lines += [f"Its {limit_in_words(limit)}." for limit in choice.probe.limits]
        lines += general_ability(choice)
    elif budget_ended:
        lines.append(f"No rung was proved to meet {bar} before the budget ended the run.")
    elif any(r.evidence and r.evidence.verdict == "not_proved" for r in lighter):
        lines.append(f"No rung is proved to meet {bar}: what was measured cannot tell.")
    elif any(r.evidence and r.evidence.verdict == "meets" and r.held_back for r in lighter):
        lines.append(f"No rung meets {bar} without forgetting what the base model could do.")
    elif any(r.verdict == "not_proved" for r in lighter):
        lines.append(f"No rung is proved to meet {bar} and every limit as well.")
    elif any(r.evidence and r.evidence.verdict == "meets" for r in lighter):
        lines.append(f"No rung meets {bar} and every limit as well.")
    elif lighter:
        lines.append(f"No rung meets {bar}: every rung that was measured falls short.")
    else:
        lines.append(f"No rung could be tried against {bar}.")
    for result in lighter:
        if result.evidence:
            held = f", but does not win: {result.held_back}" if result.held_back else ""
            said = f"{_in_words(result.evidence, bar)}{held}{_gap_in_words(result.gap)}"
            lines.append(f"{result.rung} {said}.")
            if result.probe is not None:
                lines += [f"{result.rung}: its {limit_in_words(limit)}." for limit in result.probe.limits]
    lines += [f"{r.rung} was skipped: {r.skipped_because}." for r in results if r.skipped_because]
    return tuple(lines)


def general_ability(choice: RungResult) -> list[str]:
    """What a chosen tuned rung keeps of what its base could do, or that this was not measured, and why."""
    guard = choice.guard
    if guard is None:
        return []
    if guard["verdict"] == "off":
        return [f"What {choice.rung} lost of its base's general ability was not measured: {guard['why']}."]
    found = {"clear": "kept", "not_proved": "not proved to be kept", "failed": "lost, and this is ignored"}
    return [f"Its base's general ability is {found[guard['verdict']]}: {guard['why']}."]


def _in_words(evidence: Evidence, bar: Bar) -> str:
    if evidence.verdict == "falls_short":
        return f"falls short of {in_short(bar.target)} ({figures(evidence)})"
    if evidence.verdict == "meets":
        return f"meets {bar} ({figures(evidence)})"
    more = f"; about {evidence.more_items} more items would settle it" if evidence.more_items else ""
    return f"is not proved either way ({figures(evidence)}{more})"


def _gap_in_words(gap: Gap | None) -> str:
    if gap is None or gap.kind is None or gap.kind in ("latency", "cost"):
        return ""
    said = ", ".join(f"{count} {kind}" for kind, count in gap.counts.items() if count)
    return f"; its failures on {gap.checked} selection items: {said}"


def _flips(choice: RungResult | None, lighter: Sequence[RungResult], bar: Bar) -> tuple[str, ...]:
    """What would change the answer, each line with the figure at which it flips."""
    lines = []
    for result in lighter:
        evidence = result.evidence
        if evidence is None or evidence.low is None:
            continue
        lines += limit_flips(result.rung, result.probe)
        if result.held_back is not None and evidence.verdict == "meets":
            lines.append(
                f"guard.forgetting: ignore would hand over {result.rung}; to keep what the base could do: "
                f"{'; '.join((result.guard or {}).get('advice') or ['train less'])}."
            )
        if evidence.verdict == "not_proved" and evidence.more_items:
            lines.append(
                f"About {evidence.more_items} more certification items would probably settle {result.rung}"
                f" (its estimate is {evidence.estimate:.3f})."
            )
    bounded = [(r.evidence.low + bar.tolerance, r) for r in lighter if r.evidence and r.evidence.low]
    free = [pair for pair in bounded if pair[1].held_back is None]
    bound, best = max(free, key=lambda pair: pair[0], default=(0.0, None))
    if best is not None and bar.target / 2 < bound < bar.target:
        lines.append(
            f"With a target of {math.floor(100 * bound) / 100:.2f} the items read so far would have proved"
            f" the quality of {best.rung}; to look at them again for a new target takes somewhat more."
        )
    if choice and choice.evidence and choice.evidence.low is not None:
        bound = min(choice.evidence.low + bar.tolerance, 1.0)
        lines.append(
            f"A target above about {bound:.2f} is not proved for {choice.rung} by the items read so far."
        )
    if choice is None:
        lines += _missing(lighter)
    return tuple(lines)


def _missing(measured: Sequence[RungResult]) -> list[str]:
    """What the measured gaps of the best rung ask for."""
    with_estimate = [r for r in measured if r.evidence and r.evidence.estimate is not None]
    if not with_estimate:
        return []
    best = max(with_estimate, key=lambda r: (r.evidence and r.evidence.estimate) or 0.0)
    help_for = {
        "format": "its failures are mostly of format: a grammar or more training rows may close them",
        "knowledge": "its failures are mostly missing knowledge: documents or better retrieval may help",
        "behaviour": "its failures are mostly behaviour: more training rows or a larger model may close them",
    }
    kind = best.gap.kind if best.gap else None
    hint = f"; {help_for[kind]}" if kind in help_for else ""
    assert best.evidence is not None
    if 2 * (cut := cut_off(best.evidence)) > len(best.evidence.outcomes):
        hint = f"; {cut} of its answers were cut off: decoding.max_new_tokens may be too low"
    return [f"The best rung is {best.rung} ({figures(best.evidence)}){hint}."]
