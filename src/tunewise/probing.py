"""Unbatched calls of a run: the probe of the limits, and the sample of times that the economics compare."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import cycle, islice

from tunewise.data import Example
from tunewise.evidence.limits import (
    MOST_CALLS,
    Probe,
    ProbeCall,
    probe_from,
    read_limits,
    settled,
)
from tunewise.evidence.runner import Runner
from tunewise.evidence.sequential import looks_for
from tunewise.models.door import Door
from tunewise.progress import Progress
from tunewise.rungs.rung import Candidate
from tunewise.store import Store
from tunewise.task_limits import Limits

WARM_UP = 3  # calls that open connections and load weights
SAMPLE = 20  # calls whose median is compared where no limit asks for more


def probe_limits(
    store: Store,
    runner: Runner,
    candidate: Candidate,
    order: Sequence[Example],
    limits: Limits,
    alpha: float,
    progress: Progress,
) -> Probe:
    """Test the limits on up to 100 unbatched calls, each with a certification input of its own.

    An input that is asked again costs the same again and takes as long: it would be no new evidence.
    A probe that ended is kept: a resumed run reads it and sends nothing. One that was cut off begins
    anew, since times of two sessions do not mix; its calls stay on record and count as spent.
    """
    name, rung = f"probe of {candidate.rung}", candidate.rung
    kept = store.frozen(name)
    if kept is not None:
        return probe_from(kept)
    most = min(MOST_CALLS, len(order))
    looks = frozenset(looks_for(most))
    looked: set[int] = set()

    def enough(calls: Sequence[ProbeCall]) -> bool:
        if len(calls) not in looks or len(calls) in looked:
            return False
        looked.add(len(calls))
        progress.tell("probing", rung=rung, done=len(calls), most=most)
        found = read_limits(calls, limits.latency_ms, limits.cost_per_query, alpha, most)
        return settled(found, len(calls), most)

    probe = _probe(runner, candidate, order, limits.concurrency, most, enough)
    found = read_limits(probe.calls, limits.latency_ms, limits.cost_per_query, alpha, most)
    whole = {**probe.to_json(), "limits": [asdict(limit) for limit in found]}
    return probe_from(store.freeze(name, whole))


def sample_times(
    store: Store,
    runner: Runner,
    candidate: Candidate,
    order: Sequence[Example],
    concurrency: int,
) -> Probe:
    """Times of 20 unbatched calls, for comparing rungs; kept as a probe is."""
    name = f"sample of {candidate.rung}"
    kept = store.frozen(name)
    if kept is None:
        probe = _probe(runner, candidate, order, concurrency, SAMPLE, lambda calls: False)
        kept = store.freeze(name, probe.to_json())
    return probe_from(kept)


def untested(limits: Limits, alpha: float, why: str) -> Probe:
    """The probe of a rung whose limits were not tested: nothing is proved."""
    found = read_limits((), limits.latency_ms, limits.cost_per_query, alpha)
    return Probe((), limits.concurrency, 0, 0.0, limits=tuple(replace(limit, why=why) for limit in found))


def _probe(
    runner: Runner,
    candidate: Candidate,
    order: Sequence[Example],
    concurrency: int,
    most: int,
    enough: Callable[[Sequence[ProbeCall]], bool],
) -> Probe:
    prober = runner.prober(candidate.door, candidate.rung, concurrency)
    warm = max(WARM_UP, concurrency)
    prober.warm_up([candidate.request(example) for example in islice(cycle(reversed(order)), warm)])
    sent = prober.send([candidate.request(example) for example in islice(cycle(order), most)], enough)
    return Probe(
        calls=sent.calls,
        concurrency=concurrency,
        warm_up=warm,
        seconds=sent.seconds,
        conditions=conditions(candidate.door, concurrency, warm, len(order)),
    )


def conditions(door: Door, concurrency: int, warm_up: int, inputs: int) -> tuple[str, ...]:
    """Under what the times and prices were measured, in words."""
    at_once = "one call at a time" if concurrency == 1 else f"{concurrency} calls at once"
    lines = [
        f"{at_once}, unbatched, after {warm_up} calls to warm up, over {inputs} certification inputs in turn"
    ]
    where = f"at {door.host}" if door.host is not None else f"on this machine ({_hardware(door)})"
    lines.append(f"{door.name} {where}, {datetime.now(UTC).date().isoformat()}")
    if door.price is not None:
        cached = "" if door.price.cached_input is None else f", {door.price.cached_input:g} for cached input"
        lines.append(
            f"prices of the task file in USD per million tokens: {door.price.input:g} for input{cached},"
            f" {door.price.output:g} for output"
        )
    elif (rate := getattr(door, "usd_per_hour", None)) is not None:
        lines.append(f"the machine costs {rate:g} USD per hour, by the task file")
    else:
        lines.append("no price was given")
    return tuple(lines)


def _hardware(door: Door) -> str:
    return str(getattr(door, "hardware", None) or platform.machine())
