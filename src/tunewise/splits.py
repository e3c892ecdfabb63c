"""Train / selection / certification: stable parts, groups and near-duplicates together, overlaps reported."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunewise.clusters import (
    PART_NAMES,
    Clusters,
    PartName,
    answered_by,
    cluster,
    draws,
    exchanges_in,
    holds_exchange,
    words_of,
)
from tunewise.data import Example
from tunewise.errors import DataError
from tunewise.near import near_to, normalised, shingles
from tunewise.task import Split

OverlapKind = Literal["exact", "normalised", "near"]
Learnt = Literal["train", "selection", "general"]  # ``general``: rows beside the task's own

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

    clusters: how many clusters the rows form that stay together.
    notes: what the user should read. overlaps: only where the user gave the parts.
    units: of the certification rows that are no draw of their own, the draw: a group, near-duplicates that
    the split took as a whole, or one chat.
    """

    train: tuple[Example, ...]
    selection: tuple[Example, ...]
    certification: tuple[Example, ...]
    clusters: int
    notes: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)

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
        leaks = [overlap for overlap in self.overlaps if overlap.kind != "near"]
        leaked = {words_of(leak.certification) for leak in leaks}
        told = frozenset().union(*(answered_by(leak.certification) for leak in leaks))
        return tuple(
            row for row in self.selection if words_of(row) not in leaked and not holds_exchange(row, told)
        )

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
    (normalised word 3-grams) has Jaccard >= 0.8 with that of a row of the cluster, joins it; so does a row
    whose earlier turns hold a row of the cluster with its answer, or the other way round. A row that
    joins none founds one, whose part follows from SHA-256 of its group or key. A row that joins several
    merges them: certification if any is, else selection if any is. So rows that are appended never
    take a row out of certification. What is drawn is a cluster, so certification reads one row of each:
    its rows are right or wrong together. Raises DataError below 16 of them.
    """
    clusters = cluster(rows, [_part_by_hash(row, split) for row in rows])
    members: dict[PartName, list[Example]] = {name: [] for name in PART_NAMES}
    for number, row in enumerate(rows):
        members[clusters.part(number)].append(row)
    train, selection, certification = (tuple(members[name]) for name in PART_NAMES)
    remedy = f"add rows ({len(rows)} now) or raise split.certification ({split.certification:g} now)"
    large = _cluster_notes(rows, clusters)
    units = _units(certification)
    _require_enough(certification, units, "; ".join([remedy, *large]))
    notes = [*_size_notes(train, selection, certification, units), *large]
    return Parts(train, selection, certification, len(clusters.sizes()), tuple(notes), units=units)


def parts_from_files(
    train: Sequence[Example], selection: Sequence[Example], certification: Sequence[Example]
) -> Parts:
    """Parts as the user gave them, with the overlaps of certification with the other two.

    Per certification row and part the closest row is reported. ``exact``: the same turns (without the
    system's), or the row with its answer among the other's earlier turns; ``normalised``: the same words in
    them; ``near``: Jaccard >= 0.8 of the last user turns. A note says how many selection rows stand in train.
    Near-duplicates within certification are kept: these rows are the user's own sample. Raises DataError
    below 16 certification rows (groups, if grouped).
    """
    units = {row.key: row.group for row in certification if row.group is not None}
    _require_enough(certification, units, "add rows to the certification file")
    rows = (*train, *selection, *certification)
    clusters = cluster(rows, [0] * len(rows))
    overlaps = (
        *overlaps_of(certification, train, "train"),
        *overlaps_of(certification, selection, "selection"),
    )
    notes = _size_notes(train, selection, certification, units)
    if copies := list(overlaps_of(selection, train, "train")):
        notes.append(
            f"{len(copies)} of {len(selection)} selection rows also stand in train, or nearly (the first: "
            f"{_where(copies[0].certification)}, and {_where(copies[0].other)}): prompts and checkpoints are "
            "chosen on rows that they were made from; take them out of one of the two"
        )
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
        units,
    )


def certification_order(parts: Parts, seed: int) -> tuple[Example, ...]:
    """The fixed random order shared by all rungs, with one random row of each of ``units``.

    It follows from SHA-256 of seed and content, so that appended rows leave the order of the others.
    """
    units: defaultdict[str, list[Example]] = defaultdict(list)
    for row in parts.certification:
        units[parts.units.get(row.key, row.key)].append(row)
    # The order has a hash of its own: ordered by the hash that chose its row, a large group would come first.
    chosen = [min(rows, key=lambda row: _hash(f"{seed}:pick:{row.key}")) for rows in units.values()]
    return tuple(sorted(chosen, key=lambda row: _place_in_order(row, seed)))


def _place_in_order(row: Example, seed: int) -> int:
    return _hash(f"{seed}:row:{row.key}" if row.group is None else f"{seed}:group:{row.group}")


def _units(certification: Sequence[Example]) -> dict[str, str]:
    """Of each certification row that is no draw of its own: the key of the first row of its draw."""
    found = draws(certification, cluster(certification, [0] * len(certification)))
    sizes = found.sizes()
    firsts = [found.first(number) for number in range(len(certification))]
    return {
        row.key: certification[first].key
        for row, first in zip(certification, firsts, strict=True)
        if sizes[first] > 1
    }


def _hash(text: str) -> int:
    """The first 53 bits of SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 11


def _part_by_hash(row: Example, split: Split) -> int:
    """Position in PART_NAMES of the part in which this row would found a cluster."""
    share = _hash(f"row:{row.key}" if row.group is None else f"group:{row.group}") / 2**53
    if share < split.certification:
        return 2
    return 1 if share < split.certification + split.selection else 0


def _verbatim(row: Example) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, turn.content.strip()) for turn in row.turns if turn.role != "system")


def overlaps_of(
    certification: Sequence[Example], others: Sequence[Example], part: Learnt
) -> Iterator[Overlap]:
    """For each certification row the closest of the others, where one is close."""
    exact = {_verbatim(row): row for row in reversed(others)}
    same_words = {words_of(row): row for row in reversed(others)}
    shown = {said: others[holders[0]] for said, holders in exchanges_in(others).items()}
    texts, other_texts = (
        [shingles(normalised(row.input)) for row in part] for part in (certification, others)
    )
    for row, (numbers, similar) in zip(certification, near_to(texts, other_texts), strict=True):
        told = next((shown[said] for said in answered_by(row) if said in shown), None) if shown else None
        if other := exact.get(_verbatim(row)) or told:
            yield Overlap("exact", row, other, part, 1.0)
        elif other := same_words.get(words_of(row)):
            yield Overlap("normalised", row, other, part, 1.0)
        elif len(numbers):
            best = int(similar.argmax())
            yield Overlap("near", row, others[numbers[best]], part, float(similar[best]))


def _items(certification: Sequence[Example], units: Mapping[str, str]) -> tuple[int, str, str]:
    """How many independent draws these rows are, and what one and several are called."""
    items = len({units.get(row.key, row.key) for row in certification})
    if any(row.group is not None for row in certification):
        return items, "group", "groups"
    if items < len(certification):
        return items, "different row", "different rows"
    return items, "row", "rows"


def _require_enough(certification: Sequence[Example], units: Mapping[str, str], remedy: str) -> None:
    items, one, several = _items(certification, units)
    if items < MIN_CERTIFICATION:
        got = f"{items} {one if items == 1 else several}"
        if several != "rows":
            got += f" in {len(certification)} rows"
        if several == "groups":
            remedy = f"leave out split.group, or name a field with more different values there; else {remedy}"
        raise DataError(
            f"certification needs at least {MIN_CERTIFICATION} {several} for a verdict, got {got}; {remedy}"
        )


def _size_notes(
    train: Sequence[Example],
    selection: Sequence[Example],
    certification: Sequence[Example],
    units: Mapping[str, str],
) -> list[str]:
    notes = []
    if not train:
        notes.append("the train part is empty: no examples for prompts and nothing to train on")
    if not selection:
        notes.append("the selection part is empty: prompts and settings cannot be chosen by measurement")
    items, _, several = _items(certification, units)
    if items < len(certification):
        if several == "groups":
            notes.append(
                f"certification takes one random row of each of its {items} groups ({len(certification)} "
                "rows), since rows of a group are not independent"
            )
        else:
            notes.append(
                f"certification reads {items} of its {len(certification)} rows: of near-duplicates, and of "
                "the rows of one chat, one that is drawn at random, since they are right or wrong together"
            )
    return notes


def _cluster_notes(rows: Sequence[Example], clusters: Clusters) -> list[str]:
    """A note where one cluster of near-duplicates holds a large share of all rows."""
    root, size = max(clusters.sizes().items(), key=lambda item: (item[1], -item[0]))
    if size < LARGE_CLUSTER * len(rows) or size < MIN_CERTIFICATION:
        return []
    return [
        f"{size} of {len(rows)} rows form one cluster (the first: {_where(rows[root])}) and stay in one "
        "part; where they share a long preamble, move it into 'instruction'"
    ]
