"""Train / selection / certification: stable parts, groups and near-duplicates together, overlaps reported."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tunewise.data import Example
from tunewise.errors import DataError
from tunewise.near import Shingles, near_to, normalised, shingles
from tunewise.task import Split

PartName = Literal["train", "selection", "certification"]
OverlapKind = Literal["exact", "normalised", "near"]
Learnt = Literal["train", "selection", "general"]  # ``general``: rows beside the task's own

PART_NAMES: tuple[PartName, ...] = ("train", "selection", "certification")  # a merge takes the last of two
MIN_CERTIFICATION = 16  # the first look of the sequential test
LARGE_CLUSTER = 0.2  # share of all rows from which one cluster is worth a note


@dataclass(frozen=True, slots=True)
class Overlap:
    """A certification row that also stands, or nearly, in a part that rungs learn from.

    similarity: word 3-gram Jaccard of the last user turns; in [0.8, 1] where ``kind`` is ``near``.
    """

    kind: OverlapKind
    certification: Example
    other: Example
    part: Learnt
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """Kind, parts, places and keys of the two rows, and their likeness."""
        return {
            "kind": self.kind,
            "part": self.part,
            "similarity": self.similarity,
            "certification": {"key": self.certification.key, "place": _where(self.certification)},
            "other": {"key": self.other.key, "place": _where(self.other)},
        }


@dataclass(frozen=True, slots=True)
class Parts:
    """The three disjoint parts, rows in file order.

    clusters: how many clusters of near-duplicates and groups the rows form.
    notes: what the user should read. overlaps: only where the user gave the parts.
    """

    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    certification: tuple[Example, ...]
    clusters: int
    notes: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()

    def blocked_reason(self, learns_from: Collection[str] = ("train", "selection")) -> str | None:
        """Why a rung that learns from these parts cannot be certified; None when it can."""
        leaks = [o for o in self.overlaps if o.kind != "near" and o.part in learns_from]
        if not leaks:
            return None
        rows = len({leak.certification.key for leak in leaks})
        first = leaks[0]
        return (
            f"{rows} certification row{'s' if rows > 1 else ''} also stand in what it would learn from "
            f"(the first: {_where(first.certification)}, and {_where(first.other)} in {first.part}); "
            "take them out of one of the two"
        )

    def clean_selection(self) -> tuple[Example, ...]:
        """The selection rows that do not overlap with certification, exactly or but for marks and case."""
        leaked = {words_of(overlap.certification) for overlap in self.overlaps if overlap.kind != "near"}
        return tuple(row for row in self.selection if words_of(row) not in leaked)

    def near_keys(self) -> frozenset[str]:
        """Keys of certification rows near to a train or selection row, for the figure without them."""
        return frozenset(overlap.certification.key for overlap in self.overlaps if overlap.kind == "near")


def _where(row: Example) -> str:
    return f"{row.source}, line {row.line}"


def overlap_lines(parts: Parts) -> list[str]:
    """How certification overlaps with the other parts, a line for each kind and part; none without any."""
    counts = Counter((overlap.kind, overlap.part) for overlap in parts.overlaps)
    return [
        f"overlap, {kind}: {count} certification rows with {part}" for (kind, part), count in counts.items()
    ]


def near_warnings(parts: Parts) -> tuple[str, ...]:
    """What near overlaps in parts that the user gave mean for the figures; nothing without any."""
    near = [overlap for overlap in parts.overlaps if overlap.kind == "near"]
    if not near:
        return ()
    first, rows = near[0], len(parts.near_keys())
    return (
        f"{rows} certification row{'s are' if rows > 1 else ' is'} nearly the same as train or selection rows"
        f" (the first: {_where(first.certification)}, and {_where(first.other)} in {first.part}, likeness"
        f" {first.similarity:.2f}): the figures may be better than on new inputs, and are given with and"
        " without such rows",
    )


def split_examples(rows: Sequence[Example], split: Split) -> Parts:
    """Assign each row to a part by its content; groups and near-duplicates stay together.

    Rows are taken in file order. A row of an earlier cluster's group, or whose last user turn
    (normalised word 3-grams) has Jaccard >= 0.8 with that of a row of the cluster, joins it; a row that
    joins none founds one, whose part follows from SHA-256 of its group or key. A row that joins several
    merges them: certification if any is, else selection if any is. So rows that are appended never
    take a row out of certification. Raises DataError below 16 certification rows (groups, if grouped).
    """
    clusters = _cluster(rows, [_part_by_hash(row, split) for row in rows])
    members: dict[PartName, list[Example]] = {name: [] for name in PART_NAMES}
    for number, row in enumerate(rows):
        members[clusters.part(number)].append(row)
    train, selection, certification = (tuple(members[name]) for name in PART_NAMES)
    remedy = f"add rows ({len(rows)} now) or raise split.certification ({split.certification:g} now)"
    _require_enough(certification, remedy)
    notes = [*_size_notes(train, selection, certification), *_cluster_notes(rows, clusters)]
    return Parts(train, selection, certification, len(clusters.sizes()), tuple(notes))


def parts_from_files(
    train: Sequence[Example], selection: Sequence[Example], certification: Sequence[Example]
) -> Parts:
    """Parts as the user gave them, with the overlaps of certification with the other two.

    Per certification row and part the closest row is reported. ``exact``: the same turns (without the
    system's); ``normalised``: the same words in them; ``near``: Jaccard >= 0.8 of the last user turns.
    Raises DataError below 16 certification rows (groups, if grouped).
    """
    _require_enough(certification, "add rows to the certification file")
    rows = (*train, *selection, *certification)
    clusters = _cluster(rows, [0] * len(rows))
    overlaps = (
        *overlaps_of(certification, train, "train"),
        *overlaps_of(certification, selection, "selection"),
    )
    notes = _size_notes(train, selection, certification)
    tested = {row.group for row in certification} - {None}
    shared = tested & {row.group for row in (*train, *selection)}
    if shared:
        notes.append(
            f"{len(shared)} of the {len(tested)} certification groups also stand in train or selection "
            f"(for example '{min(map(str, shared))[:60]}'): the figures may be better than on new groups"
        )
    return Parts(
        tuple(train),
        tuple(selection),
        tuple(certification),
        len(clusters.sizes()),
        tuple(notes),
        tuple(overlaps),
    )


def certification_order(parts: Parts, seed: int) -> tuple[Example, ...]:
    """The fixed random order shared by all rungs; with groups one random row of each group.

    It follows from SHA-256 of seed and content, so that appended rows leave the order of the others.
    """
    if all(row.group is None for row in parts.certification):
        return tuple(sorted(parts.certification, key=lambda row: _hash(f"{seed}:row:{row.key}")))
    groups: defaultdict[str, list[Example]] = defaultdict(list)
    for row in parts.certification:
        groups[row.group or row.key].append(row)
    # The groups' order has its own hash: ordered by the chosen row's, large groups would come first.
    ordered = sorted(groups, key=lambda group: _hash(f"{seed}:group:{group}"))
    return tuple(min(groups[g], key=lambda row: _hash(f"{seed}:pick:{row.key}")) for g in ordered)


def _hash(text: str) -> int:
    """The first 53 bits of SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 11


def _part_by_hash(row: Example, split: Split) -> int:
    """Position in PART_NAMES of the part in which this row would found a cluster."""
    share = _hash(f"row:{row.key}" if row.group is None else f"group:{row.group}") / 2**53
    if share < split.certification:
        return 2
    return 1 if share < split.certification + split.selection else 0


class _Clusters:
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

    def part(self, row: int) -> PartName:
        return PART_NAMES[self._part[int(self._first[row])]]

    def sizes(self) -> Counter[int]:
        """Rows of each cluster by its first row."""
        return Counter(self._first.tolist())


def _cluster(rows: Sequence[Example], alone: Sequence[int]) -> _Clusters:
    """Cluster rows in file order; ``alone``: the part of each row if it founds a cluster."""
    clusters = _Clusters(len(rows))
    first_of_text: dict[Shingles, int] = {}
    texts = [shingles(normalised(row.input)) for row in rows]
    for number, text in enumerate(texts):
        first_of_text.setdefault(text, number)
    holders = np.array(list(first_of_text.values()), dtype=np.int64)  # the first row of each text
    near = near_to(list(first_of_text), list(first_of_text))
    first_of_group: dict[str, int] = {}
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        if first_of_text[text] == number:
            found = holders[next(near)[0]]
            joined = clusters.of(found[found < number])
        else:
            joined = clusters.of([first_of_text[text]])
        if row.group is not None:
            joined |= clusters.of([first_of_group.setdefault(row.group, number)]) - {number}
        clusters.add(number, joined, alone[number])
    return clusters


def words_of(row: Example) -> tuple[tuple[str, str], ...]:
    """What a row says, without system turns, marks and case: rows of the same words are one item."""
    return tuple((turn.role, normalised(turn.content)) for turn in row.turns if turn.role != "system")


def _verbatim(row: Example) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, turn.content.strip()) for turn in row.turns if turn.role != "system")


def overlaps_of(
    certification: Sequence[Example], others: Sequence[Example], part: Learnt
) -> Iterator[Overlap]:
    """For each certification row the closest of the others, where one is close."""
    exact = {_verbatim(row): row for row in reversed(others)}
    same_words = {words_of(row): row for row in reversed(others)}
    texts, other_texts = (
        [shingles(normalised(row.input)) for row in part] for part in (certification, others)
    )
    for row, (numbers, similar) in zip(certification, near_to(texts, other_texts), strict=True):
        if other := exact.get(_verbatim(row)):
            yield Overlap("exact", row, other, part, 1.0)
        elif other := same_words.get(words_of(row)):
            yield Overlap("normalised", row, other, part, 1.0)
        elif len(numbers):
            best = int(similar.argmax())
            yield Overlap("near", row, others[numbers[best]], part, float(similar[best]))


def _require_enough(certification: Sequence[Example], remedy: str) -> None:
    groups = {row.group for row in certification if row.group is not None}
    items, unit = (len(groups), "group") if groups else (len(certification), "row")
    if items < MIN_CERTIFICATION:
        got = f"{items} {unit}{'' if items == 1 else 's'}"
        if groups:
            got += f" in {len(certification)} rows"
            remedy = f"leave out split.group, or name a field with more different values there; else {remedy}"
        raise DataError(
            f"certification needs at least {MIN_CERTIFICATION} {unit}s for a verdict, got {got}; {remedy}"
        )


def _size_notes(
    train: Sequence[Example], selection: Sequence[Example], certification: Sequence[Example]
) -> list[str]:
    notes = []
    if not train:
        notes.append("the train part is empty: no examples for prompts and nothing to train on")
    if not selection:
        notes.append("the selection part is empty: prompts and settings cannot be chosen by measurement")
    groups = {row.group for row in certification if row.group is not None}
    if groups and len(groups) < len(certification):
        notes.append(
            f"certification takes one random row of each of its {len(groups)} groups "
            f"({len(certification)} rows), since rows of a group are not independent"
        )
    return notes


def _cluster_notes(rows: Sequence[Example], clusters: _Clusters) -> list[str]:
    """A note where one cluster of near-duplicates holds a large share of all rows."""
    root, size = max(clusters.sizes().items(), key=lambda item: (item[1], -item[0]))
    if size < LARGE_CLUSTER * len(rows) or size < MIN_CERTIFICATION:
        return []
    return [
        f"{size} of {len(rows)} rows form one cluster (the first: {_where(rows[root])}) and stay in one "
        "part; where they share a long preamble, move it into 'instruction'"
    ]
