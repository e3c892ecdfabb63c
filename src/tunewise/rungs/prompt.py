"""The one prompt layout of all rungs, and the candidate that fills it in for an input.

A prompt is, in order: the instruction (system message), shots as user and assistant turns, and the
input; passages stand in the last user turn, before the question. Nothing here ever reads the
references or the passages of the example that is to be answered.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunewise.data import Example, Message
from tunewise.errors import DataError
from tunewise.models.door import Decoding, Door, Grammar, Request
from tunewise.retrieval.bm25 import BM25Index
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs.rung import Workbench

TEMPLATE_BYTES = 64  # what a chat template may add around a turn
NAMED = 10  # rows that a message names at most
BYTES_PER_TOKEN = 3  # on the safe side of the 3.5 to 4.5 of common tokenizers on English
TOKENS_PER_TURN = 8  # what chat templates put around a turn


@dataclass(frozen=True, slots=True)
class Shot:
    """A train example as it stands in prompts: its chat without a system turn, its answer, its passages."""

    key: str
    turns: tuple[Message, ...]
    answer: str
    passages: tuple[Chunk, ...] = ()

    @classmethod
    def of(cls, example: Example, passages: tuple[Chunk, ...] = ()) -> "Shot":
        """The shot that a train row makes."""
        return cls(example.key, chat_of(example.turns), example.answer, passages)


@dataclass(frozen=True, slots=True)
class PromptLayout:
    """What a prompt holds beside the input.

    shots: fixed examples, the best last. nearest: how many examples are looked up for each input.
    passages: how many passages are looked up for each input. grammar: what answers are held to.
    """

    instruction: str | None
    decoding: Decoding
    shots: tuple[Shot, ...] = ()
    nearest: int = 0
    passages: int = 0
    grammar: Grammar | None = None

    def messages(
        self, turns: Sequence[Message], shots: Sequence[Shot], passages: Sequence[Chunk]
    ) -> tuple[Message, ...]:
        """The whole chat for an input's turns, with these shots and passages."""
        system = [self.instruction or "", *(m.content for m in turns if m.role == "system")]
        said = "\n\n".join(text.strip() for text in system if text.strip())
        messages = [Message("system", said)] if said else []
        for shot in shots:
            messages += _with_passages(shot.turns, shot.passages)
            messages.append(Message("assistant", shot.answer))
        return (*messages, *_with_passages(chat_of(turns), passages))


def chat_of(turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns without a system turn."""
    return tuple(turn for turn in turns if turn.role != "system")


def query_of(turns: Sequence[Message]) -> str:
    """What an index is asked: everything the user said."""
    return "\n".join(turn.content for turn in turns if turn.role == "user")


def same_text(turns: Sequence[Message]) -> str:
    """Equal for two chats that say the same but for case and spaces."""
    return "\n".join(" ".join(turn.content.casefold().split()) for turn in chat_of(turns))


def _with_passages(turns: Sequence[Message], passages: Sequence[Chunk]) -> list[Message]:
    """The turns with passages before the last question, numbered if several, the best next to it.

    Measured with the embedded model, 3 shots, 24 questions on a handbook, token F1 (standard error about
    0.08). 3 passages: best last and both cues 0.37, without numbers 0.33, without cues 0.27; best first
    with cues 0.19, without 0.08. One passage: 0.40 with its number, 0.46 without.
    """
    if not passages:
        return list(turns)
    shown = [chunk.shown for chunk in reversed(passages)]
    if len(shown) > 1:
        shown = [f"[{number}] {text}" for number, text in enumerate(shown, start=1)]
    context = "\n\n".join(shown)
    question = f"Context:\n{context}\n\nQuestion: {turns[-1].content}\nAnswer:"
    return [*turns[:-1], Message("user", question)]


class NearestShots:
    """Shots that can be looked up by the words they share with an input."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        self.shots = tuple(shots)
        self._index = BM25Index([query_of(shot.turns) for shot in self.shots])
        self._texts = [same_text(shot.turns) for shot in self.shots]

    def find(self, turns: Sequence[Message], k: int) -> tuple[Shot, ...]:
        """``k`` shots, the nearest last; one whose input says the same as this is left out.

        Where fewer share a word with the input, the rest come from the start of the list, so that
        the prompt always shows the form of an answer.
        """
        own = same_text(turns)
        ranked = self._index.ranking(query_of(turns))
        seen = set(ranked)
        rest = (place for place in range(len(self.shots)) if place not in seen)
        others = (place for place in chain(ranked, rest) if self._texts[place] != own)
        return tuple(self.shots[place] for place in reversed(list(islice(others, k))))


@dataclass(frozen=True)
class PromptCandidate:
    """A door and a layout: all that a prompting rung builds, and, with an adapter, a tuned one.

    retriever: needed when ``layout.passages`` > 0. nearest: needed when ``layout.nearest`` > 0.
    adapter: folder of the adapter that ``door`` was opened with; it is saved along.
    built: facts about the choice, JSON-able, as ``facts`` hands them on. curve: measures the learning curve
    of a tuned rung; None where it is not wanted.
    """

    rung: str
    door: Door
    layout: PromptLayout
    retriever: Retriever | None = None
    nearest: NearestShots | None = None
    adapter: Path | None = None
    built: Mapping[str, Any] = field(default_factory=dict)
    curve: Callable[[], dict[str, Any]] | None = field(default=None, compare=False)

    def request(self, example: Example) -> Request:
        """See Candidate. Raises DataError when even the bare prompt passes the context window."""
        passages: tuple[Chunk, ...] = ()
        if self.layout.passages and self.retriever is not None:
            passages = self.retriever.search(query_of(example.turns), self.layout.passages)
        return self.request_with(example, passages)

    def request_with(self, example: Example, passages: Sequence[Chunk]) -> Request:
        """The same request with these passages in place of the ones looked up."""
        shots = self.layout.shots
        if self.layout.nearest and self.nearest is not None:
            shots = (*shots, *self.nearest.find(example.turns, self.layout.nearest))
        messages, kept_shots, kept_passages = self._fitted(example, shots, tuple(passages))
        tag: dict[str, Any] = {}
        if kept_shots:
            tag["shots"] = [shot.key for shot in kept_shots]
        if kept_passages:
            tag["passages"] = [chunk.id for chunk in kept_passages]
        if dropped := len(shots) - len(kept_shots):
            tag["dropped_shots"] = dropped
        if dropped := len(passages) - len(kept_passages):
            tag["dropped_passages"] = dropped
        return Request(messages, self.layout.decoding, tag, self.layout.grammar)

    def _fitted(
        self, example: Example, shots: tuple[Shot, ...], passages: tuple[Chunk, ...]
    ) -> tuple[tuple[Message, ...], tuple[Shot, ...], tuple[Chunk, ...]]:
        """Drops shots, the farthest first, then passages, the lowest first, until prompt and answer fit."""
        while True:
            messages = self.layout.messages(example.turns, shots, passages)
            window = self.door.context_window
            if window is None:
                return messages, shots, passages
            size = prompt_tokens(self.door, messages)
            if size + self.layout.decoding.max_new_tokens <= window:
                return messages, shots, passages
            if shots:
                shots = shots[1:]
            elif passages:
                passages = passages[:-1]
            else:
                raise DataError(_too_long(example, size, self.layout.decoding.max_new_tokens, window))

    def facts(self) -> dict[str, Any]:
        """See Candidate."""
        return dict(self.built)

    def held_to(self, grammar: Grammar | None) -> "PromptCandidate":
        """The same candidate with its answers held to a grammar."""
        return replace(self, layout=replace(self.layout, grammar=grammar))

    def with_facts(self, **facts: Any) -> "PromptCandidate":
        """The same candidate with these facts added."""
        return replace(self, built={**self.built, **facts})

    def save(self, folder: Path) -> None:
        """See Candidate; what is written is described in ``rungs.saved``."""
        from tunewise.rungs.saved import save_candidate  # it imports this module

        save_candidate(self, folder)


def prompt_tokens(door: Door, messages: Sequence[Message]) -> int:
    """Tokens of a rendered prompt; where the door cannot know, bytes / 3 and 8 for each turn."""
    counted = door.count_tokens(messages)
    if counted is not None:
        return counted
    size = sum(len(message.content.encode("utf-8")) for message in messages)
    return math.ceil(size / BYTES_PER_TOKEN) + TOKENS_PER_TURN * len(messages)


def too_long(door: Door, layout: PromptLayout, examples: Sequence[Example]) -> str | None:
    """Which bare prompts leave no room for an answer in the window of ``door``, in words; else None."""
    window = door.context_window
    if window is None:
        return None
    room = window - layout.decoding.max_new_tokens
    found = []
    for example in examples:
        messages = layout.messages(example.turns, (), ())
        # a token is at least one byte, so short rows need no counting
        if sum(len(m.content.encode()) + TEMPLATE_BYTES for m in messages) > room:
            size = prompt_tokens(door, messages)
            if size > room:
                found.append(f"{place_of(example)}: the prompt has {size} tokens")
    if not found:
        return None
    more = f"\n  ... and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (
        f"the context window of {door.name}, {window} tokens, has no room for the answer (max_new_tokens"
        f" {layout.decoding.max_new_tokens}) after these prompts:\n  "
        + "\n  ".join(found[:NAMED])
        + f"{more}\nShorten or drop these rows, lower decoding.max_new_tokens, or take a model with a longer"
        " window."
    )


def place_of(example: Example) -> str:
    """Where an example stands, for messages."""
    return f"{example.source}:{example.line}" if example.source else f"example {example.key}"


def _too_long(example: Example, size: int, answer: int, window: int) -> str:
    return (
        f"{place_of(example)}: the prompt has {size} tokens and the answer may have {answer} "
        f"(decoding.max_new_tokens), which passes the model's context window of {window}; shorten this input "
        "or the instruction, lower max_new_tokens, or take a model with a longer window"
    )


def layout_of(bench: Workbench) -> PromptLayout:
    """The bare layout of the task: instruction and decoding, nothing else."""
    settings = bench.task.decoding
    decoding = Decoding(settings.max_new_tokens, settings.temperature, bench.seed)
    return PromptLayout(bench.task.instruction, decoding)


DoorOpener = Callable[[Path | None], Door]
