"""MMLU (Hendrycks et al. 2021): examination questions of 57 subjects, answered with a letter. Chance 0.25.

A row:  {"subject": "world_geography", "question": "Which ocean is the largest?",
         "choices": ["Atlantic", "Pacific", "Indian", "Arctic"], "answer_index": 1}
Read:   "The following are multiple choice questions (with answers) about world geography.\\n\\n"
        "Which ocean is the largest?\\nA. Atlantic\\nB. Pacific\\nC. Indian\\nD. Arctic\\nAnswer:" + " B"

With five shots, the first five rows of the subject's dev part stand before the question, each with its
letter, a blank line after each.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

from tunewise.benchmarks.item import Benchmark, Files, Hub, Item, Row, multiple_choice
from tunewise.benchmarks.tasks.rows import LETTERS, choices_and_gold, field, identifier, place
from tunewise.errors import DataError

ABOUT = "The following are multiple choice questions (with answers) about {}.\n\n"


def asked(row: Row) -> str:
    """The question with its lettered choices, up to where the letter is written."""
    choices, _ = choices_and_gold(row)
    if len(choices) > len(LETTERS):
        raise DataError(f"{place(row)}: expected at most {len(LETTERS)} choices, got {len(choices)}")
    listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([field(row, "question", str).strip(), *listed, "Answer:"])


def reader(shots: int) -> Callable[[Sequence[Row], Sequence[Row]], list[Item]]:
    """Rows and dev rows -> items with so many examples of their subject before them."""

    def read(rows: Sequence[Row], dev: Sequence[Row]) -> list[Item]:
        known: dict[str, list[Row]] = defaultdict(list)
        for row in dev:
            known[field(row, "subject", str)].append(row)
        items = []
        for number, row in enumerate(rows):
            subject = field(row, "subject", str)
            examples = known[subject][:shots]
            if len(examples) < shots:
                raise DataError(
                    f"{shots} examples are expected for the subject {subject}, {len(examples)} were found in "
                    "the dev rows; add them, or measure mmlu without examples"
                )
            before = "".join(f"{asked(shot)} {LETTERS[choices_and_gold(shot)[1]]}\n\n" for shot in examples)
            context = ABOUT.format(subject.replace("_", " ")) + before + asked(row)
            choices, gold = choices_and_gold(row)
            items.append(
                multiple_choice(identifier(row, number), context, LETTERS[: len(choices)], gold, subject)
            )
        return items

    return read


FILES = Files(("mmlu/mmlu_test*.jsonl", "mmlu/test*.jsonl", "mmlu_test*.jsonl"))
HUB = Hub("cais/mmlu", "test", "all")

BENCHMARK = Benchmark(
    name="mmlu",
    about="examinations of 57 subjects, no examples",
    kind="choice",
    main="acc",
    files=FILES,
    hub=HUB,
    read=reader(0),
    grouped=True,
)
FIVE_SHOTS = Benchmark(
    name="mmlu_5shot",
    about="examinations of 57 subjects, five examples",
    kind="choice",
    main="acc",
    files=FILES,
    hub=HUB,
    read=reader(5),
    shots=5,
    grouped=True,
    few=Files(("mmlu/mmlu_dev*.jsonl", "mmlu/dev*.jsonl", "mmlu_dev*.jsonl")),
    few_hub=Hub("cais/mmlu", "dev", "all"),
)
