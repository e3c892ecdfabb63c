"""How long the prompts and answers of a task are, in tokens, and which rows are too long for a model."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tunewise.errors import DataError
from tunewise.models.door import Door
from tunewise.rungs.prompt import BYTES_PER_TOKEN, layout_of, place_of, prompt_tokens
from tunewise.rungs.rung import Workbench

SAMPLE = 40  # rows whose tokens are counted for the plan
TEMPLATE_BYTES = 64  # what a chat template may add around a turn


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of a sample of rows; ``exact`` where the door counts, else bytes over 3."""

    bare: tuple[int, ...]
    answers: tuple[int, ...]
    exact: bool
    max_new_tokens: int

    @classmethod
    def of(cls, bench: Workbench) -> "Lengths":
        """Counts the bare prompt of the longest rows and of an even sample of the rest."""
        parts = bench.parts
        rows = [*parts.certification, *parts.selection, *parts.train]
        longest = max(rows, key=lambda example: sum(len(turn.content) for turn in example.turns))
        sample = [longest, *rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]]
        layout = layout_of(bench)
        prompts = [layout.messages(example.turns, (), ()) for example in sample]
        return cls(
            bare=tuple(prompt_tokens(bench.door, messages) for messages in prompts),
            answers=tuple(-(-len(example.answer.encode()) // BYTES_PER_TOKEN) for example in sample),
            exact=bench.door.count_tokens(prompts[0]) is not None,
            max_new_tokens=bench.task.decoding.max_new_tokens,
        )

    def in_words(self, door: Door) -> str:
        """One line for people."""
        about = "" if self.exact else "about "
        window = "not known" if door.context_window is None else f"{door.context_window:,} tokens"
        return (
            f"bare prompt {about}{fmean(self.bare):.0f} tokens, longest {max(self.bare)}, answers about"
            f" {fmean(self.answers):.0f}, at most {self.max_new_tokens}; context window {window}"
        )

    def to_json(self) -> dict[str, Any]:
        """Mean and longest bare prompt, mean answer, in tokens."""
        return {
            "bare_mean": fmean(self.bare),
            "bare_longest": max(self.bare),
            "answer_mean": fmean(self.answers),
            "exact": self.exact,
        }


def refuse_too_long(bench: Workbench) -> None:
    """Raise DataError, naming every row to be answered whose bare prompt leaves no room for an answer."""
    window = bench.door.context_window
    if window is None:
        return
    layout = layout_of(bench)
    room = window - layout.decoding.max_new_tokens
    found = []
    for example in (*bench.parts.selection, *bench.parts.certification):
        messages = layout.messages(example.turns, (), ())
        # a token is at least one byte, so short rows need no counting
        if sum(len(m.content.encode()) + TEMPLATE_BYTES for m in messages) > room:
            size = prompt_tokens(bench.door, messages)
            if size > room:
                found.append(f"{place_of(example)}: the prompt has {size} tokens")
    if found:
        more = f"\n  ... and {len(found) - 10} more" if len(found) > 10 else ""
        raise DataError(
            f"the model's context window of {window} tokens has no room for the answer (max_new_tokens"
            f" {layout.decoding.max_new_tokens}) after these prompts:\n  "
            + "\n  ".join(found[:10])
            + more
            + "\nShorten or drop these rows, lower decoding.max_new_tokens, or take a model with a longer"
            " window."
        )
