"""How long the prompts and answers of a task are, in tokens, and which rows are too long for a model."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tunewise.errors import DataError
from tunewise.models.door import Door
from tunewise.rungs.prompt import BYTES_PER_TOKEN, layout_of, prompt_tokens, too_long
from tunewise.rungs.rung import Workbench

SAMPLE = 40  # rows whose tokens are counted for the plan


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
    said = too_long(bench.door, layout_of(bench), (*bench.parts.selection, *bench.parts.certification))
    if said is not None:
        raise DataError(said)
