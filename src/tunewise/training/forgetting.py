"""Causes of forgetting that the settings and the data show before a step is made.

None proves that a model will forget; each is known to go with it. What was forgotten is measured elsewhere.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunewise.training.mixing import Mix
from tunewise.training.recipe import Recipe

MOST_EPOCHS = (
    5  # assumed: two to three passes are usual (``training.recipe``), and loss on the data still falls
)
RATE_FACTOR = 10  # assumed: ten times the method's default
# Outputs with less variety are called narrow. Set between what was measured on the first 400 outputs of
# public data: general instructions 0.72 of pairs distinct and 10.6 bits, clinical notes 0.69 and 9.6,
# policy answers 0.63 and 9.1, Shakespeare 0.83 and 8.4; E2E objects 0.02 and 5.5, intents (one word each)
# 1.6 bits.
FEWEST_DISTINCT = 0.20
LEAST_ENTROPY = 7.0


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause with its value, and what to do about it."""

    cause: str
    value: float | str
    says: str


def causes(recipe: Recipe, default_rate: float, answers: Sequence[str], mix: Mix | None) -> list[Cause]:
    """The causes that hold for a run, in no order of weight; empty when none does."""
    found = []
    if recipe.epochs > MOST_EPOCHS:
        says = f"{recipe.epochs:g} epochs, more than {MOST_EPOCHS}: fewer passes, or more rows"
        found.append(Cause("epochs", recipe.epochs, says))
    if recipe.learning_rate > RATE_FACTOR * default_rate:
        says = (
            f"learning rate {recipe.learning_rate:g}, more than {RATE_FACTOR} x the default of "
            f"{recipe.method} ({default_rate:g})"
        )
        found.append(Cause("learning_rate", recipe.learning_rate, says))
    distinct, entropy = distinct_bigrams(answers), word_entropy(answers)
    if distinct is not None and distinct < FEWEST_DISTINCT:
        says = f"narrow outputs: {distinct:.3f} of their word pairs are distinct (below {FEWEST_DISTINCT:g})"
        found.append(Cause("distinct_bigrams", round(distinct, 4), says))
    if entropy is not None and entropy < LEAST_ENTROPY:
        says = f"narrow outputs: their words carry {entropy:.1f} bits of entropy (below {LEAST_ENTROPY:g})"
        found.append(Cause("output_entropy", round(entropy, 3), says))
    if recipe.weight_decay == 0:
        found.append(Cause("weight_decay", 0.0, "no weight decay: nothing pulls trained weights back"))
    if mix is None or not mix.general:
        says = "no general data mixed in: name some under training.mix.general (30 % is a usual share)"
        found.append(Cause("mix", 0.0, says))
    return found


def distinct_bigrams(texts: Sequence[str]) -> float | None:
    """Distinct word pairs over all word pairs, in (0, 1] (distinct-2: Li et al., "A Diversity-Promoting
    Objective Function for Neural Conversation Models", NAACL 2016, section 5.3). None without a pair.
    """
    pairs = [pair for text in texts for pair in pairwise(text.split())]
    return len(set(pairs)) / len(pairs) if pairs else None


def word_entropy(texts: Sequence[str]) -> float | None:
    """Shannon entropy of the words of all texts, in bits per word. None without a word."""
    counts = Counter(word for text in texts for word in text.split())
    total = sum(counts.values())
    if not total:
        return None
    return -sum(count / total * math.log2(count / total) for count in counts.values())
