"""ARC-easy (Clark et al. 2018): school science questions with three to five answers.

A row:  {"question": "What do plants take in through their roots?",
         "choices": ["water", "light", "sound", "heat"], "answer_index": 0}
Read:   "Question: What do plants take in through their roots?\\nAnswer:" + " water"
"""

from collections.abc import Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row, multiple_choice
from tunewise.benchmarks.tasks.rows import choices_and_gold, field, identifier


def read(rows: Sequence[Row], shots: Sequence[Row]) -> list[Item]:
    """Items of rows with question, choices and the right answer."""
    items = []
    for number, row in enumerate(rows):
        choices, gold = choices_and_gold(row)
        context = f"Question: {field(row, 'question', str)}\nAnswer:"
        items.append(multiple_choice(identifier(row, number), context, choices, gold))
    return items


BENCHMARK = Benchmark(
    name="arc_easy",
    about="school science, easy",
    kind="choice",
    main="acc_norm",
    files=Files(("arc/arc_easy*.jsonl", "arc_easy/*.jsonl", "arc_easy*.jsonl")),
    hub=Hub("allenai/ai2_arc", "test", "ARC-Easy"),
    read=read,
)
