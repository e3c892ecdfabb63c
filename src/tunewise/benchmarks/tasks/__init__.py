"""The benchmarks by name: an explicit list, one small file each."""

from pathlib import Path

from tunewise.benchmarks.item import Benchmark
from tunewise.benchmarks.tasks import (
    arc_challenge,
    arc_easy,
    boolq,
    choices_file,
    hellaswag,
    ifeval,
    lambada,
    mmlu,
    piqa,
    text,
)
from tunewise.errors import SettingError
from tunewise.marked_yaml import nearest

ALL: tuple[Benchmark, ...] = (
    hellaswag.BENCHMARK,
    arc_easy.BENCHMARK,
    arc_challenge.BENCHMARK,
    mmlu.BENCHMARK,
    mmlu.FIVE_SHOTS,
    piqa.BENCHMARK,
    boolq.BENCHMARK,
    lambada.BENCHMARK,
    ifeval.BENCHMARK,
    text.BENCHMARK,
)
NAMES = tuple(benchmark.name for benchmark in ALL)


def find(name: str) -> Benchmark:
    """The benchmark of that name, or a file of multiple-choice rows. Raises SettingError for another name."""
    for benchmark in ALL:
        if benchmark.name == name:
            return benchmark
    if name.endswith(".jsonl"):
        return choices_file.benchmark(Path(name))
    raise SettingError(
        f"unknown benchmark {name!r}{nearest(name, NAMES)}; expected one of {', '.join(NAMES)}, or a .jsonl "
        "file with question, choices and answer_index in each row"
    )
