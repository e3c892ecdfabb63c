"""Rows that stay together in one part: near-duplicates, groups, and the rows that one chat was cut into."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunewise.data import Example, reference_text
from tunewise.near import Shingles, near_to, normalised, shingles

PartName = Literal["train", "selection", "certification"]
PART_NAMES: tuple[PartName, ...] = ("train", "selection", "certification")  # a merge takes the last of two
Said = tuple[tuple[str, str], ...]  # roles and the words of turns
CANNED = 3  # different next turns up to which an exchange belongs to one chat and its variants


class Clusters:
    """Rows by cluster; a cluster goes by its first row and holds its part."""

    def __init__(self, rows: int) -> None:
        self._first: NDArray[np.int64] = np.arange(rows)  # row -> first row of its cluster
        self._part: dict[int, int] = {}  # first row -> position in PART_NAMES

    def of(self, rows: NDArray[np.int64] | Sequence[int]) -> set[int]:
        """The clusters of these rows."""
        return set(np.unique(self._first[rows]).tolist())

    def add(self, row: int, joined: set[int], alone: int) -> None:
        """Add the next row: to these clusters, merging them, or where there are none to a new one."""
        first = min(joined, default=row)
        self._part[first] = max((self._part.pop(cluster) for cluster in joined), default=alone)
        self._first[row] = first
        for cluster in joined - {first}:
            self._first[self._first == cluster] = first

    def first(self, row: int) -> int:
        """The first row of this row's cluster."""
        return int(self._first[row])

    def part(self, row: int) -> PartName:
        return PART_NAMES[self._part[self.first(row)]]

    def sizes(self) -> Counter[int]:
        """Rows of each cluster by its first row."""
        return Counter(self._first.tolist())


def cluster(rows: Sequence[Example], alone: Sequence[int]) -> Clusters:
    """Cluster rows in file order; ``alone``: the part of each row if it founds a cluster.

    Near-duplicates are rows whose last turns are alike after the same turns: "Thanks!" ends many talks.
    """
    clusters = Clusters(len(rows))
    said = [(before(row), shingles(normalised(row.input))) for row in rows]
    first_of: dict[tuple[Said, Shingles], int] = {}
    for number, one in enumerate(said):
        first_of.setdefault(one, number)
    holders = np.array(list(first_of.values()), dtype=np.int64)  # the first row of each
    texts = [text for _, text in first_of]
    near = near_to(texts, texts)
    first_of_group: dict[str, int] = {}
    told = _tellers(rows)
    for number, (row, one) in enumerate(zip(rows, said, strict=True)):
        if first_of[one] == number:
            found = holders[next(near)[0]]
            joined = clusters.of([other for other in found[found < number] if said[other][0] == one[0]])
        else:
            joined = clusters.of([first_of[one]])
        if row.group is not None:
            joined |= clusters.of([first_of_group.setdefault(row.group, number)]) - {number}
        joined |= clusters.of([other for other in told[number] if other < number])
        clusters.add(number, joined, alone[number])
    return clusters


def before(row: Example) -> Said:
    """What was said before the last turn, without a system turn."""
    return words_of(row)[:-1]


def draws(rows: Sequence[Example], clusters: Clusters) -> Clusters:
    """Rows that are one draw, since they are right or wrong together: finer than what stays together.

    The rows of a group; the rows that one chat was cut into; near-duplicates under the same system text.
    clusters: of these rows.
    """
    found = Clusters(len(rows))
    first_of: dict[Hashable, int] = {}
    told = _tellers(rows)
    for number, row in enumerate(rows):
        earlier_turns = tuple((turn.role, normalised(turn.content)) for turn in row.turns[:-1])
        names: list[Hashable] = [(clusters.first(number), earlier_turns)]
        names += [] if row.group is None else [row.group]
        earlier = {first_of.setdefault(name, number) for name in names} - {number}
        earlier |= {other for other in told[number] if other < number}
        found.add(number, found.of(sorted(earlier)), 0)
    return found


def _tellers(rows: Sequence[Example]) -> list[list[int]]:
    """For each row the rows whose earlier turns hold it with its answer, or whose answer it holds so.

    A chat is often written out as one row per answer: a later row shows the earlier ones' answers.
    """
    holders = exchanges_in(rows)
    related: list[list[int]] = [[] for _ in rows]
    if holders:
        for number, row in enumerate(rows):
            for holder in {holder for said in answered_by(row) for holder in holders.get(said, ())}:
                related[number].append(holder)
                related[holder].append(number)
    return related


def exchanges_in(rows: Sequence[Example]) -> dict[Said, list[int]]:
    """The chats up to and with each of the assistant's earlier answers, and the rows that hold them.

    What goes on in more than CANNED ways ("Hello! How can I help?") is how all chats open and tells nothing.
    """
    holders: defaultdict[Said, list[int]] = defaultdict(list)
    follows: defaultdict[Said, set[str]] = defaultdict(set)
    for number, row in enumerate(rows):
        words = words_of(row)
        for at, (role, _) in enumerate(words[:-1]):
            if role == "assistant":
                holders[words[: at + 1]].append(number)
                follows[words[: at + 1]].add(words[at + 1][1])
    return {said: numbers for said, numbers in holders.items() if len(follows[said]) <= CANNED}


def holds_exchange(row: Example, told: Collection[Said]) -> bool:
    """Whether one of these exchanges stands among a row's earlier turns."""
    words = words_of(row)
    return any(words[:end] in told for end in range(1, len(words)))


def answered_by(row: Example) -> set[Said]:
    """The chat with each of its right answers."""
    return {(*words_of(row), ("assistant", normalised(reference_text(answer)))) for answer in row.references}


def words_of(row: Example) -> Said:
    """What a row says, without system turns, marks and case: rows of the same words are one item."""
    return tuple((turn.role, normalised(turn.content)) for turn in row.turns if turn.role != "system")
