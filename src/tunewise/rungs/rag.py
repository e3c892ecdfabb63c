"""Passages from the user's documents before each question; how many is chosen on the selection part."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from tunewise.data import Example, reference_text
from tunewise.errors import SettingError
from tunewise.retrieval.chunking import MAX_CHARS, Chunk, chunk_document
from tunewise.retrieval.dense import Encoder, find_encoder
from tunewise.retrieval.documents import ReadDocuments, read_documents
from tunewise.retrieval.fusion import recall_at
from tunewise.retrieval.index import Retriever
from tunewise.rungs.few_shot import drawn, usable
from tunewise.rungs.prompt import BYTES_PER_TOKEN, PromptCandidate, Shot, layout_of, query_of
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.said import plain
from tunewise.rungs.search import Arm, calls_of, choose, selection_items

# Passages of a prompt -> how many shots are tried with so many, each with as many passages of its own.
# 10 arms on 10 items, 5 on 12 more, 2 on 26 more: 212 calls. With the embedded model on a handbook, 1
# passage, 48 selection items, token F1: 0 shots 0.21, 3 shots 0.58, 6 shots 0.62, 9 shots 0.62.
PLAN = {1: (0, 3, 6), 2: (0, 3, 6), 3: (0, 3), 5: (0, 3)}
DRAWN = 60  # train rows that are looked at for shots
RECALL_DEPTHS = (1, 2, 3, 5, 10)
RECALL_ROWS = 300  # rows on which two ways of ranking are compared
GOLD_ITEMS = 30
SHORTEST_QUOTE = 12  # characters, Han and kana counted twice; a shorter one stands in many chunks by chance


class Rag:
    """Looks passages up for each input and puts them into the prompt."""

    name = "rag"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be documents. Raises DataError for some that cannot be read, before any call is made."""
        if bench.task.knowledge is None:
            return "the task names no documents (knowledge.documents)"
        read_documents(bench.task.knowledge.documents)
        return None

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung. The documents are not read: a passage counts as a quarter to the whole of the longest."""
        rows = len(bench.parts.train)
        arms = [(k, shots) for k, counts in PLAN.items() for shots in counts if shots <= rows]
        shown = [k * (1 + shots) for k, shots in arms]
        passage = MAX_CHARS // BYTES_PER_TOKEN
        return Outlook(
            calls_of(bench, len(arms)) + min(GOLD_ITEMS, len(bench.parts.selection)),
            shots=(0, max(shots for _, shots in arms)),
            passage_tokens=(min(shown) * passage // 4, max(shown) * passage),
        )

    def build(self, bench: Workbench) -> PromptCandidate:
        """See Rung. At most 242 calls on selection items. Raises DataError for a folder without text."""
        retriever, facts = indexed(bench)
        gold = GoldPassages(retriever)
        layout = layout_of(bench)
        arms = []
        for k, counts in PLAN.items():
            for shots in _shot_sets(bench, gold, k, counts):
                filled = replace(layout, passages=k, shots=shots)
                candidate = PromptCandidate(self.name, bench.door, filled, retriever=retriever)
                arms.append(Arm({"k": k, "shots": len(shots)}, candidate))
        found = choose(bench, self.name, arms)
        measured = _with_gold(bench, found, gold)
        return found.with_facts(**facts, **_recall_facts(bench, gold), **measured)


def indexed(bench: Workbench) -> tuple[Retriever, dict[str, Any]]:
    """The index over the task's documents, and facts about it.

    Where an encoder is installed, BM25 alone and BM25 fused with vectors are compared by recall@3 on
    train and selection rows whose passage is known, and the better one is taken (a tie goes to BM25
    alone, the lighter); where no row's passage is known they are fused.
    """
    bench.progress.tell("building", rung=Rag.name, text="indexing the documents")
    read, chunks = chunks_of(bench)
    facts: dict[str, Any] = {"documents": len(read.documents), "chunks": len(chunks)}
    if read.ignored:
        facts["files_not_read"] = list(read.ignored)
        first = ", ".join(read.ignored[:5])
        bench.progress.tell("note", text=f"documents of other kinds are not read: {first}")
    plain = Retriever(chunks)
    encoder = find_encoder()
    fused = None if encoder is None else _with_vectors(bench, chunks, encoder)
    if fused is not None:
        alone, both = _recall_at_3(bench, plain), _recall_at_3(bench, fused)
        facts["recall_at_3_by_ranking"] = {plain.method: alone, fused.method: both}
        if alone is None or both is None or both > alone:
            plain = fused
    facts["ranking"] = plain.method
    return plain, facts


def _with_vectors(bench: Workbench, chunks: list[Chunk], encoder: Encoder) -> Retriever | None:
    """The index with vectors; None, and said, where the encoder that is installed cannot be loaded."""
    try:
        return Retriever(chunks, encoder)
    except SettingError as error:
        bench.progress.tell("note", text=f"rag: passages are found by their words alone: {error}")
        return None


def chunks_of(bench: Workbench) -> tuple[ReadDocuments, list[Chunk]]:
    """The task's documents, read and cut."""
    assert bench.task.knowledge is not None
    read = read_documents(bench.task.knowledge.documents)
    return read, [chunk for document in read.documents for chunk in chunk_document(document)]


def _recall_at_3(bench: Workbench, retriever: Retriever) -> float | None:
    rows = (*bench.parts.selection, *bench.parts.train)
    return recall_at(3, GoldPassages(retriever).ranks(rows, RECALL_ROWS, depth=3))


class GoldPassages:
    """Which passages hold the answer of a row: for choosing shots and for figures, never for a request.

    They are the ones the row names; where it names none, the ones that hold a reference word for word.
    """

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self._texts = [plain(chunk.text) for chunk in retriever.chunks]

    def of(self, example: Example) -> tuple[Chunk, ...]:
        """The passages that hold the answer, those that quote a reference first; empty when not known."""
        chunks = self.retriever.chunks
        quotes = [plain(reference_text(reference)) for reference in example.references]
        quoting = [c for c, text in zip(chunks, self._texts, strict=True) if _holds(text, quotes)]
        if not example.passages:
            return tuple(quoting)
        named = [chunk for chunk in chunks if any(chunk.is_of(name) for name in example.passages)]
        return tuple(sorted(named, key=lambda chunk: chunk not in quoting))

    def best(self, example: Example) -> Chunk | None:
        """The one passage to show in place of what was found: a quoting one, the best ranked of those."""
        gold = self.of(example)
        if len(gold) < 2:
            return gold[0] if gold else None
        quotes = [plain(reference_text(reference)) for reference in example.references]
        first = [chunk for chunk in gold if _holds(plain(chunk.text), quotes)] or list(gold)
        found = self.retriever.search(query_of(example.turns), len(self.retriever.chunks))
        return next((chunk for chunk in found if chunk in first), first[0])

    def ranks(self, rows: Sequence[Example], most: int, depth: int) -> list[list[bool]]:
        """For up to ``most`` rows with known passages: whether each of the first ``depth`` found is one."""
        ranks: list[list[bool]] = []
        for example in rows:
            if len(ranks) == most:
                break
            if gold := self.of(example):
                found = self.retriever.search(query_of(example.turns), depth)
                ranks.append([chunk in gold for chunk in found])
        return ranks


def _holds(text: str, quotes: Sequence[str]) -> bool:
    return any(len(quote) >= SHORTEST_QUOTE and quote in text for quote in quotes)


def _shot_sets(bench: Workbench, gold: GoldPassages, k: int, counts: Sequence[int]) -> list[tuple[Shot, ...]]:
    """The sets of shots to try with ``k`` passages: train rows with the passages found for them.

    Rows for which the search missed a known passage are left out: they would teach to make answers up.
    """
    most = max(counts)
    shots: list[Shot] = []
    if bench.parts.train:
        for example in drawn(usable(bench.parts.train), "cover", bench.seed, DRAWN):
            found = gold.retriever.search(query_of(example.turns), k)
            known = gold.of(example)
            if found and (not known or any(chunk in known for chunk in found)):
                shots.append(Shot.of(example, found))
            if len(shots) == most:
                break
    return [tuple(reversed(shots[:count])) for count in counts if count <= len(shots)]


def _recall_facts(bench: Workbench, gold: GoldPassages) -> dict[str, Any]:
    """recall@k over the selection rows that name their passage; nothing when none does."""
    rows = [example for example in bench.parts.selection if example.passages]
    ranks = gold.ranks(rows, len(rows), depth=max(RECALL_DEPTHS))
    facts: dict[str, Any] = {}
    if ranks:
        facts["recall"] = {str(k): recall_at(k, ranks) for k in RECALL_DEPTHS}
        facts["recall_items"] = len(ranks)
    if lost := len(rows) - len(ranks):
        facts["named_passages_not_found"] = lost
    return facts


def _with_gold(bench: Workbench, candidate: PromptCandidate, gold: GoldPassages) -> dict[str, Any]:
    """The score on selection items with the right passage alone in the prompt: that of a perfect search."""
    pairs = [(e, gold.best(e)) for e in selection_items(bench, len(bench.parts.selection)) if e.passages]
    known = [(example, chunk) for example, chunk in pairs if chunk is not None][:GOLD_ITEMS]
    if not known:
        return {}
    requests = [candidate.request_with(example, (chunk,)) for example, chunk in known]
    answers = bench.ask(bench.door, requests, "gold passage")
    scores = [bench.score(example, answer).value for (example, _), answer in zip(known, answers, strict=True)]
    values = [value for value in scores if value is not None]
    return {"score_with_gold_passage": fmean(values) if values else None, "gold_items": len(values)}
