"""Near-duplicate texts: all pairs with word 3-gram Jaccard >= 0.8, exactly."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tunewise.words import WORD

NEAR = 0.8  # Jaccard similarity of word 3-grams from which two texts are near-duplicates
SHINGLE = 3  # words
HEAVY_SHARE = 0.05  # a shingle in more than this share of the texts is multiplied dense
MAX_HEAVY = 1024  # columns of the dense part, 4 bytes per text each
BLOCK = 4_000_000  # pairs of texts looked at together, 8 bytes each


Shingles = frozenset[tuple[str, ...]]
Numbers = NDArray[np.int64]
Similarities = NDArray[np.float64]


def normalised(text: str) -> str:
    """NFKC, case folded, words separated by single spaces, all else dropped.

    A text without any word keeps its characters, so that "?" and "!" differ.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(WORD.findall(folded)) or " ".join(folded.split())


def shingles(text: str) -> Shingles:
    """The set of word 3-grams of a normalised text; shorter texts are one shingle, the whole."""
    words = text.split(" ")
    if len(words) < SHINGLE:
        return frozenset({tuple(words)})
    return frozenset(zip(*(words[start:] for start in range(SHINGLE)), strict=False))


def near_to(texts: Sequence[Shingles], others: Sequence[Shingles]) -> Iterator[tuple[Numbers, Similarities]]:
    """For each text, in order, the numbers of the others with Jaccard >= 0.8, and the similarities.

    Jaccard is |A and B| / |A or B|, here always defined, since sets of shingles are never empty. Exact:
    |A and B| is counted for all pairs that share a shingle, as the product of two 0/1 matrices (texts by
    shingles), a block of texts at a time. Shingles in few of the others are multiplied sparse, which is an
    inverted index; those in many (a preamble that all rows share) dense.
    """
    counts = Counter(shingle for other in others for shingle in other)
    ranked = [shingle for shingle, _ in counts.most_common()]  # the most frequent first
    heavy = sum(counts[shingle] > HEAVY_SHARE * len(others) for shingle in ranked[:MAX_HEAVY])
    column = {shingle: number for number, shingle in enumerate(ranked)}
    left, right = _incidence(texts, column), _incidence(others, column)
    sizes = np.array([len(text) for text in texts])
    other_sizes = np.array([len(other) for other in others])
    light_left, light_right = left[:, heavy:].tocsr(), right[:, heavy:].T.tocsr()
    heavy_right = right[:, :heavy].toarray().T
    step = max(1, BLOCK // max(1, len(others)))
    for start in range(0, len(texts), step):
        block = slice(start, start + step)
        common = light_left[block] @ light_right
        if heavy:
            common = common.toarray() + left[block, :heavy].toarray() @ heavy_right
        yield from _near_in(common, sizes[block], other_sizes)


def _incidence(texts: Sequence[Shingles], column: Mapping[tuple[str, ...], int]) -> sparse.csr_array:
    """The 0/1 matrix texts x shingles; shingles without a column are left out."""
    columns = [sorted(column[shingle] for shingle in text if shingle in column) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(row) for row in columns]))).astype(np.int64)
    flat = np.fromiter((number for row in columns for number in row), dtype=np.int64, count=int(starts[-1]))
    return sparse.csr_array((np.ones(len(flat), np.float32), flat, starts), shape=(len(texts), len(column)))


def _near_in(common: Any, sizes: Numbers, other_sizes: Numbers) -> Iterator[tuple[Numbers, Similarities]]:
    """One answer per row of ``common``, the shared shingles (dense, or sparse where most are 0)."""
    if sparse.issparse(common):
        common.sort_indices()
        for row in range(common.shape[0]):
            held = slice(common.indptr[row], common.indptr[row + 1])
            numbers, shared = common.indices[held].astype(np.int64), common.data[held].astype(np.int64)
            similar = shared / (sizes[row] + other_sizes[numbers] - shared)
            yield numbers[similar >= NEAR], similar[similar >= NEAR]
    else:
        for row in range(common.shape[0]):
            shared = common[row].astype(np.int64)
            similar = shared / (sizes[row] + other_sizes - shared)
            yield np.flatnonzero(similar >= NEAR), similar[similar >= NEAR]
