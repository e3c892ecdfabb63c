"""HellaSwag (Zellers et al. 2019): which ending goes on from here? Four endings, chance 0.25.

A row:  {"activity_label": "Baking bread", "question": "A woman kneads dough on a table. She",
         "choices": ["puts it into a warm bowl.", "flies over it.", "paints the wall.", "reads to it."],
         "answer_index": 0}
Read:   "Baking bread: A woman kneads dough on a table. She" + " puts it into a warm bowl."

Rows as published (ctx_a, ctx_b, endings, label) are cleaned as the field does: bracketed marks of WikiHow
removed, " [title]" made ". ", double spaces made one, ctx_b capitalised. Rows with ``question`` are taken as
they are.
"""

import re
from collections.abc import Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row, multiple_choice
from tunewise.benchmarks.tasks.rows import checked, choices_and_gold, field, identifier, number_of


def cleaned(text: str) -> str:
    """A text without WikiHow's marks."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows in either form."""
    items = []
    for number, row in enumerate(rows):
        label = field(row, "activity_label", str)
        if "ctx_a" in row:
            context = cleaned(f"{label}: {field(row, 'ctx_a', str)} {field(row, 'ctx_b', str).capitalize()}")
            endings, _ = checked(row, field(row, "endings", list), 0)
            choices, gold = checked(row, [cleaned(ending) for ending in endings], number_of(row, "label"))
        else:
            context = f"{label}: {field(row, 'question', str)}"
            choices, gold = choices_and_gold(row)
        items.append(multiple_choice(identifier(row, number), context, choices, gold))
    return items


BENCHMARK = Benchmark(
    name="hellaswag",
    about="which ending goes on from here",
    kind="choice",
    main="acc_norm",
    files=Files(("hellaswag/hellaswag_val*.jsonl", "hellaswag/*.jsonl", "hellaswag*.jsonl")),
    hub=Hub("Rowan/hellaswag", "validation"),
    read=read,
)
