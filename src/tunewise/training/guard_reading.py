"""Items -> right or wrong with a model in training, and what two models' answers say beside each other."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tunewise.benchmarks.comparison import compare_rights
from tunewise.benchmarks.encode import encode
from tunewise.benchmarks.figures import UNDEFINED, ratio, share
from tunewise.benchmarks.item import Benchmark
from tunewise.benchmarks.kept import KeptScores, Value
from tunewise.benchmarks.scores import Scored, at_chance, chance, rights, scored
from tunewise.models.token_trees import Question
from tunewise.training.guard_items import Asked

PART = 100  # items of the base that are read before they are kept


@dataclass(frozen=True, slots=True)
class Read:
    """One item: right (0 or 1), and the probability of the right ending among the endings (None: a word)."""

    right: int
    gold: float | None


def as_read(benchmark: Benchmark, item: Scored) -> Read:
    """A scored item as the guard counts it: the benchmark's main figure."""
    gold = item.gold_probability if benchmark.kind == "choice" else None
    return Read(rights(benchmark, [item])[benchmark.main][0], gold)


class LiveReader:
    """Reads items with a model that is being trained, and leaves it as it was.

    Weights, gradients, attention, mode and the states of all random generators are those of before.
    """

    def __init__(
        self, model: Any, tokenizer: Any, window: int | None, benchmarks: Sequence[Benchmark]
    ) -> None:
        from tunewise.models.tree_scoring import scorer_for

        self.model, self.tokenizer, self.window, self.benchmarks = model, tokenizer, window, benchmarks
        with untouched(model):
            self._scorer = scorer_for(model, pack=False)
        self.tokens = 0  # read so far, shared contexts once

    def read(
        self, asked: Sequence[Asked], kept: KeptScores | None = None, *, find: bool = True
    ) -> list[Read]:
        """One Read per item, in order.

        kept: where readings of this very model are left, a part at a time; find: and looked up before.
        """
        encoded = encode(self.tokenizer, [one.item for one in asked], self.window)
        values = self._values(encoded.questions, kept, find)
        found = []
        for one, question, value in zip(asked, encoded.questions, values, strict=True):
            endings = sum(len(s) - f for s, f in zip(question.sequences, question.firsts, strict=True))
            self.tokens += question.firsts[0] + endings
            found.append(as_read(self.benchmarks[one.benchmark], scored(one.item, *value, endings)))
        return found

    def _values(self, questions: Sequence[Question], kept: KeptScores | None, find: bool) -> list[Value]:
        """Log-probabilities and first choices of each question, computed where they are not known."""
        known: dict[int, Value] = kept.find(questions) if kept is not None and find else {}
        missing = [number for number in range(len(questions)) if number not in known]
        size = len(missing) if kept is None else PART
        for begin in range(0, len(missing), max(1, size)):
            some = missing[begin : begin + size]
            asked = [questions[number] for number in some]
            with untouched(self.model):
                readings = self._scorer.read(asked)
            values = [(reading.logprobs, reading.greedy) for reading in readings]
            if kept is not None:
                kept.keep(asked, values)
            known |= dict(zip(some, values, strict=True))
        return [known[number] for number in range(len(questions))]


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """The model ready to be read, with its own layers; afterwards all is as before, random generators too."""
    import numpy
    import torch

    from tunewise.training import lean

    modes = [(module, module.training) for module in model.modules()]
    python, array = random.getstate(), numpy.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)), lean.suspended(model):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            random.setstate(python)
            numpy.random.set_state(array)


def standing(
    benchmarks: Sequence[Benchmark], asked: Sequence[Asked], reads: Sequence[Read]
) -> list[dict[str, Any]]:
    """Each benchmark with the base's figure on these items, chance, and whether it can show a drop."""
    rows = []
    for place, benchmark in enumerate(benchmarks):
        items = [one.item for one in asked if one.benchmark == place]
        right = [read.right for one, read in zip(asked, reads, strict=True) if one.benchmark == place]
        figure, guessing = share(sum(right), len(right)), chance(benchmark, items)
        why = None
        if not right or sum(right) == 0:
            why = "the base has no item right"
        elif at_chance(figure, guessing):
            why = (
                f"the base is at chance: {figure.estimate:.2f} (between {figure.low:.2f} and "
                f"{figure.high:.2f}) against {guessing:.2f}"
            )
        rows.append(
            {"name": benchmark.name, "metric": benchmark.main, "n": len(right), "base": figure.to_json(),
             "chance": guessing, "used": why is None, "why": why}
        )  # fmt: skip
    return rows


def beside(
    benchmarks: Sequence[Benchmark], asked: Sequence[Asked], base: Sequence[Read], tuned: Sequence[Read]
) -> list[dict[str, Any]]:
    """Per benchmark: both shares, the drop with Tango's 95 % interval, raw, relative and above chance."""
    rows = []
    for place, benchmark in enumerate(benchmarks):
        pairs = [(a, b) for one, a, b in zip(asked, base, tuned, strict=True) if one.benchmark == place]
        if not pairs:
            continue
        guessing = chance(benchmark, [one.item for one in asked if one.benchmark == place])
        one, other = [a.right for a, _ in pairs], [b.right for _, b in pairs]
        guesses = at_chance(share(sum(one), len(one)), guessing)
        said = compare_rights(benchmark.name, benchmark.main, one, other, guessing, guesses).to_json()
        kept = (
            "name",
            "metric",
            "n",
            "first",
            "second",
            "lost",
            "gained",
            "drop",
            "relative",
            "above_chance",
        )
        rows.append({name: said[name] for name in kept})
    return rows


def early_warning(base: Sequence[Read], tuned: Sequence[Read]) -> dict[str, Any]:
    """Loss of the right ending's mean probability, with a 95 % interval: moves first, decides nothing.

    warns: the interval lies above nothing lost. Undefined without items of choices.
    """
    lost = [
        a.gold - b.gold for a, b in zip(base, tuned, strict=True) if a.gold is not None and b.gold is not None
    ]
    figure = ratio(lost, [1.0] * len(lost)) if lost else UNDEFINED
    return {**figure.to_json(), "warns": figure.low is not None and figure.low > 0}
