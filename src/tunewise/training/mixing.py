"""General data mixed into training: how many rows, which ones, and in which order.

Training on a narrow task moves a model away from what it could do; rows of general instructions among those
of the task hold it back (rehearsal: Scialom et al., "Fine-tuned Language Models are Continual Learners",
EMNLP 2022; Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
TMLR 2024).
"""

import math
import random
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Mix:
    """The arithmetic of one pass over the task's rows.

    task: rows of the task. general: general rows beside them in each pass. pool: general rows there are.
    share: what was asked for. passes: passes over the task's rows.
    """

    task: int
    general: int
    pool: int
    share: float
    passes: float

    @property
    def total(self) -> int:
        """Rows of one pass."""
        return self.task + self.general

    @property
    def effective(self) -> float:
        """The share of general rows that results; undefined, so never asked, without rows."""
        return self.general / self.total

    @property
    def draws(self) -> int:
        """General rows drawn over the whole run."""
        return math.ceil(self.general * self.passes)

    def in_words(self) -> str:
        """The arithmetic and how general rows are drawn, for the reader."""
        again = self.draws - self.pool
        said = (
            f"mixing: {self.task:,} task rows + {self.general:,} general rows = {self.total:,} in each pass, "
            f"{self.effective:.1%} general (asked for {self.share:.1%})"
        )
        if again <= 0:
            return f"{said}; {self.draws:,} general rows are drawn from {self.pool:,}, none twice"
        return (
            f"{said}; {self.draws:,} are drawn, but there are only {self.pool:,}: each once without "
            f"replacement, then {again:,} more with replacement"
        )


def plan_mix(task: int, pool: int, share: float, passes: float) -> Mix:
    """How many general rows stand beside ``task`` rows so that they make up ``share`` of all: rounded down.

    5,000 rows at a share of 0.30 take 5,000 * 0.30 / 0.70 = 2,142 general ones, 7,142 in all. Raises
    ValueError for a share outside [0, 1), and for an empty pool with a share above 0.
    """
    if not 0 <= share < 1:
        raise ValueError(f"a share in [0, 1) was expected, got {share}")
    if share and not pool:
        raise ValueError("a share of general rows was asked for, and there are none")
    exact = Fraction(str(share))  # 0.1 as a tenth: binary rounding would take a row away
    return Mix(task, math.floor(task * exact / (1 - exact)), pool, share, passes)


def order(mix: Mix, seed: int, epoch: int) -> list[int]:
    """The rows of one pass: 0 .. task - 1 are the task's, task .. task + pool - 1 the general ones.

    The task's rows come in a new random order in each pass. General rows stand among them as evenly as
    whole rows allow, so that every window of w rows holds w * share of them, give or take one: what holds
    on average over a run also holds in each window of 100 steps. They are drawn without replacement until
    all were used, then with replacement.
    """
    task = list(range(mix.task))
    random.Random(f"{seed} task {epoch}").shuffle(task)
    general = drawn(mix, seed, epoch)
    phase = random.Random(f"{seed} phase {epoch}").random()
    marks = [math.floor(place * mix.general / mix.total + phase) for place in range(mix.total + 1)]
    rows, others = iter(task), iter(general)
    return [next(others) if after > before else next(rows) for before, after in pairwise(marks)]


def drawn(mix: Mix, seed: int, epoch: int) -> list[int]:
    """The general rows of one pass, as places after the task's."""
    first = list(range(mix.task, mix.task + mix.pool))
    random.Random(f"{seed} general").shuffle(first)
    start = epoch * mix.general
    fresh = first[start : start + mix.general]
    again = random.Random(f"{seed} again {epoch}")
    return fresh + [again.choice(first) for _ in range(mix.general - len(fresh))]
