"""LAMBADA (Paperno et al. 2016, OpenAI's edition): the last word of a passage, right only if it comes first.

A row:  {"context": "He lit the lamp, took down the old map and spread it on the table. Mara bent over the",
         "continuation": "map"}
Read:   the context + " map"; also the perplexity of the last word.

Rows as published have one ``text``; its last word, cut at the last space, is what is asked for.
"""

from collections.abc import Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row
from tunewise.benchmarks.tasks.rows import field, identifier, place
from tunewise.errors import DataError


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows in either form."""
    items = []
    for number, row in enumerate(rows):
        if "text" in row:
            context, _, word = field(row, "text", str).rpartition(" ")
        else:
            context, word = field(row, "context", str), field(row, "continuation", str)
        if not context.strip() or not word.strip():
            raise DataError(f"{place(row)}: expected a passage and its last word, one of them is empty")
        items.append(Item(identifier(row, number), context, (f" {word}",)))
    return items


BENCHMARK = Benchmark(
    name="lambada",
    about="the last word of a passage",
    kind="word",
    main="acc",
    files=Files(("lambada/*.jsonl", "lambada*.jsonl")),
    hub=Hub("EleutherAI/lambada_openai", "test", "default"),
    read=read,
)
