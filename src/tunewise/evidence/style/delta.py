"""Burrows's Delta: how far apart two bodies of text are in their most frequent words."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from tunewise.evidence.style.masking import words

FEWEST_WORDS = 2000  # a side
CHUNK = 500  # words; frequencies vary from chunk to chunk, which is the unit of distance
MOST_FREQUENT = 150


def burrows_delta(reference: Sequence[str], base: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    """Distances to the reference: of the outputs, of the base, and of the reference's halves to each other.

    Delta(A, B) = mean over the 150 most frequent words of reference and base of |z_A - z_B|, z the
    relative frequency in units of its standard deviation over 500-word chunks of reference and base
    (Burrows, "Delta: a measure of stylistic difference", LLC 17(3), 2002, p. 271; the chunks stand for
    his corpus of authors). Halves are alternate chunks. Each is None with ``why`` below 2,000 words a side.
    """
    sides = [list(chain.from_iterable(words(text) for text in side)) for side in (reference, base, outputs)]
    counts = dict(zip(("reference", "base", "outputs"), map(len, sides), strict=True))
    for side in ("reference", "base"):
        if counts[side] < FEWEST_WORDS:
            why = f"{counts[side]} words of {side} texts; it takes {FEWEST_WORDS}"
            return {"outputs": None, "base": None, "reference_halves": None, "why": why}
    chunks = [*_chunks(sides[0]), *_chunks(sides[1])]
    frequent = [w for w, _ in Counter(chain(sides[0], sides[1])).most_common(MOST_FREQUENT)]
    table = np.array([_frequencies(chunk, frequent) for chunk in chunks])
    spread = table.std(axis=0, ddof=1)
    varies = spread > 0

    def distance(one: Sequence[str], other: Sequence[str]) -> float:
        apart = np.array(_frequencies(one, frequent)) - np.array(_frequencies(other, frequent))
        return float(np.mean(np.abs(apart[varies]) / spread[varies]))

    own = _chunks(sides[0])
    halves = [list(chain.from_iterable(own[start::2])) for start in (0, 1)]
    found: dict[str, Any] = {
        "outputs": distance(sides[2], sides[0]) if counts["outputs"] >= FEWEST_WORDS else None,
        "base": distance(sides[1], sides[0]),
        "reference_halves": distance(*halves),
    }
    if found["outputs"] is None:
        found["why"] = f"{counts['outputs']} words of outputs; it takes {FEWEST_WORDS}"
    return found


def _chunks(text: Sequence[str]) -> list[Sequence[str]]:
    """Whole chunks; a rest is left out."""
    return [text[start : start + CHUNK] for start in range(0, len(text) - CHUNK + 1, CHUNK)]


def _frequencies(text: Sequence[str], frequent: Sequence[str]) -> list[float]:
    counted = Counter(text)
    return [counted[word] / len(text) for word in frequent]
