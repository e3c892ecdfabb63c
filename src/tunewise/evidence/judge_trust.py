"""Whether a judge may decide: its agreement with people, and what moves it that should not.

Trusted: at least 50 labelled answers, 10 of each kind, Cohen's kappa of at least 0.6 ("substantial" in
Landis & Koch, Biometrics 33, 1977, p. 165), and the lower end of its two-sided 90 % interval at least 0.4
("moderate").
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.evidence.agreement import Agreement, agreement
from tunewise.evidence.judge import Judge, Judgement, Labelled, Probe

FEWEST_LABELS = 50
FEWEST_OF_A_CLASS = 10  # below, agreement on the rarer kind is chance: one bad answer, caught, would do
KAPPA, KAPPA_LOW = 0.6, 0.4
PROBED = 30  # labelled answers that each probe asks again
CLASSES = ("0", "1", "none")  # what was said of an answer; "none": the judge gave no verdict


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe changed: of ``n`` answers with a verdict both times, the share with another one.

    up, down: how many went from 0 to 1 and back. None: nothing could be compared.
    """

    n: int
    changed: float | None
    up: int
    down: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"n": self.n, "changed": self.changed, "up": self.up, "down": self.down}


@dataclass(frozen=True, slots=True)
class Trust:
    """What was found out about a judge. reasons: why it is not trusted; empty when it is.

    by_rung: labelled answers of each rung. probes: ``order`` (criteria and anchors turned round), ``length``
    (two empty sentences added), ``again`` (the same prompt). unparseable: of the labelled answers.
    """

    agreement: Agreement
    by_rung: dict[str, int]
    probes: dict[str, ProbeResult]
    unparseable: int
    unquoted: int
    reasons: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether it may decide."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trusted": self.trusted,
            "reasons": list(self.reasons),
            "agreement": self.agreement.to_json(),
            "labels_by_rung": dict(self.by_rung),
            "probes": {name: probe.to_json() for name, probe in self.probes.items()},
            "unparseable": self.unparseable,
            "quotes_not_found": self.unquoted,
        }


def judge_trust(
    judge: Judge, labels: Sequence[Labelled], *, tell: Callable[[str], None] = lambda text: None
) -> Trust:
    """Ask the judge about every labelled answer, and about the first 30 three times more.

    An answer that the judge gave no verdict on disagrees with any label. The same answer to the same input
    counts once, with its first label, whichever rungs gave it: the judge says the same of each.
    """
    labels = list({(row.item.input, row.item.output): row for row in reversed(labels)}.values())[::-1]
    items = [row.item for row in labels]
    tell(f"asking the judge about {len(items)} labelled answers")
    said = judge.read(items)
    probes: dict[str, ProbeResult] = {}
    names: tuple[Probe, ...] = ("order", "length", "again")
    for name in names if items else ():
        tell(f"asking the judge again: {name}")
        probes[name] = compare(said[:PROBED], judge.read(items[:PROBED], name))
    return weigh(labels, said, probes)


def weigh(
    labels: Sequence[Labelled], said: Sequence[Judgement], probes: dict[str, ProbeResult] | None = None
) -> Trust:
    """Trust from labels and the judge's verdicts on the same answers."""
    people = [_class(row.met) for row in labels]
    judged = [_class(judgement.met) for judgement in said]
    found = agreement(people, judged, CLASSES if "none" in judged else CLASSES[:2])
    return Trust(
        found,
        dict(Counter(row.rung for row in labels)),
        probes or {},
        sum(judgement.met is None for judgement in said),
        sum(bool(judgement.unquoted) for judgement in said),
        tuple(_reasons(found)),
    )


def compare(first: Sequence[Judgement], second: Sequence[Judgement]) -> ProbeResult:
    """What changed between two readings of the same answers."""
    pairs = [
        (one.met, other.met)
        for one, other in zip(first, second, strict=True)
        if one.met is not None and other.met is not None
    ]
    up = sum(not one and other for one, other in pairs)
    down = sum(one and not other for one, other in pairs)
    return ProbeResult(len(pairs), (up + down) / len(pairs) if pairs else None, up, down)


def _reasons(found: Agreement) -> list[str]:
    reasons = []
    if found.n < FEWEST_LABELS:
        reasons.append(f"{found.n} answers are labelled by people; it takes {FEWEST_LABELS}")
    for name, said in zip(found.classes, found.confusion, strict=True):
        if name in CLASSES[:2] and 0 < sum(said) < FEWEST_OF_A_CLASS:
            kind = "right" if name == "1" else "wrong"
            reasons.append(
                f"people call {sum(said)} of these answers {kind}; it takes {FEWEST_OF_A_CLASS} of each kind "
                "to know what the judge makes of them"
            )
    if found.kappa is None or found.kappa_low is None:
        if found.n:
            reasons.append(f"its agreement with people is undefined: {found.why}")
        return reasons
    if found.kappa < KAPPA:
        reasons.append(f"its kappa with people is {found.kappa:.2f}; it takes {KAPPA:.2f}")
    if found.kappa_low < KAPPA_LOW:
        low = f"{found.kappa_low:.2f} (90 % interval)"
        reasons.append(f"its kappa with people may be as low as {low}; it takes {KAPPA_LOW:.2f}")
    return reasons


def _class(met: bool | None) -> str:
    return "none" if met is None else str(int(met))


__all__ = ["ProbeResult", "Trust", "compare", "judge_trust", "weigh"]
