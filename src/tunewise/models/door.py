"""The one door to language models: what goes through it, and what every door promises.

No torch and no network here: this file holds only the shapes that pass through a door.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from tunewise.data import Message


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is drawn. ``temperature`` 0 is greedy; ``max_new_tokens`` in tokens of the model."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0


GrammarKind = Literal["json_schema", "regex", "choices"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A form that an answer is held to while it is written.

    source: a JSON Schema as JSON text, its properties in the order in which the answer has to have them;
    a regular expression for the whole answer; or a JSON list of choices. separators: what stands between
    elements and after keys of JSON, ``None`` where white space is free.
    """

    kind: GrammarKind
    source: str
    separators: tuple[str, str] | None = None

    def spacing(self) -> dict[str, Any]:
        """The separators under the names that llguidance gives them."""
        if self.separators is None:
            return {}
        item, key = self.separators
        return {"whitespace_flexible": False, "item_separator": item, "key_separator": key}


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: the chat up to the answer, and how to draw it.

    ``tag`` travels beside the request (chunk ids, chosen examples) and is no part of its identity.
    ``grammar`` is part of it; only a door that names its kind in ``grammars`` is asked with one.
    """

    messages: tuple[Message, ...]
    decoding: Decoding
    tag: Mapping[str, Any] = field(default_factory=dict, compare=False)
    grammar: Grammar | None = None

    def key(self, fingerprint: str) -> str:
        """Identity of this request at the door with this fingerprint: 64 hex digits of SHA-256.

        Two requests with one key have one answer, so a recorded answer is never paid for twice.
        """
        body: dict[str, Any] = {
            "door": fingerprint,
            "messages": [[m.role, m.content] for m in self.messages],
            "decoding": [
                self.decoding.max_new_tokens,
                self.decoding.temperature,
                self.decoding.seed if self.decoding.temperature > 0 else 0,
            ],
        }
        if self.grammar is not None:
            body["grammar"] = [self.grammar.kind, self.grammar.source, self.grammar.separators]
        text = json.dumps(body, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


AnswerStatus = Literal["ok", "refused", "errored"]
Finish = Literal["stop", "length", "other"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request. What the door cannot know is None, never a guess.

    tokens_in, cached_in, tokens_out: tokens; ``cached_in`` is the part of ``tokens_in`` that the
        model did not have to read again (shared prefix, prompt cache).
    seconds: wall time of the call; for a call shared by a batch, the batch's time over its size.
    usd: price of the call, None when the door has no price.
    unanswered: attempts before this one that were sent and never answered; a host may charge for each.
    first_token_s: seconds until the first token of the answer, for a call of its own; not on record.
    """

    text: str
    status: AnswerStatus = "ok"
    finish: Finish = "stop"
    tokens_in: int | None = None
    cached_in: int | None = None
    tokens_out: int | None = None
    seconds: float = 0.0
    usd: float | None = None
    error: str | None = None
    unanswered: int = 0
    first_token_s: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. ``cached_input`` is None where the host has no cheaper rate."""

    input: float
    output: float
    cached_input: float | None = None

    def of(self, tokens_in: int, tokens_out: int, cached_in: int = 0) -> float:
        """USD of one call; ``cached_in`` tokens of ``tokens_in`` are charged at the cached rate."""
        cached_rate = self.input if self.cached_input is None else self.cached_input
        return (
            (tokens_in - cached_in) * self.input + cached_in * cached_rate + tokens_out * self.output
        ) / 1e6


@runtime_checkable
class Door(Protocol):
    """Where a model is reached. Every implementation keeps these promises (test_door_contract.py).

    - ``answer`` returns one Answer per request, in order. A failure of one request that retries did
      not mend is an Answer with status ``errored``; a failure of the whole door (unreachable, key
      refused, answers of another shape) raises DoorError and loses nothing that was returned before.
    - ``answer`` may be called from ``concurrency`` threads at once, each with up to ``batch_size`` requests.
    - ``fingerprint`` changes whenever the same request could get another answer (weights, adapter,
      number format, URL, model name), and never otherwise.
    """

    name: str
    host: str | None  # where prompts are sent; None: they stay on this machine
    price: Price | None
    context_window: int | None  # tokens, prompt and answer together; None: not known
    concurrency: int
    lost_replies: int  # most attempts at one request that may go unanswered before the last one

    @property
    def batch_size(self) -> int:
        """Most requests of one call of ``answer``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of what answers, hexadecimal; see above."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[Answer]: ...

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the rendered prompt, None where the door cannot know."""
        ...

    def close(self) -> None: ...


def without_thoughts(text: str) -> str:
    """An answer without the reasoning before it, where a model writes that into its text.

    ``<think>...</think>`` at the beginning, or all up to ``</think>`` where the template has opened it. A
    server that keeps reasoning apart has taken it out already. Reasoning that was cut off stays: there is no
    answer behind it.
    """
    thoughts, closed, answer = text.partition("</think>")
    opened = thoughts.lstrip().startswith("<think>")
    return answer.lstrip() if closed and (opened or "<think>" not in thoughts) else text


@contextmanager
def unpriced(door: Door) -> Iterator[None]:
    """Within it a door to weights on a machine with a price gives answers without one."""
    rate = getattr(door, "usd_per_hour", None)
    if rate is None:
        yield
        return
    door.usd_per_hour = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        door.usd_per_hour = rate  # type: ignore[attr-defined]


def grammars_of(door: Door) -> frozenset[GrammarKind]:
    """The kinds of grammar that a door can hold its answers to: its ``grammars``, else none."""
    return frozenset(getattr(door, "grammars", ()))
