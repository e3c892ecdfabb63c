"""What no model at all would score: the majority answer, and the answer of the most similar train row."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags

from tunewise.data import Example
from tunewise.evidence.records import Score

WORD = re.compile(r"\w+")
ROWS_AT_ONCE = 256


def baselines(
    train: Sequence[Example], certification: Sequence[Example], score: Callable[[Example, str], Score]
) -> dict[str, dict[str, Any]]:
    """Mean score on the certification items of two answers that need no model, JSON-able.

    ``majority``: always the most frequent train answer (the earliest where several are).
    ``nearest``: the answer of the train row whose input is most similar (cosine of tf-idf over words,
    the earliest where several are). Each has ``quality`` (in [0, 1]) and ``n``, or, where there are no
    rows to take an answer from or to score, ``quality`` None and ``why``.
    """
    if not train or not certification:
        why = "no train rows" if not train else "no certification items"
        nothing = {"quality": None, "n": 0, "why": why}
        return {"majority": dict(nothing), "nearest": dict(nothing)}
    common = Counter(example.answer for example in train).most_common(1)[0][0]
    nearest = nearest_rows([e.input for e in train], [e.input for e in certification])
    return {
        "majority": {**_mean([score(e, common) for e in certification]), "answer": common},
        "nearest": _mean([score(e, train[i].answer) for e, i in zip(certification, nearest, strict=True)]),
    }


def nearest_rows(texts: Sequence[str], queries: Sequence[str]) -> list[int]:
    """For each query, the place of the most similar text: cosine of tf-idf vectors over lower-case words.

    idf = ln((1 + N) / (1 + df)) + 1 over the N texts (after Salton & Buckley 1988, smoothed); words that no
    text has are left out. A query without a known word gets the first text.
    """
    places: dict[str, int] = {}
    for text in texts:
        for word in WORD.findall(text.casefold()):
            places.setdefault(word, len(places))
    counts = _counts(texts, places)
    containing = np.asarray((counts > 0).sum(axis=0)).ravel()
    weight = diags(np.log((1 + len(texts)) / (1 + containing)) + 1)
    known, asked = _unit_rows(counts @ weight), _unit_rows(_counts(queries, places) @ weight)
    found: list[int] = []
    for first in range(0, len(queries), ROWS_AT_ONCE):
        likeness = (asked[first : first + ROWS_AT_ONCE] @ known.T).toarray()
        found += [int(place) for place in np.round(likeness, 12).argmax(axis=1)]
    return found


def _counts(texts: Sequence[str], places: dict[str, int]) -> Any:
    """Texts by words: how often each known word stands in each text."""
    rows, columns, values = [], [], []
    for row, text in enumerate(texts):
        counted = Counter(places[word] for word in WORD.findall(text.casefold()) if word in places)
        rows += [row] * len(counted)
        columns += list(counted)
        values += list(counted.values())
    return csr_matrix((np.array(values, float), (rows, columns)), shape=(len(texts), max(len(places), 1)))


def _unit_rows(matrix: Any) -> Any:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return diags(1 / np.where(lengths > 0, lengths, 1)) @ matrix


def _mean(scores: Sequence[Score]) -> dict[str, Any]:
    values = [score.value for score in scores if score.value is not None]
    if not values:
        return {"quality": None, "n": 0, "why": "no answer could be scored"}
    return {"quality": sum(values) / len(values), "n": len(values)}
