"""From examples to the token ids that are trained on, and which of them carry loss."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tunewise.data import Example, Message
from tunewise.errors import DataError

IGNORED = -100  # what torch's cross-entropy and TRL take as "no loss here"
TooLong = Literal["drop", "refuse", "truncate_left"]
SHOWN = 5  # rows named in a refusal


class Render(Protocol):
    """``models.tokens.render``: the ids of a chat up to the answer, and of the answer with its stop token."""

    def __call__(
        self, tokenizer: Any, messages: Sequence[Message], answer: str | None
    ) -> tuple[Sequence[int], Sequence[int]]: ...


@dataclass(frozen=True, slots=True)
class TrainRow:
    """One example as token ids.

    prompt: exactly what serving sends. answer: the answer's ids, the stop token last. earlier: the places
    (start, end) in the prompt of the assistant's earlier turns and their stop tokens. The answer and
    these places, and only they, carry loss. place: where the row stands, for messages. cut: tokens of the
    prompt's beginning that were left out, since the row passes the window.
    """

    key: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    earlier: tuple[tuple[int, int], ...] = ()
    place: str = ""
    cut: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and answer."""
        return self.prompt + self.answer

    @property
    def learnt(self) -> tuple[tuple[int, int], ...]:
        """All places (start, end) that carry loss, in order."""
        return (*self.earlier, (len(self.prompt), len(self)))

    @property
    def loss_tokens(self) -> int:
        """How many tokens carry loss."""
        return sum(end - start for start, end in self.learnt)

    @property
    def labels(self) -> tuple[int, ...]:
        """One label per id: the id itself where there is loss, else ``IGNORED``."""
        labels = [IGNORED] * len(self)
        for start, end in self.learnt:
            labels[start:end] = self.ids[start:end]
        return tuple(labels)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Rows that fit the context window, and what became of the others.

    too_long: rows dropped because prompt and answer together pass the window; longest: tokens of the
    longest row that passed it, 0 when none did. truncated: rows that lost the beginning of their prompt.
    earlier_lost: assistant turns before the last that carry no loss, since the chat template writes them
    otherwise once the chat goes on (it drops reasoning, for instance).
    """

    rows: tuple[TrainRow, ...]
    too_long: int = 0
    longest: int = 0
    truncated: int = 0
    earlier_lost: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all rows, prompts included."""
        return sum(len(row) for row in self.rows)

    @property
    def loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(row.loss_tokens for row in self.rows)


def render_rows(
    tokenizer: Any,
    render: Render,
    examples: Sequence[Example],
    messages_of: Callable[[Example], Sequence[Message]],
    window: int | None,
    too_long: TooLong = "drop",
) -> Rendered:
    """The examples as ids, each with its first reference as the answer.

    window: tokens of prompt and answer together that the model can read. Rows beyond it are dropped and
    counted, refused, or lose the beginning of their prompt, as ``too_long`` says; an answer is never cut,
    since that would teach to stop early. Raises DataError when rows are refused, when an answer alone
    passes the window, and when no row is left.
    """
    rows: list[TrainRow] = []
    beyond: list[TrainRow] = []
    lost = 0
    for example in examples:
        row, without = render_row(tokenizer, render, example, messages_of(example))
        lost += without
        if window is None or len(row) <= window:
            rows.append(row)
            continue
        beyond.append(row)
        if too_long == "truncate_left" and len(row.answer) < window:
            rows.append(cut_left(row, len(row) - window))
    longest = max((len(row) for row in beyond), default=0)
    if window is not None:
        refuse_beyond(beyond, window, too_long, left=len(rows))
    kept = too_long == "truncate_left"
    return Rendered(tuple(rows), 0 if kept else len(beyond), longest, len(beyond) if kept else 0, lost)


def render_row(
    tokenizer: Any, render: Render, example: Example, messages: Sequence[Message]
) -> tuple[TrainRow, int]:
    """One example as ids, and how many of the assistant's earlier turns had to go without loss."""
    from tunewise.models.tokens import spoken

    prompt, answer = render(tokenizer, messages, example.answer)
    earlier, lost = spoken(tokenizer, messages)
    place = f"{example.source}:{example.line}" if example.source else f"example {example.key}"
    return TrainRow(example.key, tuple(prompt), tuple(answer), tuple(earlier), place), lost


def cut_left(row: TrainRow, count: int) -> TrainRow:
    """The row without the first ``count`` tokens of its prompt; turns that are cut into carry no loss."""
    earlier = tuple((start - count, end - count) for start, end in row.earlier if start > count)
    return TrainRow(row.key, row.prompt[count:], row.answer, earlier, row.place, row.cut + count)


def refuse_beyond(beyond: Sequence[TrainRow], window: int, too_long: TooLong, left: int) -> None:
    """Raise DataError where rows beyond the window cannot be used as ``too_long`` says."""
    if not beyond:
        return
    longest = max(map(len, beyond))
    cut = [row for row in beyond if len(row.answer) >= window]
    if too_long == "truncate_left" and cut:
        raise DataError(
            f"{len(cut)} answers alone pass the window of {window} tokens (the longest has "
            f"{max(len(row.answer) for row in cut)}): cut, they would teach to stop early.\n{named(cut)}\n"
            "Shorten them, drop them (training.too_long: drop), or take a model with a longer window."
        )
    if too_long == "refuse":
        raise DataError(
            f"{len(beyond)} rows pass the window of {window} tokens (the longest has {longest}).\n"
            f"{named(beyond)}\nShorten them, or let training.too_long be drop or truncate_left."
        )
    if not left:
        raise DataError(
            f"All {len(beyond)} rows pass the model's context window of {window} tokens (the longest "
            f"has {longest}). Shorten the inputs or the instruction, or take a model with a longer window."
        )


def named(rows: Sequence[TrainRow]) -> str:
    """The places of a few rows with their lengths, one per line."""
    lines = [f"  - {row.place}: {len(row)} tokens, {len(row.answer)} of them answer" for row in rows[:SHOWN]]
    return "\n".join([*lines, *([f"  ... and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else [])])


def segments(row: TrainRow) -> Iterator[tuple[tuple[int, ...], bool]]:
    """The row's ids in pieces, each with whether it carries loss; empty pieces are left out."""
    ids, done = row.ids, 0
    for start, end in row.learnt:
        if start > done:
            yield ids[done:start], False
        yield ids[start:end], True
        done = end
