"""A fixed set of train examples in the prompt; how many and which is chosen on the selection part."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from tunewise.data import Example
from tunewise.retrieval.bm25 import tokens_of
from tunewise.rungs.prompt import PromptCandidate, Shot, layout_of
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.search import Arm, calls_of, choose

SIZES = (1, 3, 5, 8, 10)
POOL = 300  # train rows that are looked at for the covering draw; its cost grows with the square
LONG = 3  # rows longer than this many medians are left out: they crowd out the others

# (draw, sizes): the covering draw at every size, two seeded ones where examples matter most.
# 10 arms on 10 items, 5 on 12 more, 2 on 26 more: 212 calls.
PLAN = (("cover", SIZES), ("seeded-1", (3, 5, 10)), ("seeded-2", (5, 10)))


class FewShot:
    """Shows the model some right answers before it asks."""

    name = "few-shot"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be train rows to show."""
        return None if bench.parts.train else "there are no train rows to show as examples"

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        rows = len(bench.parts.train)
        arms = sum(len(_sizes_there(sizes, rows)) for _, sizes in PLAN)
        return Outlook(calls_of(bench, arms), shots=(min(rows, min(SIZES)), min(rows, max(SIZES))))

    def build(self, bench: Workbench) -> PromptCandidate:
        """See Rung. At most 212 calls on selection items."""
        pool = usable(bench.parts.train)
        layout = layout_of(bench)
        arms = []
        for draw, sizes in PLAN:
            shots = [Shot.of(example) for example in drawn(pool, draw, bench.seed, max(sizes))]
            for k in _sizes_there(sizes, len(shots)):
                chosen = tuple(reversed(shots[:k]))  # the first drawn is the best and stands last
                candidate = PromptCandidate(self.name, bench.door, replace(layout, shots=chosen))
                arms.append(Arm({"k": k, "draw": draw}, candidate))
        found = choose(bench, self.name, arms)
        return found.with_facts(shots=[shot.key for shot in found.layout.shots])


def _sizes_there(sizes: Sequence[int], rows: int) -> list[int]:
    """The sizes that the drawn rows allow, at least one."""
    return [k for k in sizes if k <= rows] or [rows]


def usable(train: Sequence[Example]) -> list[Example]:
    """Train rows fit for prompts: those far longer than the rest are left out."""
    lengths = [_length(example) for example in train]
    limit = LONG * median(lengths)
    return [example for example, length in zip(train, lengths, strict=True) if length <= limit]


def _length(example: Example) -> int:
    return sum(len(turn.content) for turn in example.turns) + len(example.answer)


def drawn(pool: Sequence[Example], draw: str, seed: int, most: int) -> list[Example]:
    """Up to ``most`` examples, the best first, different answers before a second of the same.

    draw ``cover``: typical examples that lie near as many others as possible. Any other name seeds
    a random draw.
    """
    mixed = list(pool)
    random.Random(f"{seed} {draw}").shuffle(mixed)
    ordered = _covering(mixed[:POOL], most) if draw == "cover" else mixed
    return _answers_take_turns(ordered, Counter(example.answer for example in pool))[:most]


def _answers_take_turns(ordered: Sequence[Example], frequency: Counter[str]) -> list[Example]:
    """One example of each answer, the frequent answers first, then a second of each, and so on.

    Where nearly every row has an answer of its own (free text, JSON) the order stays as it is.
    """
    if len(frequency) > sum(frequency.values()) / 2:
        return list(ordered)
    by_answer: dict[str, list[Example]] = defaultdict(list)
    for example in ordered:
        by_answer[example.answer].append(example)
    answers = sorted(by_answer, key=lambda answer: -frequency[answer])
    longest = max(len(rows) for rows in by_answer.values())
    return [by_answer[a][turn] for turn in range(longest) for a in answers if turn < len(by_answer[a])]


def _covering(pool: Sequence[Example], most: int) -> list[Example]:
    """The pool, reordered: each next example adds most to the summed likeness of rows to their nearest.

    Greedy facility location over the Jaccard likeness of word sets of input and answer (within 1 - 1/e
    of the best choice of each size: Nemhauser, Wolsey and Fisher, 1978). With few distinct answers it
    is done for each answer apart, so that each answer's first example is its most typical one.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(pool):
        rows_of[example.answer].append(place)
    apart = len(rows_of) <= len(pool) / 2
    likeness = _jaccard([set(tokens_of(f"{example.input}\n{example.answer}")) for example in pool])
    groups = list(rows_of.values()) if apart else [list(range(len(pool)))]
    return [pool[place] for group in groups for place in _greedy(likeness, group, most)]


def _greedy(likeness: np.ndarray, group: list[int], most: int) -> list[int]:
    """Up to ``most`` places of ``group``, in the order in which facility location takes them."""
    near = likeness[np.ix_(group, group)]
    covered = np.zeros(len(group))
    taken: list[int] = []
    for _ in range(min(most, len(group))):
        gain = np.maximum(near, covered[:, None]).sum(axis=0)
        gain[taken] = -1.0
        best = int(gain.argmax())
        taken.append(best)
        covered = np.maximum(covered, near[:, best])
    return [group[place] for place in taken]


def _jaccard(words: Sequence[set[str]]) -> np.ndarray:
    """Shape (rows, rows): size of the intersection over size of the union; 0 for two empty sets."""
    vocabulary = {word: place for place, word in enumerate(sorted(set().union(*words)))}
    has = np.zeros((len(words), len(vocabulary)))
    for row, own in enumerate(words):
        has[row, [vocabulary[word] for word in own]] = 1.0
    shared = has @ has.T
    sizes = has.sum(axis=1)
    union = sizes[:, None] + sizes[None, :] - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result
