"""BoolQ (Clark et al. 2019): a yes-or-no question about a passage. The majority answer is right 0.62 of the
time.

A row:  {"question": "Passage: The lighthouse was built in 1820.\\nQuestion: is the lighthouse older than a "
         "century?", "choices": ["no", "yes"], "answer_index": 1}
Read:   "The lighthouse was built in 1820.\\nQuestion: is the lighthouse older than a century?\\nAnswer:" + "
yes"

Rows as published (passage, question, label) are read the same.
"""

from collections.abc import Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row, multiple_choice
from tunewise.benchmarks.tasks.rows import checked, choices_and_gold, field, identifier


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows in either form."""
    items = []
    for number, row in enumerate(rows):
        question = field(row, "question", str)
        if "passage" in row:
            context = f"{field(row, 'passage', str)}\nQuestion: {question}?\nAnswer:"
            choices, gold = checked(row, ("no", "yes"), field(row, "label", int))
        else:
            context = f"{question.removeprefix('Passage: ')}\nAnswer:"
            choices, gold = choices_and_gold(row)
        items.append(multiple_choice(identifier(row, number), context, choices, gold))
    return items


BENCHMARK = Benchmark(
    name="boolq",
    about="yes or no, about a passage",
    kind="choice",
    main="acc",
    files=Files(("boolq/*.jsonl", "boolq*.jsonl")),
    hub=Hub("aps/super_glue", "validation", "boolq"),
    read=read,
)
