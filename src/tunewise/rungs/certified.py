"""General rows that hold certification items: a verdict on what was trained on says nothing.

``splits`` looks at the three parts; the files that stand beside them (``training.mix``, ``training.kl``, and
``training.cpt.general`` where a mix trains on it) are looked at here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewise.clusters import answered_by, holds_exchange, words_of
from tunewise.data import Example, read_inputs
from tunewise.rungs.rung import Workbench
from tunewise.rungs.said import Said
from tunewise.splits import overlaps_of
from tunewise.task import Task

NAMED = 3  # rows named in a refusal
_seen: dict[tuple[object, ...], "Found"] = {}  # every rung of a climb asks, and files are long


@dataclass(frozen=True, slots=True)
class Found:
    """Certification items in a file of general rows. rows: the places of those that hold one, word for word.

    near: certification items that nearly stand in it.
    """

    rows: tuple[str, ...]
    near: int


def general_files(task: Task) -> Iterator[tuple[str, Path]]:
    """The files that are trained on beside the task's rows, each with its key in the task file."""
    training = task.training
    for key, section in (("training.mix", training.mix), ("training.kl", training.kl)):
        if section is not None:
            yield f"{key}.general", section.general
    if training.cpt is not None and training.cpt.general is not None and training.mix is not None:
        yield "training.cpt.general", training.cpt.general


def in_general_data(bench: Workbench) -> str | None:
    """Why nothing may be trained beside this general data; None when it holds no certification item.

    Held is an item whose turns a row has, case and punctuation apart, or whose question and answer both stand
    in the row. Raises DataError where a file cannot be read.
    """
    for key, file in general_files(bench.task):
        found = found_in(file, bench.parts.certification)
        if found.rows:
            more = f" and {len(found.rows) - NAMED} more" if len(found.rows) > NAMED else ""
            return (
                f"{len(found.rows)} rows of {key} hold certification items "
                f"({', '.join(found.rows[:NAMED])}{more}): a verdict on what was trained on says nothing; "
                "take them out of the file"
            )
    return None


def near_notes(bench: Workbench) -> list[str]:
    """What the user should know of general rows that nearly say what certification asks."""
    return [
        f"{near} certification items nearly stand in {key} ({file}): figures may be better than on new ones"
        for key, file in general_files(bench.task)
        if (near := found_in(file, bench.parts.certification).near)
    ]


def found_in(file: Path, certification: Sequence[Example]) -> Found:
    """What the file holds of certification; read once for each state of both."""
    state = file.stat()
    mark = (str(file.resolve()), state.st_mtime_ns, state.st_size, *(item.key for item in certification))
    if mark not in _seen:
        rows = read_inputs(file).examples  # with replay rows may have no answer
        overlaps = list(overlaps_of(certification, rows, "general"))
        exact = [one.certification for one in overlaps if one.kind != "near"]
        same = {words_of(one) for one in exact}
        told = frozenset().union(*map(answered_by, exact))
        said = Said(certification)
        held = [
            row
            for row in rows
            if words_of(row) in same or holds_exchange(row, told) or said.stands_in(text_of(row))
        ]
        near = sum(one.kind == "near" for one in overlaps)
        _seen[mark] = Found(tuple(f"{row.source}:{row.line}" for row in held), near)
    return _seen[mark]


def text_of(row: Example) -> str:
    """All that a row says."""
    return "\n".join([*(turn.content for turn in row.turns), *([row.answer] if row.references else [])])
