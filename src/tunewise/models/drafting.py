"""Guesses at an answer's next tokens, taken from its prompt and from earlier answers.

Much of an answer stands somewhere before it: the keys of a JSON object in every example, a name in the input.
What followed the last tokens there is fed along with them, and where the model agrees several tokens are
written in one pass (Leviathan, Kalman and Matias, "Fast inference from transformers via speculative
decoding", 2023, with a look-up in the place of a small model). A wrong guess costs room in a pass, never a
token.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST_KEY = 3  # tokens that are looked up together
LONGEST = 8  # tokens of a guess
KEPT = 2**15  # tokens of earlier answers after which the oldest are let go, half at a time: about 10 MB
CONTEXT = 2  # tokens of the prompt before an answer by which its own first tokens are found
SURE, DOUBT = 0.7, 4.0  # share of guesses that is agreed with before any was seen, and its weight in guesses
FORGETS = 0.9  # weight of the agreement seen before, at each pass


class Memory:
    """Texts of tokens, and where each stretch of up to ``LONGEST_KEY`` was seen last and before that."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.tokens: list[int] = []
        self._last: dict[tuple[int, ...], int] = {}
        self._before: dict[tuple[int, ...], int] = {}
        self._starts = [0]
        self.extend(tokens)

    def extend(self, tokens: Sequence[int], *, anew: bool = False) -> None:
        """Append tokens; ``anew``: a text of their own, not what follows the ones before."""
        if anew and self.tokens:
            self._starts.append(len(self.tokens))
        start = self._starts[-1]
        for token in tokens:
            self.tokens.append(token)
            end = len(self.tokens)
            for size in range(1, min(LONGEST_KEY, end - start) + 1):
                key = tuple(self.tokens[end - size :])
                if key in self._last:
                    self._before[key] = self._last[key]
                self._last[key] = end

    def after(self, key: tuple[int, ...], most: int) -> list[int]:
        """Up to ``most`` tokens that followed ``key`` in its text when it was seen last; empty if never."""
        place = self._last.get(key)
        if place == len(self.tokens):  # the end, behind which nothing stands yet
            place = self._before.get(key)
        if place is None:
            return []
        behind = bisect_right(self._starts, place - 1)
        end = self._starts[behind] if behind < len(self._starts) else len(self.tokens)
        return self.tokens[place : min(place + most, end)]


class Guess(NamedTuple):
    """Tokens that may follow, found by a stretch of ``size`` tokens; 0: none were found."""

    tokens: Sequence[int] = ()
    size: int = 0


@dataclass(slots=True)
class Trust:
    """How often guesses of one kind were agreed with, older ones counting less."""

    agreed: float = 0.0
    tried: float = 0.0

    @property
    def share(self) -> float:
        """Between 0 and 1; ``SURE`` before anything is known."""
        return (self.agreed + SURE * DOUBT) / (self.tried + DOUBT)


@dataclass(slots=True)
class Drafter:
    """Guesses for the rows of one call after another.

    per_token: what a token more in a pass costs, as a share of what a pass costs at all. trust: by the size
    of the stretch that a guess was found by. A prompt that is asked alone is guessed at from its own text
    only, so that its time says what a new prompt takes.
    """

    per_token: float
    alone: bool = False
    trust: list[Trust] = field(default_factory=list)
    _prefix: tuple[int, ...] = ()
    _of_prefix: Memory | None = None
    _answers: Memory = field(default_factory=Memory)
    _older: Memory = field(default_factory=Memory)

    def begin(self, prefix: Sequence[int], prompts: int) -> None:
        """A call begins, of so many prompts that share a ``prefix`` which no row has as its own text."""
        self.alone = prompts == 1
        self.trust = [Trust() for _ in range(LONGEST_KEY + 1)]
        if self._prefix != tuple(prefix):
            self._prefix, self._of_prefix = tuple(prefix), None

    def guess(self, own: Memory, most: int) -> Guess:
        """Up to ``most`` tokens that may follow a row's own, by the longest stretch that is found.

        A single token is looked up in the row's own text alone: elsewhere it says too little.
        """
        if self._of_prefix is None:
            self._of_prefix = Memory(self._prefix)
        others = [self._of_prefix] if self.alone else [self._of_prefix, self._answers, self._older]
        for size in range(min(LONGEST_KEY, len(own.tokens)), 0, -1):
            key = tuple(own.tokens[-size:])
            for memory in [own, *others] if size > 1 else [own]:
                if found := memory.after(key, most):
                    return Guess(found, size)
        return Guess()

    def shortened(self, guesses: Sequence[Guess], most: int = LONGEST) -> list[Guess]:
        """One guess per row, all cut to the length, at most ``most``, that promises most tokens in a time.

        With a share p of its tokens agreed with, the first w of a guess give p + ... + p^w, beside the one
        that every row gets (Leviathan et al., eq. 1).
        """
        rows, longest = len(guesses), max((len(guess.tokens) for guess in guesses), default=0)
        best, expected = 0, float(rows)
        best_rate = expected / (1.0 + self.per_token * rows)
        for width in range(1, min(longest, most) + 1):
            deep = [guess for guess in guesses if len(guess.tokens) >= width]
            expected += sum(self.trust[guess.size].share ** width for guess in deep)
            rate = expected / (1.0 + self.per_token * rows * (1 + width))
            if rate > best_rate:
                best, best_rate = width, rate
        return [Guess(guess.tokens[:best], guess.size) for guess in guesses]

    def note(self, guess: Guess, agreed: int) -> None:
        """With how many of a guess's tokens the model agreed."""
        if guess.tokens:
            self.trust[guess.size].agreed += agreed
            self.trust[guess.size].tried += min(len(guess.tokens), agreed + 1)

    def forget(self) -> None:
        """After a pass: what was seen before counts for less, so that guessing is tried again."""
        for trust in self.trust:
            trust.agreed *= FORGETS
            trust.tried *= FORGETS

    def remember(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Keep a finished answer, for the guesses of others."""
        if self.alone:
            return
        if len(self._answers.tokens) > KEPT:
            self._older, self._answers = self._answers, Memory()
        self._answers.extend((*prompt[-CONTEXT:], *answer), anew=True)
