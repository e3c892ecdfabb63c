"""From what a run has measured to the ``economics`` block of its decision."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from tunewise.decision import RungResult
from tunewise.economics import RungFacts, economics
from tunewise.evidence.unpriced import mean_usd, usd_why
from tunewise.run import Run


def choice_of(run: Run) -> str | None:
    """The lightest rung that meets."""
    return next((result.rung for result in run.results if result.verdict == "meets"), None)


def sampled_rungs(run: Run) -> tuple[str, ...]:
    """The rungs whose times the economics compare: today's and the chosen one."""
    section = run.task.economics
    if section is None:
        return ()
    return tuple(name for name in (section.today, choice_of(run)) if name is not None)


def economics_of(run: Run) -> dict[str, Any] | None:
    """The block, over every measured rung; None where the task has no ``economics``."""
    section = run.task.economics
    if section is None:
        return None
    measured = [result for result in run.results if result.evidence is not None]
    return economics(
        [facts_of(run, result) for result in measured],
        queries_per_day=section.queries_per_day,
        today=section.today,
        utilisation=section.utilisation,
        retrain_days=section.retrain_days,
        choice=choice_of(run),
        notes=(
            "costs per query are means over the certification calls that were read, on real tokens; input"
            " that the endpoint reported as cached is charged at its own price",
            f"a local machine answers at the throughput measured in batches here and is busy"
            f" {section.utilisation:.0%} of its time; a machine of one's own is paid day and night",
            f"what it cost to build is paid again every {section.retrain_days:g} days",
            "times are medians of unbatched calls, where they were probed",
        ),
    )


def facts_of(run: Run, result: RungResult) -> RungFacts:
    """What was measured of one rung."""
    assert result.evidence is not None
    door, read = run.candidates[result.rung].door, result.evidence.outcomes
    local = door.host is None and door.price is None
    rate = usd_per_hour(run, result.rung) if local else None
    seconds = result.build.seconds if result.build is not None else None
    build_usd = result.build.usd if result.build is not None else None
    called = run.store.usd_of_building(result.rung)
    if not local:
        build_usd = called
    elif build_usd is None and rate is not None and seconds is not None:
        known = not run.builder_without_price(result.rung)
        build_usd = rate * seconds / 3600 + (called or 0.0) if known else None
    return RungFacts(
        rung=result.rung,
        door=door.name,
        local=local,
        usd=None if local else mean_usd(read),
        usd_per_hour=rate,
        seconds=fmean(o.seconds for o in read) if local and read else None,
        tokens_in=_mean([o.tokens_in for o in read]),
        tokens_out=_mean([o.tokens_out for o in read]),
        build_usd=build_usd,
        build_seconds=seconds,
        usd_why=None if local else usd_why(read),
        p50_ms=None if result.probe is None else result.probe.latency_ms(0.5).estimate,
    )


def usd_per_hour(run: Run, rung: str) -> float | None:
    """What the machine of a local rung costs: the door's own rate, else ``tune.usd_per_hour``."""
    rate: float | None = getattr(run.candidates[rung].door, "usd_per_hour", None)
    if rate is None and run.task.tune is not None:
        rate = run.task.tune.usd_per_hour
    return rate


def _mean(counts: Sequence[int | None]) -> float | None:
    """Mean of the counts; None when any is not known or there are none."""
    known = [count for count in counts if count is not None]
    return fmean(known) if known and len(known) == len(counts) else None


__all__ = ["economics_of", "facts_of", "sampled_rungs"]
