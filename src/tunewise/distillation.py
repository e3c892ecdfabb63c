"""After a climb: how much of its teacher's quality the rung ``distilled`` keeps, and what a query takes.

Both answer the certification items that were asked of the student; the teacher's answers are no
evidence for a verdict. Latency is the median of unbatched calls of each, on this run's hardware and hosts.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewise.errors import BudgetEnded, DoorError
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.paired import compare_binary, compare_graded
from tunewise.evidence.records import Outcome
from tunewise.evidence.runner import outcome_of
from tunewise.evidence.unpriced import mean_usd
from tunewise.probing import sample_times
from tunewise.rungs.distilled import Distilled, mean_of, teacher_of

if TYPE_CHECKING:
    from tunewise.run import Run

MARGIN = 0.03  # a student that keeps all but three points is called not worse


def compare_with_teacher(run: "Run") -> Mapping[str, Any] | None:
    """The comparison, JSON-able; None when the rung was not measured, or the budget or a door ended it.

    kept: the student's mean over the teacher's, None where that is 0. difference: student - teacher on the
    same items, with its interval. Per query: tokens in and out, USD, and the median of unbatched calls.
    """
    if Distilled.name not in run.outcomes:
        return None
    run.progress.tell("note", text="distilled: the teacher answers the same items")
    try:
        teacher, student = answered(run, run.outcomes[Distilled.name])
    except (BudgetEnded, DoorError) as end:
        run.progress.tell("note", text=f"the student was not compared with its teacher: {end}")
        return None
    pairs = [(a, b) for a, b in zip(teacher["outcomes"], student["outcomes"], strict=True)]
    known = [(a.value, b.value) for a, b in pairs if a.value is not None and b.value is not None]
    if not known:
        return None
    before, after = [a for a, _ in known], [b for _, b in known]
    compare = compare_binary if metric_of(run.task).kind == "binary" else compare_graded
    paired = compare(before, after, MARGIN)
    return {
        "items": len(known),
        "kept": fmean(after) / fmean(before) if fmean(before) else None,
        "difference": {name: asdict(paired)[name] for name in ("difference", "low", "high", "answer")},
        "teacher": {"quality": fmean(before), **figures(teacher)},
        "student": {"quality": fmean(after), **figures(student)},
    }


def answered(run: "Run", read: tuple[Outcome, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outcomes and unbatched times of teacher and student on the items that the student was asked."""
    student = run.candidates[Distilled.name]
    bench = replace(run.bench([]), built=run.candidates, ask=partial(run.ask_for, Distilled.name))
    teacher = replace(teacher_of(bench), rung="teacher of distilled")
    items = [run.order[outcome.position] for outcome in read]
    answers = run.ask_for(
        Distilled.name, teacher.door, [teacher.request(item) for item in items], "comparison"
    )
    outcomes = [
        outcome_of(item, number, answer, run.score)
        for number, (item, answer) in enumerate(zip(items, answers, strict=True))
    ]
    concurrency = run.task.limits.concurrency if run.task.limits is not None else 1
    times = [
        sample_times(run.store, run.runner, candidate, run.order, concurrency)
        for candidate in (teacher, student)
    ]
    return (
        {"outcomes": outcomes, "probe": times[0], "name": teacher.door.name},
        {"outcomes": list(read), "probe": times[1], "name": student.door.name},
    )


def figures(side: Mapping[str, Any]) -> dict[str, Any]:
    """What a query takes on one side."""
    outcomes, probe = side["outcomes"], side["probe"]
    return {
        "model": side["name"],
        "tokens_in": mean_of([outcome.tokens_in for outcome in outcomes]),
        "tokens_out": mean_of([outcome.tokens_out for outcome in outcomes]),
        "usd_per_query": mean_usd(outcomes),
        "p50_ms": probe.latency_ms(0.5).estimate,
        "calls_timed": len(probe.calls),
    }


def in_words(found: Mapping[str, Any]) -> str:
    """The comparison in one sentence."""
    teacher, student, gap = found["teacher"], found["student"], found["difference"]
    kept = "an undefined share" if found["kept"] is None else f"{found['kept']:.0%}"
    said = (
        f"distilled keeps {kept} of its teacher's quality ({student['quality']:.3f} of "
        f"{teacher['quality']:.3f}; difference {gap['difference']:+.3f} [{gap['low']:+.3f}, "
        f"{gap['high']:+.3f}] on {found['items']} items)"
    )
    for name, unit in (("tokens_in", "prompt tokens"), ("p50_ms", "ms"), ("usd_per_query", "USD a query")):
        if teacher[name] is not None and student[name] is not None:
            said += f", {student[name]:.4g} {unit} in place of {teacher[name]:.4g}"
    return said
