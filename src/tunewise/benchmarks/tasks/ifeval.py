"""IFEval (Zhou et al. 2023): does the answer follow instructions that can be checked by a rule?

A row:  {"prompt": "Describe a lighthouse. Do not use any commas.",
         "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
Asked:  the prompt as a chat, answered greedily with up to 1,280 new tokens.

Only rows whose instructions can all be checked, with complete arguments, are asked; the others are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.benchmarks.instructions import why_not_checkable
from tunewise.benchmarks.item import Benchmark, Files, Hub, Row
from tunewise.benchmarks.tasks.rows import field, identifier
from tunewise.benchmarks.tasks.rows import place as where
from tunewise.errors import DataError

MAX_NEW_TOKENS = 1280


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt with its instructions, each with its arguments."""

    id: str
    prompt: str
    instructions: tuple[tuple[str, dict[str, Any]], ...]
    group: None = None


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Prompt]:
    """The prompts of rows that can be checked."""
    return [
        Prompt(
            str(row.get("key", identifier(row, number))),
            field(row, "prompt", str),
            tuple(
                (name, given(row, place))
                for place, name in enumerate(field(row, "instruction_id_list", list))
            ),
        )
        for number, row in enumerate(rows)
        if missing(row) is None
    ]


def missing(row: Row) -> str | None:
    """Why a row cannot be checked, None where it can."""
    names = field(row, "instruction_id_list", list)
    if not names or not isinstance(row.get("kwargs"), list | tuple) or not row["kwargs"]:
        return "the arguments are not complete"
    reasons = (why_not_checkable(name, given(row, place)) for place, name in enumerate(names))
    return next((reason for reason in reasons if reason), None)


def given(row: Row, place: int) -> dict[str, Any]:
    """Arguments of the instruction at that place; a request that is to be repeated is the prompt itself."""
    arguments = row["kwargs"][place] if place < len(row["kwargs"]) else None
    if not isinstance(arguments, dict | None):
        raise DataError(
            f"{where(row)}: expected each of kwargs as an object {{...}}, got {arguments!r}"[:300]
        )
    return {name: value for name, value in (arguments or {}).items() if value is not None}


BENCHMARK = Benchmark(
    name="ifeval",
    about="instructions that a rule can check",
    kind="instructions",
    main="prompts_followed",
    files=Files(("ifeval/*.jsonl", "ifeval*.jsonl")),
    hub=Hub("google/IFEval", "train"),
    read=read,
    unusable=missing,
)
