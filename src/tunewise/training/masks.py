"""From examples to the token ids that are trained on, and which of them carry loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunewise.data import Example, Message
from tunewise.errors import DataError

IGNORED = -100  # what torch's cross-entropy and TRL take as "no loss here"


class Render(Protocol):
    """``models.tokens.render``: the ids of a chat up to the answer, and of the answer with its stop token."""

    def __call__(
        self, tokenizer: Any, messages: Sequence[Message], answer: str | None
    ) -> tuple[Sequence[int], Sequence[int]]: ...


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One example as token ids.

    prompt: exactly what serving sends. answer: the answer's ids, the stop token last; these, and only
    these, carry loss.
    """

    key: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and answer."""
        return self.prompt + self.answer

    @property
    def labels(self) -> tuple[int, ...]:
        """One label per id: the id itself in the answer, ``IGNORED`` in the prompt."""
        return (IGNORED,) * len(self.prompt) + self.answer


@dataclass(frozen=True, slots=True)
class Rendered:
    """Rows that fit the context window, and what was left out.

    too_long: rows dropped because prompt and answer together pass the window; longest: tokens of the
    longest of them, 0 when none was dropped.
    """

    rows: tuple[TrainRow, ...]
    too_long: int = 0
    longest: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all rows, prompts included."""
        return sum(len(row) for row in self.rows)

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(len(row.answer) for row in self.rows)


def render_rows(
    tokenizer: Any,
    render: Render,
    examples: Sequence[Example],
    messages_of: Callable[[Example], Sequence[Message]],
    window: int | None,
) -> Rendered:
    """The examples as ids, each with its first reference as the answer.

    window: tokens of prompt and answer together that the model can read; rows beyond it are dropped and
    counted, never cut, since a cut answer would teach to stop early. Raises DataError when no row fits.
    """
    rows: list[TrainRow] = []
    dropped: list[int] = []
    for example in examples:
        prompt, answer = render(tokenizer, messages_of(example), example.answer)
        row = TrainRow(example.key, tuple(prompt), tuple(answer))
        if window is not None and len(row) > window:
            dropped.append(len(row))
        else:
            rows.append(row)
    longest = max(dropped, default=0)
    if dropped and not rows:
        raise DataError(
            f"All {len(dropped)} rows pass the model's context window of {window} tokens (the longest "
            f"has {longest}). Shorten the inputs or the instruction, or take a model with a longer window."
        )
    return Rendered(tuple(rows), len(dropped), longest)
