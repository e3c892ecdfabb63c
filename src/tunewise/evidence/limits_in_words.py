"""What a probe measured, for people and for ``decision.json``."""

from dataclasses import asdict
from typing import Any

from tunewise.evidence.limits import LimitResult, Probe
from tunewise.evidence.records import Verdict


def limit_json(limit: LimitResult) -> dict[str, Any]:
    """What the probe said of one limit."""
    unit = "ms" if limit.name == "latency" else "USD"
    return {**asdict(limit), "unit": unit, "says": limit_in_words(limit)}


def latency_json(probe: Probe | None, quality: Verdict) -> dict[str, Any]:
    """Times of unbatched calls in milliseconds, with one-sided 95 % bounds; None with the reason."""
    if probe is None or not probe.calls:
        no_limit = "not probed: the task sets no limit"
        why = no_limit if quality == "meets" else "not probed: its quality does not meet"
        return {"p50": None, "p95": None, "why": why}
    p50, p95, first = probe.latency_ms(0.5), probe.latency_ms(0.95), probe.first_token_ms(0.5)
    return {
        "p50": p50.estimate,
        "p50_low": p50.low,
        "p50_high": p50.high,
        "p95": p95.estimate,
        "p95_low": p95.low,
        "p95_high": p95.high,
        "first_token_p50": first.estimate,
        "calls": len(probe.calls),
        "concurrency": probe.concurrency,
        "warm_up": probe.warm_up,
        "per_second": probe.per_second,
        "usd_per_call": probe.usd,
        "conditions": list(probe.conditions),
        "why": None
        if p95.high is not None
        else "no upper bound of p95 below 59 calls, or at the largest time",
    }


def limit_in_words(limit: LimitResult) -> str:
    """One limit with its counts."""
    bar = f"{limit.limit:g} ms" if limit.name == "latency" else f"{limit.limit:g} USD"
    head = f"{limit.name} limit {bar}"
    if limit.within is None:
        return f"{head} is not proved: {limit.why}"
    counts = f"{limit.within} of {limit.n} calls within it"
    if limit.verdict == "meets":
        return f"{head} holds: {counts}, proved for at least 93 % of calls"
    if limit.verdict == "falls_short":
        return f"{head} fails: {counts}, fewer than 95 %"
    why = f"; {limit.why}" if limit.why else ""
    return f"{head} is not proved: {counts} are too few to tell{why}"


def limit_flips(rung: str, probe: Probe | None) -> list[str]:
    """Where a limit would have to lie for a rung whose quality meets and which it rules out."""
    failed = probe.failed if probe is not None else None
    if probe is None or failed is None:
        return []
    if failed.name == "latency":
        p95 = probe.latency_ms(0.95).estimate
        return [] if p95 is None else [f"{rung} has a p95 of about {p95:.0f} ms, and its quality meets."]
    dearest = max((call.usd for call in probe.calls if call.usd is not None), default=None)
    if dearest is None:
        return []
    return [f"{rung} costs up to {dearest:.6g} USD per query, and its quality meets."]
