"""Do calls keep the limits? Pure: reads the calls of a probe, says what they prove.

A limit holds when at least 95 % of calls keep it, tested against 93 % by the exact sequential test of
``sequential.py``, at the rung's own false-*meets* budget.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tunewise.evidence.judgement import judge
from tunewise.evidence.quantiles import Quantile, quantile
from tunewise.evidence.records import Outcome, Verdict
from tunewise.evidence.sequential import ExactTest, looks_for
from tunewise.evidence.unpriced import why_no_usd

SHARE = 0.95  # of calls must keep a limit
TOLERANCE = 0.02  # so that *meets* proves at least 93 %
ALPHA_SHORT = 0.05
MOST_CALLS = 100

Name = Literal["latency", "cost"]


@dataclass(frozen=True, slots=True)
class ProbeCall:
    """One unbatched call. seconds: wall time as its caller sees it; None when the call failed.

    first_token_s: until the first token of the answer, where the door gives it. usd: None without a price.
    """

    seconds: float | None
    usd: float | None = None
    tokens_in: int | None = None
    cached_in: int | None = None
    tokens_out: int | None = None
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class LimitResult:
    """What the probe says of one limit.

    limit: milliseconds, or USD. within: calls that kept it, of n. low: what share of calls keeps it at
    least, at level 1 - alpha. why: where the verdict is not what the counts suggest.
    """

    name: Name
    limit: float
    verdict: Verdict
    within: int | None
    n: int
    low: float | None
    alpha: float
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """The unbatched calls of one rung, in the order in which they were sent.

    concurrency: calls under way at once. warm_up: calls before them that are not counted.
    seconds: from the first call's start to the last one's end.
    """

    calls: tuple[ProbeCall, ...]
    concurrency: int
    warm_up: int
    seconds: float
    conditions: tuple[str, ...] = ()
    limits: tuple[LimitResult, ...] = field(default=())

    @property
    def verdict(self) -> Verdict | None:
        """``meets`` when all limits hold, ``falls_short`` when one fails; None without limits."""
        verdicts = {limit.verdict for limit in self.limits}
        if not verdicts:
            return None
        if "falls_short" in verdicts:
            return "falls_short"
        return "not_proved" if "not_proved" in verdicts else "meets"

    @property
    def failed(self) -> LimitResult | None:
        """The first limit that fails."""
        return next((limit for limit in self.limits if limit.verdict == "falls_short"), None)

    def latency_ms(self, q: float) -> Quantile:
        """A quantile of the calls' times, in milliseconds; calls that failed have no time."""
        return quantile([1000 * call.seconds for call in self.calls if call.seconds is not None], q)

    def first_token_ms(self, q: float) -> Quantile:
        """A quantile of the times to the first token, in milliseconds."""
        return quantile([1000 * c.first_token_s for c in self.calls if c.first_token_s is not None], q)

    @property
    def per_second(self) -> float | None:
        """Calls that were answered per second at this concurrency; None without calls."""
        answered = sum(call.seconds is not None for call in self.calls)
        return answered / self.seconds if answered and self.seconds > 0 else None

    @property
    def usd(self) -> float | None:
        """Mean price of a call in USD; None when any has none."""
        prices = [call.usd for call in self.calls if call.seconds is not None]
        known = [price for price in prices if price is not None]
        return sum(known) / len(known) if known and len(known) == len(prices) else None

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, for the store."""
        return asdict(self)


def probe_from(plain: dict[str, Any]) -> Probe:
    """The probe that ``to_json`` wrote."""
    return Probe(
        calls=tuple(ProbeCall(**call) for call in plain["calls"]),
        concurrency=plain["concurrency"],
        warm_up=plain["warm_up"],
        seconds=plain["seconds"],
        conditions=tuple(plain["conditions"]),
        limits=tuple(LimitResult(**limit) for limit in plain["limits"]),
    )


def read_limits(
    calls: Sequence[ProbeCall],
    latency_ms: float | None,
    usd: float | None,
    alpha: float,
    most: int = MOST_CALLS,
) -> tuple[LimitResult, ...]:
    """What calls, in order, say of each limit that is set; ``not_proved`` while a test could go on.

    most: how many calls there can be.

    A failed call is tried both ways (kept, not kept). A call without a price leaves a cost limit unproved.
    """
    found = []
    if latency_ms is not None:
        times = [None if c.seconds is None else 1000 * c.seconds for c in calls]
        found.append(_read("latency", times, latency_ms, alpha, None, most))
    if usd is not None:
        priced = [c.usd for c in calls]
        why = why_no_usd((c.usd, c.tokens_in) for c in calls if c.seconds is not None)
        found.append(_read("cost", priced, usd, alpha, why, most))
    return tuple(found)


def fewest_calls(alpha: float) -> int:
    """Calls, all within a limit, below which it cannot be proved: 0.93^n must not exceed ``alpha``."""
    return math.ceil(math.log(alpha) / math.log(SHARE - TOLERANCE))


def settled(limits: Sequence[LimitResult], calls: int, most: int = MOST_CALLS) -> bool:
    """Whether more calls are pointless: all limits are decided, one fails, or none may follow."""
    if calls >= most or any(limit.verdict == "falls_short" for limit in limits):
        return True
    return all(limit.verdict == "meets" or limit.why is not None for limit in limits)


def _read(
    name: Name, figures: Sequence[float | None], limit: float, alpha: float, why: str | None, most: int
) -> LimitResult:
    if why is not None:
        return LimitResult(name, limit, "not_proved", None, len(figures), None, alpha, why)
    test = ExactTest(SHARE, TOLERANCE, alpha, ALPHA_SHORT, looks_for(most))
    outcomes = [
        Outcome(
            example="",
            position=place,
            status="errored" if figure is None else "scored",
            value=None if figure is None else float(figure <= limit),
            text="",
            tokens_in=None,
            tokens_out=None,
            seconds=0.0,
            usd=None,
        )
        for place, figure in enumerate(figures)
    ]
    said = judge(test, outcomes, alpha)
    failed = sum(figure is None for figure in figures[: said.n])
    tried = f"{failed} calls failed and were tried both ways" if failed else None
    return LimitResult(
        name=name,
        limit=limit,
        verdict=said.verdict,
        within=said.successes,
        n=said.n,
        low=said.low,
        alpha=alpha,
        why=tried if said.verdict == "not_proved" else None,
    )
