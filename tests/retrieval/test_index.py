"""The index finds the same after it was saved, with vectors and without."""

import numpy as np
import pytest

from tunewise.errors import DataError, SettingError
from tunewise.retrieval import index as index_module
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever

CHUNKS = [
    Chunk("leave.md#carry-over", "leave.md", "Carry-over", "Five days move to the next year."),
    Chunk("travel.md#rail", "travel.md", "Rail", "Second class under three hours."),
    Chunk("sick.md", "sick.md", "", "Call your lead before nine."),
]


class Letters:
    """An encoder whose vectors count letters: near means the same letters."""

    name = "letters"

    def encode(self, texts):
        counts = np.array([[text.count(chr(97 + i)) + 1e-3 for i in range(26)] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def ids(chunks):
    return [chunk.id for chunk in chunks]


def test_words_ids_and_heads_are_searched():
    retriever = Retriever(CHUNKS)
    assert ids(retriever.search("who do I call?", 2)) == ["sick.md"]
    assert ids(retriever.search("rail", 1)) == ["travel.md#rail"]
    assert ids(retriever.search("leave", 1)) == ["leave.md#carry-over"]
    assert retriever.search("rail", 0) == ()
    assert retriever.search("zzz", 3) == ()


def test_with_vectors_even_a_query_without_a_shared_word_finds_something():
    retriever = Retriever(CHUNKS, Letters())
    found = retriever.search("callyourlead", 3)
    assert found[0].id == "sick.md"
    assert len(found) == 3


def test_a_saved_index_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "encoder_named", lambda name: Letters())
    for retriever, encoder in ((Retriever(CHUNKS), None), (Retriever(CHUNKS, Letters()), "letters")):
        retriever.save(tmp_path)
        loaded = Retriever.load(tmp_path, encoder)
        for query in ("days in the year", "rail hours", "lead", "qqq"):
            assert loaded.search(query, 3) == retriever.search(query, 3)


def test_an_index_whose_encoder_is_not_there_is_refused(tmp_path):
    Retriever(CHUNKS, Letters()).save(tmp_path)
    with pytest.raises(SettingError, match="made with the encoder letters"):
        Retriever.load(tmp_path, "letters")


def test_an_index_of_nothing_is_refused():
    with pytest.raises(DataError):
        Retriever([])
