"""Ranking texts by shared words: BM25 as in Lucene, computed by bm25s.

    score(q, d) = sum over tokens t of q of  idf(t) * tf / (tf + k1 * (1 - b + b * |d| / mean |d|))
    idf(t)      = ln(1 + (N - df + 0.5) / (df + 0.5))

with k1 = 1.5 and b = 0.75 (Kamphuis et al., "Which BM25 Do You Mean?", ECIR 2020, table 1, row Lucene, whose
constant factor k1 + 1 bm25s leaves out: it does not change any ranking).
"""

import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunewise.words import WORD

K1 = 1.5
B = 0.75


def tokens_of(text: str) -> list[str]:
    """Words of a text for matching: NFKC, casefolded, runs of letters and digits, plural s taken off.

    Of scripts written without spaces each character is a word, as for near-duplicates.
    """
    return [_singular(word) for word in WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def _singular(word: str) -> str:
    """The S-stemmer: plural endings only (Harman, "How effective is suffixing?", JASIS 1991, table 1)."""
    if len(word) < 4 or not word.endswith("s") or word[-2] in "su":
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] in "aeo":
        return word
    return word[:-1]


def _bm25s() -> Any:
    """The library, imported when it is first needed (0.2 s), without JAX.

    Where JAX is installed bm25s starts it when it is imported, for a top-k that is not used here, and a JAX
    that starts takes three quarters of the GPU's memory, in which the weights had to find room.
    """
    if "bm25s" not in sys.modules:
        before = {"jax": sys.modules["jax"]} if "jax" in sys.modules else {}
        sys.modules["jax"] = None  # type: ignore[assignment]  # to import it fails, as where it is not installed
        try:
            import bm25s  # noqa: F401
        finally:
            del sys.modules["jax"]
            sys.modules.update(before)
    return sys.modules["bm25s"]


class BM25Index:
    """A fixed list of texts that can be ranked against a query."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        self._index: Any = None
        corpus = [tokens_of(text) for text in texts]
        if any(corpus):
            self._index = _bm25s().BM25(method="lucene", k1=K1, b=B, dtype="float64")
            self._index.index(corpus, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """Score of every text, shape (size,), 0 where no word is shared."""
        known = [] if self._index is None else self._index.get_tokens_ids(tokens_of(query))
        if not known:
            return np.zeros(self.size)
        scores: np.ndarray = self._index.get_scores_from_ids(known)
        return scores

    def ranking(self, query: str, limit: int | None = None) -> list[int]:
        """Places of the texts that share a word with the query, best first; equal scores in given order."""
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [int(place) for place in order if scores[place] > 0]
