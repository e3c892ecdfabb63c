"""An answer while it is written: its prompt, the tokens so far, and how the next one is chosen."""

import hashlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from tunewise.models.drafting import Memory
from tunewise.models.grammar import Limit


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt as token ids, and how to write its answer. temperature 0 is greedy.

    limit: which tokens its answer may go on with, a fresh one for every prompt; None: any.
    """

    tokens: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    limit: Limit | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Written:
    """Tokens written, the stop token included if there is one; prompt tokens that were not read anew.

    first_s: seconds from the start of the whole ``write`` to this answer's first token, where it is known.
    """

    tokens: tuple[int, ...]
    finish: Literal["stop", "length"]
    cached: int = 0
    first_s: float | None = None


@dataclass(slots=True)
class Row:
    """A prompt while its answer is written. suffix: its tokens after the shared prefix, at least one."""

    place: int
    prompt: Prompt
    suffix: tuple[int, ...]
    draw: random.Random | None
    tokens: list[int] = field(default_factory=list)
    finish: Literal["stop", "length"] | None = None
    first_at: float | None = None
    memory: Memory | None = None  # its tokens from the suffix on, where they are looked up

    def take(self, token: int, stops: frozenset[int]) -> None:
        """Append a token, and note whether it was the last."""
        if not self.tokens:
            self.first_at = time.perf_counter()
        self.tokens.append(token)
        if token in stops:
            self.finish = "stop"
        elif len(self.tokens) >= self.prompt.max_new_tokens:
            self.finish = "length"


class Generator(Protocol):
    """Writes one answer per prompt, in order; every prompt has at least one token and fits the window."""

    stops: frozenset[int]

    def write(self, prompts: Sequence[Prompt]) -> list[Written]: ...


def drawer(prompt: Prompt) -> random.Random | None:
    """The random numbers of one prompt: they depend on its seed and tokens only, not on its neighbours."""
    if prompt.temperature == 0:
        return None
    text = repr((prompt.seed, prompt.tokens)).encode("ascii")
    return random.Random(hashlib.sha256(text).digest())


def hold(logits: Tensor, rows: Sequence[Row], written: Sequence[Sequence[int]]) -> None:
    """Set the logits (R, V) of tokens that a row's limit does not allow to -inf, in place.

    A greedy row whose best token is allowed stays as it is: the same token is taken, and asking for one
    token costs a hundredth of asking for all of them.
    """
    if all(row.prompt.limit is None for row in rows):
        return
    best = logits.argmax(-1).tolist()
    for i, row in enumerate(rows):
        limit = row.prompt.limit
        if limit is None or row.finish is not None:
            continue
        if row.draw is None and limit.allows(written[i], best[i]):
            continue
        allowed = torch.from_numpy(limit.allowed(written[i], logits.shape[-1]))
        logits[i].masked_fill_(~allowed.to(logits.device), -torch.inf)


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row: the best, or one drawn in proportion to exp(logit / temperature)."""
    tokens: list[int] = logits.argmax(-1).tolist()
    for i, row in enumerate(rows):
        if row.draw is not None:
            odds = torch.softmax(logits[i].double() / row.prompt.temperature, -1).cumsum(-1)
            place = torch.searchsorted(odds, odds.new_tensor([row.draw.random()]) * odds[-1], right=True)
            tokens[i] = min(int(place), len(odds) - 1)
    return tokens
