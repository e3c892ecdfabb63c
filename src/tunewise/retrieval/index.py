"""The index a candidate carries: chunks, BM25 over them, and vectors where an encoder was there."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from tunewise.errors import DataError
from tunewise.retrieval.bm25 import BM25Index
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.dense import Encoder, dense_ranking, encoder_named
from tunewise.retrieval.fusion import reciprocal_rank_fusion

DEPTH = 50  # how far down each ranking is read before fusing; no more than this are ever found
REMEMBERED = 4096  # queries whose ranking is kept


class Retriever:
    """Finds the chunks for a query: BM25 alone, or fused with dense vectors when an encoder is given."""

    def __init__(
        self, chunks: Sequence[Chunk], encoder: Encoder | None = None, vectors: np.ndarray | None = None
    ) -> None:
        if not chunks:
            raise DataError("an index needs at least one chunk; the documents hold no text")
        self.chunks = tuple(chunks)
        self.encoder = encoder
        self._bm25 = BM25Index([chunk.searched for chunk in self.chunks])
        self._vectors = vectors
        # one query is asked many times while prompts are chosen, and encoding it costs 10 ms
        self._ranked = lru_cache(maxsize=REMEMBERED)(self._rank)
        if encoder is not None and vectors is None:
            self._vectors = encoder.encode([chunk.shown for chunk in self.chunks])

    @property
    def method(self) -> str:
        """How it ranks, in words for the report."""
        return "bm25" if self.encoder is None else f"bm25 + {self.encoder.name}, fused by reciprocal rank"

    def without_vectors(self) -> "Retriever":
        """The same chunks by BM25 alone."""
        return Retriever(self.chunks)

    def search(self, query: str, k: int) -> tuple[Chunk, ...]:
        """Up to ``k`` chunks, best first: without vectors only such as share a word with the query."""
        return tuple(self.chunks[place] for place in self._ranked(query)[: max(0, k)])

    def _rank(self, query: str) -> tuple[int, ...]:
        places = self._bm25.ranking(query, DEPTH)
        if self.encoder is not None and self._vectors is not None:
            near = dense_ranking(self._vectors, self.encoder.encode([query])[0], DEPTH)
            places = [place for place, _ in reciprocal_rank_fusion([places, near])]
        return tuple(places)

    def save(self, folder: Path) -> None:
        """Write chunks.jsonl and, with an encoder, vectors.npy."""
        lines = [json.dumps(asdict(chunk), ensure_ascii=False) for chunk in self.chunks]
        (folder / "chunks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if self._vectors is not None:
            np.save(folder / "vectors.npy", self._vectors)

    @classmethod
    def load(cls, folder: Path, encoder: str | None) -> "Retriever":
        """The index as it was saved. Raises SettingError when its encoder is not installed."""
        text = (folder / "chunks.jsonl").read_text(encoding="utf-8")
        chunks = [Chunk(**json.loads(line)) for line in text.split("\n") if line]
        if encoder is None:
            return cls(chunks)
        return cls(chunks, encoder_named(encoder), np.load(folder / "vectors.npy"))
