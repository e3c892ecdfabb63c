"""PIQA (Bisk et al. 2020): which of two ways reaches an everyday goal? Chance 0.5.

A row:  {"question": "Dry wet shoes overnight.",
         "choices": ["Stuff them with newspaper.", "Stuff them with ice."], "answer_index": 0}
Read:   "Question: Dry wet shoes overnight.\\nAnswer:" + " Stuff them with newspaper."

Rows as published (goal, sol1, sol2, label) are read the same.
"""

from collections.abc import Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row
from tunewise.benchmarks.tasks.arc_easy import read as read_questions


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows in either form."""
    return read_questions([as_question(row) if "goal" in row else row for row in rows], shots)


def as_question(row: Row) -> Row:
    """A published row under the names that the other benchmarks use."""
    choices = [row.get("sol1"), row.get("sol2")]
    return {**row, "question": row["goal"], "choices": choices, "answer_index": row.get("label")}


BENCHMARK = Benchmark(
    name="piqa",
    about="everyday physics",
    kind="choice",
    main="acc_norm",
    files=Files(("piqa/*.jsonl", "piqa*.jsonl")),
    hub=Hub("baber/piqa", "validation"),
    read=read,
)
