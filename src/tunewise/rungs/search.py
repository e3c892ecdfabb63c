"""Choosing between prompts on the selection part: successive halving, with every call paid for once.

All arms answer the same few items; the better half answers more, until two are left for the rest
(Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013, with arms
compared on the same items). Items are never certification items.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tunewise.data import Example
from tunewise.models.door import Answer
from tunewise.rungs.prompt import PromptCandidate, prompt_tokens
from tunewise.rungs.rung import Workbench

STAGES = (10, 22, 48)  # items seen by all arms, by half of them, by the last two


@dataclass
class Arm:
    """One prompt to try, and what was seen of it: one value (None: no answer came) and size per item."""

    label: Mapping[str, Any]
    candidate: PromptCandidate
    values: list[float | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Mean of the values there are, None without one."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if known else None

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts better arms first: higher mean, then fewer prompt tokens."""
        return (-(self.mean if self.mean is not None else -1.0), fmean(self.tokens) if self.tokens else 0.0)

    def row(self) -> dict[str, Any]:
        """What the report shows of it."""
        tokens = round(fmean(self.tokens)) if self.tokens else None
        return {**self.label, "n": len(self.values), "mean": self.mean, "prompt_tokens": tokens}


def selection_items(bench: Workbench, most: int) -> list[Example]:
    """Up to ``most`` selection items in an order that only the seed decides, groups taking turns."""

    def place(example: Example) -> str:
        return hashlib.sha256(f"{bench.seed} {example.key}".encode()).hexdigest()

    seen: dict[str, int] = {}
    turns: list[tuple[int, Example]] = []
    for example in sorted(bench.parts.selection, key=place):
        group = example.group if example.group is not None else example.key
        turns.append((seen.get(group, 0), example))
        seen[group] = seen.get(group, 0) + 1
    return [example for _, example in sorted(turns, key=lambda turn: turn[0])][:most]


def choose(
    bench: Workbench, rung: str, arms: Sequence[Arm], stages: Sequence[int] = STAGES
) -> PromptCandidate:
    """The arm with the highest mean on the selection items, ties to fewer tokens, its facts filled in.

    Without selection items the first arm is taken, unmeasured. Facts: the winner's label, ``tried`` (one
    row per arm), ``selection_score`` and ``selection_items`` (None and 0 where nothing was measured).
    """
    items = selection_items(bench, stages[-1])
    arms = [arm for arm in arms if _fits(arm, items)] or list(arms[:1])
    left = list(arms)
    ends = _ends(stages, len(items))
    for stage, end in enumerate(ends):
        _answer(bench, rung, left, items[:end])
        left = sorted(left, key=lambda arm: arm.rank)
        if end != ends[-1]:
            left = left[: _keep(len(left), stage)]
    winner = left[0]
    return winner.candidate.with_facts(
        **winner.label,
        selection_score=winner.mean,
        selection_items=len(winner.values),
        tried=[arm.row() for arm in arms],
    )


def calls_of(bench: Workbench, arms: int, stages: Sequence[int] = STAGES) -> int:
    """How many calls ``choose`` makes at most with so many arms."""
    calls, seen = 0, 0
    for stage, end in enumerate(_ends(stages, len(bench.parts.selection))):
        calls, seen = calls + arms * (end - seen), end
        arms = min(arms, _keep(arms, stage))
    return calls


def _ends(stages: Sequence[int], items: int) -> list[int]:
    """Where each stage ends; stages beyond the items there are become one."""
    return sorted({min(stage, items) for stage in stages} - {0})


def _keep(arms: int, stage: int) -> int:
    """Half of the arms after the first stage, two after the second."""
    return max(2, (arms + 1) // 2) if stage == 0 else 2


def _fits(arm: Arm, items: Sequence[Example]) -> bool:
    """Whether nothing had to be dropped from its prompts, so that its label says what it is."""
    tags = (arm.candidate.request(example).tag for example in items)
    return not any("dropped_shots" in tag or "dropped_passages" in tag for tag in tags)


def _answer(bench: Workbench, rung: str, arms: Sequence[Arm], items: Sequence[Example]) -> None:
    """Ask each arm the items that it has not seen yet, and note values and prompt sizes."""
    asked = [(arm, example) for arm in arms for example in items[len(arm.values) :]]
    requests = [arm.candidate.request(example) for arm, example in asked]
    sizes = [prompt_tokens(bench.door, request.messages) for request in requests]
    answers: list[Answer] = []
    # one arm at a time at a local door, whose batches share an arm's long prefix; all at once at an
    # endpoint, which may have more places than one arm has items
    step = len(requests) if bench.door.concurrency > 1 else max(1, len(requests) // max(1, len(arms)))
    for start in range(0, len(requests), max(1, step)):
        bench.progress.tell(
            "building",
            rung=rung,
            text=f"trying {len(arms)} prompts on {len(items)} selection items",
            done=start,
            total=len(requests),
        )
        answers += bench.ask(bench.door, requests[start : start + step], "selection")
    for (arm, example), size, answer in zip(asked, sizes, answers, strict=True):
        arm.values.append(bench.score(example, answer).value)
        arm.tokens.append(size if answer.tokens_in is None else answer.tokens_in)
