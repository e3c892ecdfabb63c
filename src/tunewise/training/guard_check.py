"""What is handed over against its base, both as they are served: the check on set B, scales on set A."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewise.benchmarks.guard_test import FEWEST, GuardTest
from tunewise.benchmarks.item import Item
from tunewise.benchmarks.scorer import LocalScorer
from tunewise.training.guard_items import Asked, GuardItems
from tunewise.training.guard_reading import Read, as_read, beside
from tunewise.training.methods import Method


class Served:
    """Base and tuned models read from their folders, the base once for each set of items."""

    def __init__(self, base: Path, method: Method, items: GuardItems, max_relative_drop: float) -> None:
        self.base, self.method, self.items = base, method, items
        self.max_relative_drop = max_relative_drop

    def compare(self, tuned: Path, asked: Sequence[Asked], readings: int = 1) -> dict[str, Any]:
        """The paired test of ``tuned`` against its base on all these items; outcome None with too few.

        readings: how many models are compared in this way; they share the budget for false alarms.
        """
        if len(asked) < FEWEST:
            return {"outcome": None, "n": len(asked), "why": f"{len(asked)} items, the test takes {FEWEST}"}
        one = self.read(None, asked)
        other = self.read(tuned, asked)
        test = GuardTest(len(asked), readings, self.max_relative_drop, look_at=(1.0,))
        reading = test.read([read.right for read in one], [read.right for read in other])
        return {**reading.to_json(), "benchmarks": beside(self.items.benchmarks, asked, one, other)}

    def text_bits(self, passages: Sequence[Item], tuned: Path) -> list[tuple[float, float]]:
        """Bits per byte of each passage of running text under the base and under ``tuned``."""
        both = []
        for folder in (None, tuned):
            scorer = self.scorer(folder)
            try:
                found = scorer.score(passages).items
            finally:
                scorer.close()
            both.append([-sum(one.logprobs) / math.log(2) / one.bytes for one in found])
        return list(zip(*both, strict=True))

    def scorer(self, tuned: Path | None) -> LocalScorer:
        """What reads a model; None is the base, whose scores are kept in the user's cache folder."""
        if tuned is not None and self.method == "full":
            return LocalScorer(tuned, None, keep=False)
        return LocalScorer(self.base, tuned, keep=tuned is None)

    def read(self, tuned: Path | None, asked: Sequence[Asked]) -> list[Read]:
        """One Read per item; None is the base."""
        scorer = self.scorer(tuned)
        try:
            found = scorer.score([one.item for one in asked]).items
        finally:
            scorer.close()
        benchmarks = self.items.benchmarks
        return [as_read(benchmarks[one.benchmark], item) for one, item in zip(asked, found, strict=True)]
