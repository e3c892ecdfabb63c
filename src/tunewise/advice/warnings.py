"""What to beware of on such facts: named rules, each with one sentence or two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tunewise.advice.facts import DAYS_BETWEEN_CHANGES, FREQUENT, Domain, Facts
from tunewise.advice.framework import Rule, Thresholds, possible
from tunewise.advice.ranking import LOOKS_UP, TUNES
from tunewise.advice.stages import StageAdvice

ROWS_TO_TUNE = 1_000  # the framework: thousands to tens of thousands of pairs
CERTIFICATION_SHARE = 0.35
FIRST_OPENING_ALPHA = 0.05 / 2  # of all rungs together
RUNGS_IN_PLAY = 5
PAYS_BACK_USD_PER_DAY = 1.0  # assumed: below it a training run seldom pays back within months
NARROW_SHARE = 0.8


@dataclass(frozen=True)
class Data:
    """What the rows of a task say beyond their number; None: not known.

    certification: items of the verdict. provable: smallest true quality that they can prove, None where
    nothing can. clusters: groups of near-duplicates. commonest: share of the most frequent answer.
    """

    rows: int | None = None
    certification: int | None = None
    target: float | None = None
    provable: float | None = None
    clusters: int | None = None
    commonest: float | None = None
    retrain_days: float | None = None
    declared_rows: int | None = None


@dataclass(frozen=True)
class Case:
    """All that a warning may look at."""

    facts: Facts
    rule: Rule
    stage: StageAdvice
    domain: Domain
    data: Data
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class Warned:
    """One warning; rule: stable id."""

    rule: str
    says: str


def warnings_on(case: Case) -> tuple[Warned, ...]:
    """All warnings that apply, in the order of ``CHECKS``."""
    return tuple(Warned(check.__name__.strip("_"), says) for check in CHECKS for says in check(case))


def _too_few_rows_to_tune(case: Case) -> Iterator[str]:
    rows = case.facts.dataset_size
    if case.rule.approach not in TUNES or rows is None or rows >= ROWS_TO_TUNE:
        return
    learned = "form and a few habits at most" if rows < 100 else "form and narrow behaviour, no knowledge"
    yield (
        f"{rows:,} labelled rows are few for tuning ({ROWS_TO_TUNE:,} and more are usual): what can be"
        f" learned from them is {learned}."
    )


def _certification_too_small(case: Case) -> Iterator[str]:
    data = case.data
    if data.certification is not None and data.target is not None:
        if data.provable is None:
            yield (
                f"{data.certification} certification items cannot prove the target {data.target:g} for any"
                " system, however good: more rows or a lower target are needed."
            )
        elif data.provable - data.target > 0.05:
            yield (
                f"{data.certification} certification items prove the target {data.target:g} only for a system"
                f" that is truly at {data.provable:.3f} or better (80 % power)."
            )
        return
    rows = case.facts.dataset_size
    if rows is None:
        return
    items = int(rows * CERTIFICATION_SHARE)
    bound = all_right_proves(items)
    if bound < 0.90:
        yield (
            f"Of {rows:,} rows about {items} would decide (35 %): even if every one of them is right, they"
            f" prove no more than {bound:.2f}."
        )


def all_right_proves(items: int) -> float:
    """Lower bound on the quality of a system that is right on all of ``items``; 0 without items.

    Exact binomial (Clopper and Pearson 1934): alpha ** (1 / n), alpha the share of one of five rungs of
    the first opening's false-*meets* budget.
    """
    return (FIRST_OPENING_ALPHA / RUNGS_IN_PLAY) ** (1 / items) if items > 0 else 0.0


def _narrow_data(case: Case) -> Iterator[str]:
    data = case.data
    if data.rows and data.clusters is not None and data.clusters < data.rows / 2:
        yield (
            f"The {data.rows} rows fall into {data.clusters} clusters of near-duplicates: they say less than"
            " their number, and a model tuned on them forgets more of the rest."
        )
    if data.commonest is not None and data.commonest >= NARROW_SHARE:
        yield (
            f"{100 * data.commonest:.0f} % of the rows have the same answer: tuning would learn to give it"
            " always."
        )


def _instruct_start_of_pretraining(case: Case) -> Iterator[str]:
    if case.stage.stage in ("continual pre-training", "both") and case.domain.instruct_model:
        yield (
            "Continual pre-training would start from an instruct model: raw text wears its"
            " instruction-following away; start from the base model, or tune on instructions afterwards."
        )


def _changes_faster_than_retraining(case: Case) -> Iterator[str]:
    changes = case.facts.knowledge_changes
    if case.rule.approach not in TUNES or changes is None or not case.facts.requires_external_knowledge:
        return
    every = DAYS_BETWEEN_CHANGES.get(changes)
    retrain = case.data.retrain_days
    if every is not None and retrain is not None and every < retrain:
        yield (
            f"The facts change {changes} and the model would be trained again every {retrain:g} days: it"
            " would be out of date most of the time."
        )
    elif changes in FREQUENT:
        yield f"The facts change {changes}: keep them out of the training rows and in the index."


def _few_shot_already_meets(case: Case) -> Iterator[str]:
    if case.facts.few_shot_meets_quality and case.rule.approach != "prompting":
        yield (
            "few_shot_meets_quality is true: the framework asks for it only where style or format is the gap,"
            " but `decide` would stop at few-shot if that holds on certification."
        )


def _change_without_need(case: Case) -> Iterator[str]:
    facts = case.facts
    if facts.requires_external_knowledge is False and facts.knowledge_changes in FREQUENT:
        yield (
            f"knowledge_changes is {facts.knowledge_changes} while requires_external_knowledge is false: the"
            " rate of change was not used; check which of the two is meant."
        )


def _rests_on_exclusion(case: Case) -> Iterator[str]:
    if case.rule.step != 5:
        return
    open_still = possible(case.facts, case.thresholds)
    if len(open_still) > 1:
        yield (
            "This answer rests on exclusion with facts unknown: it may still become "
            f"{', '.join(a for a in open_still if a != case.rule.approach)}."
        )


def _lookup_against_latency(case: Case) -> Iterator[str]:
    latency = case.facts.latency_budget_ms
    if case.rule.approach in LOOKS_UP and latency is not None and latency < case.thresholds.latency_ms:
        yield (
            f"{latency:g} ms leave little room for a search and for reading passages: the latency probe of"
            " `decide` will tell."
        )


def _volume_pays_nothing(case: Case) -> Iterator[str]:
    facts = case.facts
    cost, volume = facts.cost_per_query_budget_usd, facts.queries_per_day
    tight = cost is not None and cost < case.thresholds.cost_per_query_usd
    if case.rule.step == 4 and tight and cost is not None and volume is not None:
        at_threshold = volume * case.thresholds.cost_per_query_usd
        if at_threshold < PAYS_BACK_USD_PER_DAY:
            yield (
                f"{volume:g} queries a day cost {at_threshold:.2f} USD a day at"
                f" {case.thresholds.cost_per_query_usd:g} USD each: a training run would take long"
                " to pay back."
            )


def _rows_beyond_the_file(case: Case) -> Iterator[str]:
    data = case.data
    if data.declared_rows is not None and data.rows is not None and data.declared_rows > data.rows:
        yield (
            f"advice.dataset_size says {data.declared_rows:,} rows, the file holds {data.rows:,}: the advice"
            " counts on the others, `decide` uses only those in the file."
        )


CHECKS: tuple[Callable[[Case], Iterator[str]], ...] = (
    _too_few_rows_to_tune,
    _certification_too_small,
    _narrow_data,
    _instruct_start_of_pretraining,
    _changes_faster_than_retraining,
    _few_shot_already_meets,
    _change_without_need,
    _rests_on_exclusion,
    _lookup_against_latency,
    _volume_pays_nothing,
    _rows_beyond_the_file,
)
