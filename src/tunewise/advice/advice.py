"""Facts -> advice: the approach, the rule, the order, the reasons, and what would overturn them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewise.advice.facts import Domain, Facts, Tuning, shown_value
from tunewise.advice.framework import (
    DEFAULT,
    DIFFERENCES,
    Flip,
    Rule,
    Thresholds,
    decide_rule,
    flips,
    literal_rule,
    possible,
)
from tunewise.advice.methods import MethodAdvice, advise_method
from tunewise.advice.ranking import TUNES, Ranked, rank
from tunewise.advice.rungs import rungs_on
from tunewise.advice.stages import StageAdvice, advise_stage
from tunewise.advice.warnings import Case, Data, Warned, warnings_on


@dataclass(frozen=True)
class Advice:
    """What the facts point to, before anything is measured.

    sources: where each known fact comes from. flips: single facts that would change the approach, the
    unknown ones first. rungs: what ``decide`` would try, light to heavy; skipped: the others.
    estimates: by rung, where a model is known.
    """

    facts: Facts
    rule: Rule
    literal: Rule
    ranked: tuple[Ranked, ...]
    flips: tuple[Flip, ...]
    possible: tuple[str, ...]
    rungs: tuple[str, ...]
    skipped: Mapping[str, str]
    stage: StageAdvice
    method: MethodAdvice
    warnings: tuple[Warned, ...]
    thresholds: Thresholds
    sources: Mapping[str, str] = field(default_factory=dict)
    estimates: Mapping[str, Any] = field(default_factory=dict)

    @property
    def approach(self) -> str:
        """``prompting``, ``rag``, ``fine-tuning`` or ``rag+fine-tuning``."""
        return self.rule.approach

    @property
    def difference(self) -> str | None:
        """Why the answer is not that of the plain walk; None where it is."""
        if self.literal.id == self.rule.id:
            return None
        return (
            f"The plain walk gives {self.literal.approach} ({self.literal.id}). {DIFFERENCES[self.rule.id]}"
        )

    def flip_json(self, flip: Flip) -> dict[str, Any]:
        """One entry of ``overturned_by``."""
        return {
            "fact": flip.fact,
            "value": shown_value(flip.value),
            "approach": flip.rule.approach,
            "rule": flip.rule.id,
            "says": flip_in_words(flip, self.thresholds, flip.fact in self.facts.unknown()),
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values. Keys are added, never renamed."""
        return {
            "approach": self.approach,
            "rule": self.rule.id,
            "step": self.rule.step,
            "why": self.rule.says,
            "literal_rule": self.literal.id,
            "literal_approach": self.literal.approach,
            "difference": self.difference,
            "ranked": [ranked.approach for ranked in self.ranked],
            "reasons": {
                ranked.approach: {"for": ranked.speaks_for, "against": ranked.speaks_against}
                for ranked in self.ranked
            },
            "arguments": {ranked.approach: list(ranked.rules) for ranked in self.ranked},
            "overturned_by": [*_measured(self), *(self.flip_json(flip) for flip in self.flips)],
            "possible": list(self.possible),
            "rungs": list(self.rungs),
            "rungs_skipped": dict(self.skipped),
            "estimates": dict(self.estimates),
            "stage": {"advice": self.stage.stage, "rule": self.stage.rule, "why": self.stage.why}
            | {"signs": list(self.stage.signs)},
            "method": {"advice": self.method.method, "rule": self.method.rule, "why": self.method.why},
            "warnings": [warned.says for warned in self.warnings],
            "warning_rules": [warned.rule for warned in self.warnings],
            "facts": self.facts.to_json(),
            "sources": dict(self.sources),
            "unknown": list(self.facts.unknown()),
            "thresholds": {
                "static_rows": self.thresholds.static_rows,
                "latency_ms": self.thresholds.latency_ms,
                "cost_per_query_usd": self.thresholds.cost_per_query_usd,
            },
        }


NO_DOMAIN, NO_TUNING, NO_DATA = Domain(), Tuning(), Data()


def advise_on(
    facts: Facts,
    *,
    available: Sequence[str],
    domain: Domain = NO_DOMAIN,
    tuning: Tuning = NO_TUNING,
    data: Data = NO_DATA,
    sources: Mapping[str, str] | None = None,
    thresholds: Thresholds = DEFAULT,
) -> Advice:
    """The advice on these facts. Pure. available: names of the rungs there are, light to heavy."""
    rule = decide_rule(facts, thresholds)
    tunes = rule.approach in TUNES
    stage = advise_stage(facts, domain, tunes)
    rungs, skipped = rungs_on(facts, available)
    unknown = facts.unknown()
    known = tuple(name for name in facts.to_json() if name not in unknown)
    return Advice(
        facts=facts,
        rule=rule,
        literal=literal_rule(facts, thresholds),
        ranked=rank(facts, rule.approach, thresholds),
        flips=(*flips(facts, unknown, thresholds), *flips(facts, known, thresholds)),
        possible=possible(facts, thresholds),
        rungs=rungs,
        skipped=skipped,
        stage=stage,
        method=advise_method(facts, tuning, tunes),
        warnings=warnings_on(Case(facts, rule, stage, domain, data, thresholds)),
        thresholds=thresholds,
        sources=sources or {},
    )


def flip_in_words(flip: Flip, thresholds: Thresholds, unknown: bool) -> str:
    """One flip as a sentence."""
    value = shown_value(flip.value)
    said = str(value).lower() if isinstance(value, bool) else str(value)
    if flip.fact == "dataset_size":
        side = "above" if flip.value > thresholds.static_rows else "at most"
        said = f"{side} {thresholds.static_rows:,}"
    elif value != "none" and flip.fact == "latency_budget_ms":
        said = f"below {thresholds.latency_ms:g}"
    elif value != "none" and flip.fact == "cost_per_query_budget_usd":
        said = f"below {thresholds.cost_per_query_usd:g}"
    verb = "turns out to be" if unknown else "were"
    return f"If {flip.fact} {verb} {said}, the answer is {flip.rule.approach} ({flip.rule.id})."


# What `decide` could measure that speaks against the advice, by the advised approach.
_EVIDENCE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "prompting": (
        ("rag", "the prompting rungs fall short and their failures are right with the gold passage"),
        ("fine-tuning", "the prompting rungs fall short and their failures are of format or behaviour"),
    ),
    "rag": (
        ("prompting", "zero-shot or a few-shot rung meets the target"),
        ("rag+fine-tuning", "rag falls short even with the right passage in the prompt"),
    ),
    "fine-tuning": (
        ("prompting", "a prompting rung or the constrained one meets the target"),
        ("rag", "the failures of the prompting rungs are right with the gold passage "),
    ),
    "rag+fine-tuning": (
        ("prompting", "a prompting rung meets the target"),
        ("rag", "rag alone meets the target"),
        ("fine-tuning", "a tuned rung without documents meets the target"),
    ),
}


def _measured(advice: Advice) -> list[dict[str, Any]]:
    return [
        {
            "evidence": evidence,
            "approach": approach,
            "says": f"{approach}, if `decide` finds that {evidence}.",
        }
        for approach, evidence in _EVIDENCE[advice.approach]
    ]
