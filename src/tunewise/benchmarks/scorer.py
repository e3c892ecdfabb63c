"""Items -> scores, with a local model: tokenised, looked up, read, remembered."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.benchmarks.encode import encode
from tunewise.benchmarks.item import Item
from tunewise.benchmarks.kept import KeptScores, Value
from tunewise.benchmarks.scores import Scored, scored
from tunewise.errors import WorldError
from tunewise.models import weights
from tunewise.models.local import LocalDoor
from tunewise.models.token_trees import Question

PART = 1000  # items that are read before they are kept: a run that is stopped loses at most these


@dataclass(frozen=True, slots=True)
class Outcome:
    """Scores in the order of the items. cut: ids of items whose beginning did not fit into the model.
    found: items that were known from before. seconds: of tokenising and reading, without loading weights.
    errored: ids of items that got no score and are not among ``items``."""

    items: list[Scored]
    cut: tuple[str, ...]
    found: int
    seconds: float
    errored: tuple[str, ...] = ()


def refuse_no_numbers(model: str, values: Sequence[Value]) -> None:
    """Raise WorldError where log-probabilities are no numbers: any pick among them would be made up."""
    broken = sum(any(map(math.isnan, logprobs)) for logprobs, _ in values)
    if broken:
        raise WorldError(
            f"{model}: the log-probabilities of {broken} of {len(values)} items are no numbers, so nothing "
            "can be counted. Weights that overflowed while they were trained or converted do that; take an "
            "earlier checkpoint, or train at a lower rate."
        )


class LocalScorer:
    """Scores items with weights on this machine; they are loaded at the first item that is not known.

    model: ``embedded``, a folder or a hub id; adapter: a folder in PEFT's layout. keep: look scores up in the
    user's cache folder and leave new ones there. Raises SettingError for what cannot be used.
    """

    def __init__(self, model: str | Path, adapter: Path | None = None, *, keep: bool = True) -> None:
        self.door = LocalDoor(model, adapter=adapter)
        self.tokenizer = self.door.tokenizer
        self.window = self.door.context_window
        self.kept = KeptScores(self.door.fingerprint) if keep else None
        self._reader: Any = None

    def score(self, items: Sequence[Item], told: Callable[[int, int], None] | None = None) -> Outcome:
        """One Scored per item, in order. told: called with items done and items to do."""
        started, loading = time.perf_counter(), 0.0
        encoded = encode(self.tokenizer, items, self.window)
        known = self.kept.find(encoded.questions) if self.kept else {}
        missing = [number for number in range(len(items)) if number not in known]
        if missing:
            loading = self._load()
            size = PART if self.kept else len(missing)
            for begin in range(0, len(missing), size):
                some = missing[begin : begin + size]
                values = self._read(
                    [encoded.questions[number] for number in some], len(known), len(items), told
                )
                known |= dict(zip(some, values, strict=True))
        results = []
        for number, (item, question) in enumerate(zip(items, encoded.questions, strict=True)):
            tokens = sum(len(s) - first for s, first in zip(question.sequences, question.firsts, strict=True))
            results.append(scored(item, *known[number], tokens))
        seconds = time.perf_counter() - started - loading
        return Outcome(results, encoded.cut, len(items) - len(missing), seconds)

    def _read(
        self, asked: Sequence[Question], done: int, all_items: int, told: Callable[[int, int], None] | None
    ) -> list[Value]:
        """Values of some questions, kept before they count; ``done`` of ``all_items`` were known before."""
        say = None if told is None else lambda more: told(done + more, all_items)
        values = [(reading.logprobs, reading.greedy) for reading in self._reader.read(asked, say)]
        refuse_no_numbers(str(self.door.adapter or self.door.folder), values)
        if self.kept:
            self.kept.keep(asked, values)
        return values

    def _load(self) -> float:
        """Weights in memory; seconds it took."""
        started = time.perf_counter()
        if self._reader is None:
            from tunewise.models.tree_scoring import scorer_for

            self._reader = scorer_for(weights.load_model(self.door.folder, self.door.adapter))
        return time.perf_counter() - started

    def close(self) -> None:
        """Let go of the weights."""
        self._reader = None
        self.door.close()
