"""What one rung of a plan takes: calls, tokens, money and time, the least and the most."""

from dataclasses import dataclass
from statistics import fmean

from tunewise.models.door import Door
from tunewise.plan_lengths import Lengths
from tunewise.rungs.rung import Outlook


@dataclass(frozen=True, slots=True)
class PlannedRung:
    """One rung of a plan, or why it is skipped. Tokens are over all its calls; None: not known.

    time: of the whole rung, in words; empty where it is not known, and then ``time_why`` says why.
    """

    rung: str
    skipped_because: str | None = None
    calls_low: int = 0
    calls_high: int = 0
    tokens_in_low: int | None = None
    tokens_in_high: int | None = None
    tokens_out_low: int | None = None
    tokens_out_high: int | None = None
    train_tokens: int = 0
    build_calls: int = 0
    usd_low: float | None = None
    usd_high: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    time: str = ""
    time_why: str = ""
    money: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of a door, measured on a few of the task's own prompts in one batch."""

    prompt: float
    answer: float


def planned_rung(
    outlook: Outlook,
    rung: str,
    lengths: Lengths,
    door: Door | None,
    items: tuple[int, int],
    speed: Speed | None,
) -> PlannedRung:
    """Least and most of a rung: the test may stop at its first look or run to its cap (``items``).

    door: what the rung asks; None for a rung that answers from weights of its own, whose time and money
    ``plan_tuned`` works out.
    """
    bare, answer = fmean(lengths.bare), fmean(lengths.answers)
    calls_low, calls_high = (outlook.build_calls + count for count in items)
    shot = bare + answer
    in_low = round(calls_low * (bare + outlook.shots[0] * shot + outlook.passage_tokens[0]))
    in_high = round(calls_high * (bare + outlook.shots[1] * shot + outlook.passage_tokens[1]))
    read = shot + fmean(outlook.passage_tokens)
    train_tokens = round(outlook.train_rows * outlook.epochs * read) + outlook.read_tokens
    out_low, out_high = round(calls_low * answer), calls_high * lengths.max_new_tokens
    price = None if door is None else door.price
    usd_low = price.of(in_low, out_low) if price else None
    usd_high = price.of(in_high, out_high) if price else None
    seconds = None
    if speed is not None and door is not None:
        seconds = (
            _seconds(speed, in_low, out_low, train_tokens),
            _seconds(speed, in_high, out_high, train_tokens),
        )
    return PlannedRung(
        rung,
        calls_low=calls_low,
        calls_high=calls_high,
        tokens_in_low=in_low,
        tokens_in_high=in_high,
        tokens_out_low=out_low,
        tokens_out_high=out_high,
        train_tokens=train_tokens,
        build_calls=outlook.build_calls,
        usd_low=usd_low,
        usd_high=usd_high,
        seconds_low=None if seconds is None else seconds[0],
        seconds_high=None if seconds is None else seconds[1],
        time="" if seconds is None else in_minutes(*seconds),
        time_why="" if seconds is not None else _no_time(door),
        money="no price" if usd_low is None or usd_high is None else money_range(usd_low, usd_high),
    )


def _seconds(speed: Speed, tokens_in: int, tokens_out: int, train_tokens: int) -> float:
    """Seconds; a training token costs about three prompt tokens (one pass forward, about two back)."""
    return (tokens_in + 3 * train_tokens) / speed.prompt + tokens_out / speed.answer


def in_minutes(low: float, high: float) -> str:
    """A range of seconds for people."""
    return f"{low / 60:.1f}-{high / 60:.1f} min"


def _no_time(door: Door | None) -> str:
    if door is None or door.host is None:
        return "it is not measured here; tunewise check measures it"
    return f"the speed of {door.host} is not known before the first call"


def money_range(low: float, high: float) -> str:
    """A range of USD for people."""
    return f"{low:.4f}-{high:.4f}"
