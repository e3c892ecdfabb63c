"""An adapter that learns to answer from passages: the right one among others, and sometimes missing.

Train rows stand in the prompt layout of answering, with as many passages as an answer will see. In a share of
them the right passage is among the passages, in the others only wrong ones are (Zhang et al., "RAFT: Adapting
Language Model to Domain Specific RAG", COLM 2024, sections 3 and 5: wrong ones beside the right one make a
model robust to what a search finds, and a share of prompts without the right one does no harm and often
helps). Wrong passages are the ones the search ranks highest for that question, since those are what it will
be shown. The answer is the row's in both cases.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewise.data import Example, Message
from tunewise.errors import DataError
from tunewise.models.door import Request
from tunewise.retrieval.chunking import MAX_CHARS, Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs import tuned
from tunewise.rungs.prompt import BYTES_PER_TOKEN, PromptCandidate, PromptLayout, layout_of, query_of
from tunewise.rungs.rag import GoldPassages, Rag, indexed
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.tuned_rows import messages_of
from tunewise.task_training import RetrievalSection
from tunewise.training.methods import Method
from tunewise.training.recipe import train
from tunewise.training.trust import TrainingNotTrusted

PASSAGES = 3  # where neither the task nor a rung below says how many
DEPTH = 20  # how far down the ranking wrong passages are looked for


class RagLora:
    """Tuning on the train part with retrieved passages in its prompts; answers with passages."""

    name = "rag-lora"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be rows to tune on, and documents to look up."""
        return tuned.cannot_tune(bench) or Rag().cannot_help(bench)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung. A passage counts as a quarter to the whole of the longest."""
        most = passages_of(bench) * (MAX_CHARS // BYTES_PER_TOKEN)
        return replace(tuned.outlook_of(bench), passage_tokens=(most // 4, most))

    def build(self, bench: Workbench, trainer: tuned.Trainer = train) -> PromptCandidate:
        """See Rung; facts add how many prompts hold the right passage."""
        home = bench.folder / self.name
        retriever, found = index_of(bench)
        layout = replace(layout_of(bench), passages=passages_of(bench))
        serving = PromptCandidate(self.name, tuned.opened(bench, None), layout, retriever=retriever)
        taught = teach(bench, serving)
        bench.progress.tell("note", text=f"{self.name}: {taught.in_words()}")
        selection = [with_context(e, serving.request(e).messages) for e in bench.parts.selection]
        originals = {example.key: example for example in bench.parts.selection}
        own = replace(
            bench,
            parts=replace(bench.parts, train=taught.train, selection=tuple(selection)),
            folder=home,
            score=lambda example, answer: bench.score(originals[example.key], answer),
        )
        built = tuned.build(own, method_of(bench), trainer)
        assert built.adapter is not None
        facts = {**built.facts(), **found, "k": layout.passages, "taught": taught.facts()}
        return replace(built, rung=self.name, layout=layout, retriever=retriever, built=facts)


def method_of(bench: Workbench) -> Method:
    """``qlora`` where the task says so, else ``lora``: the rung is named after its adapter."""
    tune = bench.task.tune
    return "qlora" if tune is not None and tune.method == "qlora" else "lora"


def passages_of(bench: Workbench) -> int:
    """Passages in a prompt: the task's, else what ``rag`` chose in this climb, else 3."""
    section, rag = bench.task.training.retrieval, bench.built.get(Rag.name)
    if section is not None and section.passages is not None:
        return section.passages
    return rag.layout.passages if isinstance(rag, PromptCandidate) else PASSAGES


def index_of(bench: Workbench) -> tuple[Retriever, dict[str, Any]]:
    """The index that ``rag`` made in this climb, or a new one, and facts about it."""
    rag = bench.built.get(Rag.name)
    if isinstance(rag, PromptCandidate) and rag.retriever is not None:
        return rag.retriever, {"ranking": rag.retriever.method, "chunks": len(rag.retriever.chunks)}
    return indexed(bench)


@dataclass(frozen=True, slots=True)
class Taught:
    """Train rows with passages in their prompts.

    present, absent: rows whose prompt holds the right passage, and those without it, be it that the window
    has no room. moved: of those present, rows for which the search would have missed it. unknown: rows whose
    right passage nobody knows; they show what was found.
    """

    train: tuple[Example, ...]
    present: int
    absent: int
    moved: int
    unknown: int

    def facts(self) -> dict[str, int]:
        """JSON-able counts."""
        return {
            "present": self.present,
            "absent": self.absent,
            "moved": self.moved,
            "unknown": self.unknown,
        }

    def in_words(self) -> str:
        """The counts for the reader."""
        said = (
            f"{self.present} train prompts hold the right passage among others ({self.moved} of them only "
            f"because it was put there: the search misses it), {self.absent} hold wrong ones alone"
        )
        if self.unknown:
            said += f"; for {self.unknown} rows no passage is known to be right, they show what is found"
        return said


def teach(bench: Workbench, serving: PromptCandidate) -> Taught:
    """The train rows with passages as ``serving`` shows them, with fewer where its window takes no more.

    Which rows go without the right one follows from the seed.
    """
    section = bench.task.training.retrieval or RetrievalSection()
    assert serving.retriever is not None
    gold = GoldPassages(serving.retriever)
    rows: list[Example] = []
    counts = {"present": 0, "absent": 0, "moved": 0, "unknown": 0}
    for example in bench.parts.train:
        shown = passages_for(example, gold, serving.layout.passages, section.present, bench.seed)
        passages, kind, moved = shown
        try:
            request = serving.request_with(example, passages)
        except DataError:  # too long without any passage: training.too_long says what becomes of it
            rows.append(example)
            kind, moved = "absent" if kind == "present" else kind, False
        else:
            rows.append(with_context(example, request.messages))
            check_served(rows[-1], request, layout_of(bench))
            kept = set(request.tag.get("passages", ()))
            if kind == "present" and kept.isdisjoint(chunk.id for chunk in gold.of(example)):
                kind, moved = "absent", False  # the window took fewer passages, and the right one went
        counts[kind] += 1
        counts["moved"] += moved
    return Taught(tuple(rows), **counts)


def check_served(row: Example, request: Request, layout: PromptLayout) -> None:
    """Raise TrainingNotTrusted unless tuning makes of ``row`` the chat that answering sends."""
    if messages_of(layout, row) != request.messages:
        raise TrainingNotTrusted(
            f"Example {row.key}: training reads another chat than {RagLora.name} sends with the same "
            "passages. They must be the same: please report this with a row of your examples."
        )


def passages_for(
    example: Example, gold: GoldPassages, k: int, present: float, seed: int
) -> tuple[tuple[Chunk, ...], str, bool]:
    """Up to ``k`` passages for a train row, best first; ``present``, ``absent`` or ``unknown``; moved.

    Where the right passage is among what the search finds, it keeps its rank; where the search misses it, it
    takes a random rank, so that no place in the prompt is right by itself.
    """
    found = gold.retriever.search(query_of(example.turns), max(k, DEPTH))
    right = gold.of(example)
    if not right:
        return found[:k], "unknown", False
    wrong = [chunk for chunk in found if chunk not in right]
    rng = random.Random(f"{seed} passages {example.key}")
    if rng.random() >= present:
        return tuple(wrong[:k]), "absent", False
    if any(chunk in right for chunk in found[:k]):
        return found[:k], "present", False
    best = gold.best(example)
    assert best is not None
    shown = wrong[: k - 1]
    shown.insert(rng.randint(0, len(shown)), best)
    return tuple(shown), "present", True


def with_context(example: Example, messages: Sequence[Message]) -> Example:
    """The example with the passages in its last turn: the messages of a prompt without the system turn.

    Its own system turn stays, since the layout writes it again.
    """
    system = tuple(turn for turn in example.turns if turn.role == "system")
    return replace(example, turns=(*system, *(turn for turn in messages if turn.role != "system")))
