"""ARC-challenge (Clark et al. 2018): the science questions that word statistics do not answer.

A row:  {"question": "Why does a wooden spoon stay cooler than a metal one in hot soup?",
         "choices": ["Wood conducts less heat.", "Wood is heavier.", "Metal is wet.", "Soup is cold."],
         "answer_index": 0}
Read as ARC-easy.
"""

from tunewise.benchmarks.item import Benchmark, Files, Hub
from tunewise.benchmarks.tasks.arc_easy import read

BENCHMARK = Benchmark(
    name="arc_challenge",
    about="school science, hard",
    kind="choice",
    main="acc_norm",
    files=Files(("arc/arc_challenge*.jsonl", "arc_challenge/*.jsonl", "arc_challenge*.jsonl")),
    hub=Hub("allenai/ai2_arc", "test", "ARC-Challenge"),
    read=read,
)
