"""Any file of multiple-choice questions in the same shape, named by its path.

A row:  {"question": "How long may a customer return a lamp?",
         "choices": ["30 days", "a year", "never"], "answer_index": 0}
Read as ARC: "Question: ...\\nAnswer:" + " 30 days". With a ``context`` in place of ``question``, that text is
taken as it is.
"""

from collections.abc import Sequence
from pathlib import Path

from tunewise.benchmarks.item import Benchmark, Files, Item, Row, multiple_choice
from tunewise.benchmarks.tasks.rows import choices_and_gold, field, identifier, place
from tunewise.errors import DataError


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows with question or context, choices and the right answer."""
    items = []
    for number, row in enumerate(rows):
        choices, gold = choices_and_gold(row)
        ready = "context" in row
        context = field(row, "context", str) if ready else f"Question: {field(row, 'question', str)}\nAnswer:"
        if not context:
            raise DataError(f"{place(row)}: 'context' is empty; leave it out where there is a question")
        items.append(multiple_choice(identifier(row, number), context, choices, gold))
    return items


def benchmark(path: Path) -> Benchmark:
    """The benchmark that a file is."""
    return Benchmark(
        name=path.name.removesuffix(".jsonl"),
        about=f"questions of {path.name}",
        kind="choice",
        main="acc_norm",
        files=Files((str(path.absolute()),)),
        read=read,
    )
