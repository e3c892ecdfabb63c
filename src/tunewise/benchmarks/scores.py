"""From readings to what is counted: picks, right answers, figures. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.benchmarks.figures import Figure, ratio, share
from tunewise.benchmarks.following import following_figures
from tunewise.benchmarks.item import Benchmark, Item

LARGEST_EXPONENT = 700.0  # of e, just below the largest float


@dataclass(frozen=True, slots=True)
class Scored:
    """One item with what the model thinks of it.

    logprobs: of each ending (natural logarithm, summed over its tokens); of a text, of all its windows.
    greedy: whether every token of the ending was the model's first choice. lengths: characters.
    """

    id: str
    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    lengths: tuple[int, ...]
    gold: int
    bytes: int = 0
    tokens: int = 0

    @property
    def pick(self) -> int:
        """The ending with the highest log-probability, the first of equals."""
        return first_best(self.logprobs)

    @property
    def pick_norm(self) -> int:
        """The same per character of the ending."""
        return first_best(
            [logprob / length for logprob, length in zip(self.logprobs, self.lengths, strict=True)]
        )

    @property
    def gold_probability(self) -> float:
        """Probability of the right ending among the endings: moves before picks do, never decides."""
        best = max(self.logprobs)
        weights = [math.exp(logprob - best) for logprob in self.logprobs]
        return weights[self.gold] / sum(weights)


def first_best(values: Sequence[float]) -> int:
    """Place of the largest value, the first of equals (as numpy's argmax)."""
    return max(range(len(values)), key=values.__getitem__)


def scored(item: Item, logprobs: Sequence[float], greedy: Sequence[bool], tokens: int) -> Scored:
    """An item joined with its reading; ``tokens`` counts the scored ones."""
    size = len(item.endings[0].encode()) if not item.context else 0
    return Scored(item.id, tuple(logprobs), tuple(greedy), item.lengths, item.gold, size, tokens)


def rights(benchmark: Benchmark, items: Sequence[Any]) -> dict[str, list[int]]:
    """0 or 1 per item, for each thing that is counted: ``acc`` and, where customary, ``acc_norm``."""
    if benchmark.kind == "instructions":
        return {"prompts_followed": [int(all(item.strict)) for item in items]}
    if benchmark.kind == "word":
        return {"acc": [int(item.greedy[0]) for item in items]}
    if benchmark.kind == "choice":
        found = {"acc": [int(item.pick == item.gold) for item in items]}
        if benchmark.main == "acc_norm":
            found["acc_norm"] = [int(item.pick_norm == item.gold) for item in items]
        return found
    return {}


def figures(benchmark: Benchmark, items: Sequence[Any]) -> dict[str, Figure]:
    """Every figure of a benchmark with its interval, by name, the main one first."""
    if benchmark.kind == "instructions":
        return following_figures(items)
    found = {name: share(sum(values), len(values)) for name, values in rights(benchmark, items).items()}
    if benchmark.kind == "word":
        found["perplexity"] = exponential(ratio([-item.logprobs[0] for item in items], [1.0] * len(items)))
    if benchmark.kind == "choice":
        found["gold_probability"] = ratio([item.gold_probability for item in items], [1.0] * len(items))
    if benchmark.kind == "text":
        nats = [-sum(item.logprobs) for item in items]
        found["bits_per_byte"] = ratio(nats, [float(item.bytes) for item in items]).over(math.log(2))
        found["token_perplexity"] = exponential(ratio(nats, [float(item.tokens) for item in items]))
    return dict(sorted(found.items(), key=lambda pair: pair[0] != benchmark.main))


def exponential(figure: Figure) -> Figure:
    """A figure on the logarithm's scale, back on its own; undefined beyond what a float can hold."""
    numbers = (figure.estimate, figure.low, figure.high)
    return Figure(*(None if x is None or x > LARGEST_EXPONENT else math.exp(x) for x in numbers))


def chance(benchmark: Benchmark, items: Sequence[Item]) -> float | None:
    """What answering without reading gives; None where nothing can be guessed.

    Where every item offers the same endings (letters, yes and no), the share of the commonest right one,
    since a model that always says the same reaches it; elsewhere the mean of 1 / number of endings.
    """
    if benchmark.kind != "choice" or not items:
        return None
    if len({item.endings for item in items}) == 1:
        golds = [item.gold for item in items]
        return max(golds.count(gold) for gold in set(golds)) / len(golds)
    return sum(1 / len(item.endings) for item in items) / len(items)


def at_chance(main: Figure, guessing: float | None) -> bool:
    """True when the interval does not exclude that the model only guesses."""
    return guessing is not None and main.low is not None and main.low <= guessing


def to_json(item: Scored) -> dict[str, Any]:
    """One item for a file."""
    return {"id": item.id, "logprobs": list(item.logprobs), "greedy": list(item.greedy), "gold": item.gold}
