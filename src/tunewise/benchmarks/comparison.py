"""Two models on the same items: what the second lost, paired, with intervals. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewise.benchmarks.figures import (
    UNDEFINED,
    Figure,
    drop_above,
    paired_difference,
    ratio,
    smallest_visible_drop,
    wider,
)
from tunewise.benchmarks.item import Benchmark
from tunewise.benchmarks.scores import Scored, rights


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the second model lost against the first on one benchmark.

    lost, gained: items that only the first, only the second, has right. drop: share of items, first minus
    second (Tango's interval). relative: drop over the first's share of right answers on these items;
    above_chance: drop over what the first has above guessing. Both undefined, with ``why``, where their
    divisor is not above zero. Of running text drop is what the second needs more, in bits per byte, so that
    negative is better everywhere. early: loss of the right ending's probability among the endings, a signal
    that moves before answers change. visible: smallest true relative drop above 5 % that so many items show
    in nine of ten cases.
    """

    name: str
    metric: str
    n: int
    first: float | None
    second: float | None
    lost: int | None
    gained: int | None
    drop: Figure
    relative: Figure
    above_chance: Figure
    why: str | None
    early: Figure
    visible: float | None

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        body: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {k: v.to_json() if isinstance(v, Figure) else v for k, v in body.items()}


def compare(
    benchmark: Benchmark,
    first: Sequence[Any],
    second: Sequence[Any],
    guessing: float | None,
    guesses: bool,
) -> Comparison:
    """The second model against the first on the same items in the same order.

    guessing: share of right answers by chance, None where nothing can be guessed. guesses: the first is at
    chance.
    """
    if [item.id for item in first] != [item.id for item in second]:
        raise ValueError("a paired comparison needs the same items in the same order")
    if benchmark.kind == "text":
        return compare_text(benchmark, first, second)
    one, other = rights(benchmark, first)[benchmark.main], rights(benchmark, second)[benchmark.main]
    early = UNDEFINED
    if benchmark.kind == "choice":
        pairs = zip(first, second, strict=True)
        early = ratio([a.gold_probability - b.gold_probability for a, b in pairs], [1.0] * len(first))
    return compare_rights(benchmark.name, benchmark.main, one, other, guessing, guesses, early)


def compare_rights(
    name: str,
    metric: str,
    one: Sequence[int],
    other: Sequence[int],
    guessing: float | None = None,
    guesses: bool = False,
    early: Figure = UNDEFINED,
) -> Comparison:
    """0/1 outcomes of two models on the same items."""
    n = len(one)
    lost = sum(a > b for a, b in zip(one, other, strict=True))
    gained = sum(a < b for a, b in zip(one, other, strict=True))
    drop = paired_difference(lost, gained, n)
    share = sum(one) / n if n else None
    relative = at_most_all(drop.over(share)) if share else UNDEFINED
    floor = guessing or 0.0
    both = sum(a and b for a, b in zip(one, other, strict=True))
    above = UNDEFINED
    if share is not None and share > floor and not guesses:
        above = wider(drop_above(both, lost, gained, n, floor), drop.over(share - floor))
    why = None
    if share is None:
        why = "no item was answered by both"
    elif share <= 0:
        why = "the first model has no item right"
    elif above is UNDEFINED:
        why = f"the first model is not above chance ({floor:.2f}) on these items"
    churn = max(gained / n, 0.01) if n else 0.03
    visible = smallest_visible_drop(n, share, churn) if share is not None else None
    second = sum(other) / n if n else None
    return Comparison(
        name, metric, n, share, second, lost, gained, drop, relative, above, why, early, visible
    )


def at_most_all(relative: Figure) -> Figure:
    """A relative drop whose interval ends at 1: no more can be lost than there was."""
    high = relative.high
    return Figure(relative.estimate, relative.low, None if high is None else min(1.0, high))


def compare_text(benchmark: Benchmark, first: Sequence[Scored], second: Sequence[Scored]) -> Comparison:
    """Bits per byte of two models on the same passages; what the second needs more is its ``drop``."""
    sizes = [item.bytes * 0.6931471805599453 for item in first]
    nats = [(-sum(a.logprobs), -sum(b.logprobs)) for a, b in zip(first, second, strict=True)]
    before, after = ratio([a for a, _ in nats], sizes), ratio([b for _, b in nats], sizes)
    drop = ratio([b - a for a, b in nats], sizes)
    relative = drop.over(before.estimate) if before.estimate else UNDEFINED
    return Comparison(
        name=benchmark.name,
        metric="bits_per_byte",
        n=len(first),
        first=before.estimate,
        second=after.estimate,
        lost=None,
        gained=None,
        drop=drop,
        relative=relative,
        above_chance=UNDEFINED,
        why="running text has no chance level",
        early=UNDEFINED,
        visible=None,
    )


def pooled(outcomes: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> Comparison | None:
    """All 0/1 items of all benchmarks as one: every item counts the same. None without any."""
    one = [value for first, _ in outcomes.values() for value in first]
    other = [value for _, second in outcomes.values() for value in second]
    if not one:
        return None
    why = "benchmarks have chance levels of their own"
    return replace(
        compare_rights("pooled", "main figure of each", one, other), above_chance=UNDEFINED, why=why
    )
