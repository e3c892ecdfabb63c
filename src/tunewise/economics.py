"""What the rungs cost to run, as a function of volume, and from which volume on one pays. Pure.

Every way of running a rung costs, at V queries a day,

    fixed + per_query * V + machine_day * ceil(V / capacity)        USD a day

where ``fixed`` is what it cost to build, spread over the days until it is built again. An endpoint has no
machine, a shared machine is paid by the query, machines of one's own are paid whole, day and night.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SECONDS_PER_DAY = 86_400
HOURS_PER_DAY = 24
MOST_STEPS = 100_000  # whole machines tried before a break-even is called never
VOLUMES = (100, 1_000, 10_000, 100_000, 1_000_000)  # queries a day, beside the user's own

# What is commonly claimed of a large prompted model against a small tuned one.
CLAIMED_COST = "10-50 x"
CLAIMED_LATENCY = "3-5 x"


@dataclass(frozen=True, slots=True)
class RungFacts:
    """What was measured of a rung. All per query; None: not known.

    usd: price of a query at an endpoint, on real tokens, cached input at its own price. usd_per_hour: of
    the machine that runs local weights; None at an endpoint and where no price was given. seconds: of
    that machine for one query, at the throughput measured. build_usd: to build it once.
    usd_why: why ``usd`` is not known. p50_ms: median time of an unbatched call.
    """

    rung: str
    door: str
    local: bool
    usd: float | None = None
    usd_per_hour: float | None = None
    seconds: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    build_usd: float | None = None
    build_seconds: float | None = None
    p50_ms: float | None = None
    usd_why: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way of running a rung; see the head of this file. capacity: queries a day of one machine."""

    name: str
    fixed: float
    per_query: float = 0.0
    machine_day: float = 0.0
    capacity: float = math.inf

    def machines(self, volume: float) -> int:
        """Whole machines for so many queries a day."""
        return math.ceil(volume / self.capacity - 1e-12) if self.machine_day else 0

    def usd_per_day(self, volume: float) -> float:
        """USD of a day at this volume."""
        return self.fixed + self.per_query * volume + self.machine_day * self.machines(volume)

    @property
    def slope(self) -> float:
        """USD per further query in the long run."""
        return self.per_query + (self.machine_day / self.capacity if self.machine_day else 0.0)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The smallest volume, in queries a day, at which one way costs no more than another.

    volume: None where there is none; why says why, or what holds at it. dearer_from: beyond it, the volume
    from which it costs more again (another machine, or a dearer query); None where it never does.
    """

    volume: float | None
    why: str
    dearer_from: float | None = None


def ways_of(facts: RungFacts, utilisation: float, retrain_days: float) -> tuple[tuple[Way, ...], str]:
    """The ways of running a rung, and why there is none."""
    if not facts.local and facts.usd is None:
        return (), facts.usd_why or "its door has no price: give model.usd_per_million"
    if facts.local and facts.usd_per_hour is None:
        return (), "the machine that runs it has no price: give tune.usd_per_hour"
    if facts.build_usd is None:
        return (), "what it cost to build is not known: not all that was asked for it has a price"
    fixed = facts.build_usd / retrain_days
    if facts.usd is not None:
        return (Way("endpoint", fixed, per_query=facts.usd),), ""
    if not facts.seconds:
        return (), "its throughput was not measured"
    assert facts.usd_per_hour is not None
    shared = facts.seconds * facts.usd_per_hour / 3600 / utilisation
    return (
        Way(
            "own machines",
            fixed,
            machine_day=HOURS_PER_DAY * facts.usd_per_hour,
            capacity=SECONDS_PER_DAY * utilisation / facts.seconds,
        ),
        Way("shared machine", fixed, per_query=shared),
    ), ""


def break_even(way: Way, today: Way) -> BreakEven:
    """From which volume on ``way`` costs no more than ``today``: the smallest V > 0 with cost(V) <= today(V).

    Between two steps of either side the difference is a straight line, so each stretch is solved exactly.
    ``why`` says where it is dearer again.
    """
    found: float | None = None
    for begins, ends in _edges(way, today):
        gap, slope = _line(way, today, begins, ends)
        at_begin = gap + slope * begins
        if found is None and (at_begin < 0 or (at_begin == 0 and slope <= 0)):
            found = begins
        if found is None and slope < 0 and (crossing := gap / -slope) <= ends * (1 + 1e-12):
            found = min(crossing, ends)
        elif found is not None and (dearer := _dearer_from(gap, slope, begins, ends, found)) is not None:
            return BreakEven(found, f"but dearer again from {dearer:.0f} a day on", dearer)
    if found is None:
        return BreakEven(None, _never(way, today))
    return BreakEven(found, "cheaper at any volume" if found == 0 else "")


def _line(way: Way, today: Way, begins: float, ends: float) -> tuple[float, float]:
    """The difference way - today within a stretch: its value at 0, were it to go on, and its slope."""
    inside = begins + (ends - begins) / 2 if math.isfinite(ends) else begins + 1.0
    gap = way.fixed + way.machine_day * way.machines(inside)
    gap -= today.fixed + today.machine_day * today.machines(inside)
    return gap, way.per_query - today.per_query


def _dearer_from(gap: float, slope: float, begins: float, ends: float, found: float) -> float | None:
    """Where in this stretch, beyond ``found``, the way begins to be dearer; None where it does not."""
    start = max(begins, found)
    if gap + slope * start > 1e-12 * abs(gap):
        return start
    if slope > 0 and (crossing := -gap / slope) < ends:
        return crossing
    return None


def _edges(way: Way, today: Way) -> list[tuple[float, float]]:
    """Stretches of volume in which neither side buys a machine, up to MOST_STEPS of them."""
    steps = [w.capacity for w in (way, today) if w.machine_day]
    if not steps:
        return [(0.0, math.inf)]
    places = {0.0}
    count = MOST_STEPS // len(steps)
    for step in steps:
        last = min(count, math.ceil(count * min(steps) / step))
        places.update(step * k for k in range(1, last + 1))
    ordered = sorted(places)
    return list(pairwise(ordered))


def _never(way: Way, today: Way) -> str:
    if way.slope >= today.slope:
        return (
            f"each query costs {way.slope:.3g} USD in the long run, against {today.slope:.3g} today, so no"
            " volume pays for the difference"
        )
    return f"not within {MOST_STEPS} machines"


def economics(
    rungs: Sequence[RungFacts],
    *,
    queries_per_day: float,
    today: str | None,
    utilisation: float,
    retrain_days: float,
    choice: str | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The ``economics`` block of a decision: plain values, None where undefined, with the reason.

    today: the rung that the others are compared with; where it was not measured there is no break-even.
    choice: the rung decided on, which the sentences are about.
    """
    volumes = sorted({*VOLUMES, queries_per_day})
    by_name = {facts.rung: facts for facts in rungs}
    base = by_name.get(today or "")
    base_ways, base_why = ways_of(base, utilisation, retrain_days) if base else ((), "")
    if today is None:
        base_why = "economics.today names no rung"
    elif base is None:
        base_why = f"{today} was not measured in this run"
    base_way = base_ways[0] if base_ways else None
    entries = []
    for facts in rungs:
        ways, why = ways_of(facts, utilisation, retrain_days)
        entries.append(
            {
                "rung": facts.rung,
                "door": facts.door,
                "tokens_in_per_query": facts.tokens_in,
                "tokens_out_per_query": facts.tokens_out,
                "seconds_per_query": facts.seconds if facts.local else None,
                "build_usd": facts.build_usd,
                "build_usd_per_day": None if facts.build_usd is None else facts.build_usd / retrain_days,
                "why": why or None,
                "ways": [
                    _way_json(way, volumes, queries_per_day, base_way, base_why, facts.rung == today)
                    for way in ways
                ],
                "against_today": against(facts, base, base_why, utilisation, retrain_days),
            }
        )
    return {
        "queries_per_day": queries_per_day,
        "today": today,
        "utilisation": utilisation,
        "retrain_days": retrain_days,
        "volumes": volumes,
        "rungs": entries,
        "sentences": sentences(entries, by_name, base, choice, queries_per_day),
        "notes": list(notes),
    }


def _way_json(
    way: Way,
    volumes: Sequence[float],
    queries_per_day: float,
    base: Way | None,
    base_why: str,
    is_today: bool,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "way": way.name,
        "usd_per_query": way.slope,
        "usd_per_day": way.usd_per_day(queries_per_day),
        "machines": way.machines(queries_per_day) or None,
        "machine_usd_per_day": way.machine_day or None,
        "queries_per_machine_and_day": way.capacity if way.machine_day else None,
        "usd_per_day_at": [[volume, way.usd_per_day(volume)] for volume in volumes],
    }
    if base is None:
        even = BreakEven(None, base_why)
    elif is_today and way.name == base.name:
        even = BreakEven(None, "this is what is used today")
    else:
        even = break_even(way, base)
    never = base is not None and even.volume is None and not is_today
    found["cost_ratio_at_volume"] = (
        None if base is None else _ratio(base.usd_per_day(queries_per_day), way.usd_per_day(queries_per_day))
    )
    found["break_even_queries_per_day"] = "never" if never else even.volume
    found["dearer_again_from_queries_per_day"] = even.dearer_from
    found["break_even_why"] = even.why or None
    return found


def against(
    facts: RungFacts, base: RungFacts | None, base_why: str, utilisation: float, retrain_days: float
) -> dict[str, Any]:
    """Ratios of today's rung to this one: above 1, today's costs, takes or reads more."""
    if base is None:
        return {"cost_ratio": None, "latency_ratio": None, "prompt_token_ratio": None, "why": base_why}
    own, _ = ways_of(facts, utilisation, retrain_days)
    theirs, _ = ways_of(base, utilisation, retrain_days)
    cost = _ratio(theirs[-1].slope, own[-1].slope) if own and theirs else None
    return {
        "cost_ratio": cost,
        "latency_ratio": _ratio(base.p50_ms, facts.p50_ms),
        "prompt_token_ratio": _ratio(base.tokens_in, facts.tokens_in),
        "why": None if cost is not None else "a price is missing",
    }


def _ratio(first: float | None, second: float | None) -> float | None:
    return first / second if first is not None and second else None


def sentences(
    entries: Sequence[Mapping[str, Any]],
    by_name: Mapping[str, RungFacts],
    base: RungFacts | None,
    choice: str | None,
    queries_per_day: float,
) -> list[str]:
    """What the choice means in money against what is used today, in words."""
    chosen = next((entry for entry in entries if entry["rung"] == choice), None)
    if chosen is None or base is None or choice == base.rung:
        return []
    facts, lines = by_name[str(choice)], []
    ratios = chosen["against_today"]
    for way in chosen["ways"]:
        even = way["break_even_queries_per_day"]
        head = f"{choice} on {facts.door} ({way['way']})"
        money = f"costs {way['usd_per_day']:.4g} USD a day at {queries_per_day:g} queries a day"
        if even == "never":
            lines.append(f"{head} {money}; it never pays against {base.rung}: {way['break_even_why']}.")
        elif even is not None:
            why = f", {way['break_even_why']}" if even and way["break_even_why"] else ""
            pays = f"it costs no more than {base.rung} from {even:.0f} a day on{why}"
            lines.append(f"{head} {money}; {pays if even else way['break_even_why']}.")
    if facts.door == base.door:
        return lines
    days = " or ".join(
        f"{way['cost_ratio_at_volume']:.1f} x ({way['way']})"
        for way in chosen["ways"]
        if way["cost_ratio_at_volume"] is not None
    )
    of_a_day = f", of a day at {queries_per_day:g} queries {days}" if days else ""
    known = (ratios["cost_ratio"], ratios["latency_ratio"])
    cost, time = ("not known" if ratio is None else f"{ratio:.1f} x" for ratio in known)
    lines.append(
        f"Measured, {base.rung} on {base.door} against {choice} on {facts.door}: cost of a further query"
        f" {cost}{of_a_day}, commonly claimed {CLAIMED_COST}; median time {time}, commonly claimed"
        f" {CLAIMED_LATENCY}."
    )
    return lines


__all__ = ["BreakEven", "RungFacts", "Way", "break_even", "economics", "ways_of"]
