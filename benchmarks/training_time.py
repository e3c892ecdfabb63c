"""Published training speed against the estimate: tokens per second, row by row, by source and GPU.

    python benchmarks/training_time.py ../shared/data/training_memory/measured.csv

Compared are rows with a speed, a known GPU, and a length. Left out and counted: float8 and context-parallel
runs, which the estimate does not model. fms-acceleration and torchtitan publish tokens per GPU, torchtune the
sum. A peer that runs offline does not exist for LoRA; beside ours stands the usual "6 FLOPs per parameter and
token at 40 % of the peak". The constants were fitted on the fms rows (in-sample); all other rows are out of
sample.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation.compute import speed
from tunewise.estimation.hardware import find_gpu, load_hardware
from tunewise.estimation.spelling import model_of, setup_of

RULE_UTILISATION = 0.40


def main() -> None:
    """Print one row per source, GPU and method, and the figures over all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, help="measured.csv")
    parser.add_argument("--rows", action="store_true", help="print every row")
    given = parser.parse_args()
    errors: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    left_out: dict[str, int] = defaultdict(int)
    for row in csv.DictReader(given.measured.open(encoding="utf-8")):
        found = compared(row)
        if isinstance(found, str):
            left_out[found] += 1
            continue
        fidelity = "A" if "fid=A" in row["notes"] else "B"
        key = (row["id"].split("-")[0], row["gpu_model"], row["method"], fidelity)
        errors[key].append(found)
        if given.rows:
            print(row["id"], row["model"], row["method"], row["other"][:60], f"{found[0]:+.0%}")
    show(errors)
    print("\nLeft out: " + "; ".join(f"{count} rows: {why}" for why, count in sorted(left_out.items())))


def compared(row: dict[str, str]) -> tuple[float, float] | str:
    """Relative error of our rate and of the rule's, or why the row is left out."""
    if not row["tokens_per_s"]:
        return "no speed"
    if not row["gpu_model"] or not row["seq_len"] or not row["micro_batch"] or not row["gpus"]:
        return "GPU, length or batch not stated"
    if "Float8" in row["other"] or "context parallel" in row["other"]:
        return "float8 or context parallel"
    request: dict[str, Any] = {key: value for key, value in row.items() if value != ""}
    warnings: list[str] = []
    try:
        shape, setup = model_of(request, warnings), setup_of(request, warnings)
        gpu = find_gpu(row["gpu_model"], load_hardware())
        rate = speed(shape, setup, gpu).tokens_per_second.expected
    except SettingError as error:
        return str(error)
    number = setup.gpus
    measured = float(row["tokens_per_s"]) * (1 if row["id"].startswith("torchtune") else number)
    rule = RULE_UTILISATION * gpu.tflops * 1e12 * number / (6 * shape.parameters())
    return rate / measured - 1, rule / measured - 1


def show(errors: dict[tuple[str, ...], list[tuple[float, float]]]) -> None:
    """Medians of absolute errors, ours and the rule's, and the share of our rows within 30 %."""
    print("| source | GPU | method | fidelity | rows | ours, median | bias | within 30 % | 6ND at 40 % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for key, pairs in sorted(errors.items()):
        print(f"| {' | '.join(key)} {cells(pairs)}")
    for name, wanted in (
        ("all", lambda key: True),
        ("fidelity A", lambda key: key[3] == "A"),
        ("not fitted on", lambda key: key[0] != "fms"),
        ("not fitted on, fidelity A", lambda key: key[0] != "fms" and key[3] == "A"),
    ):
        pairs = [pair for key, found in errors.items() if wanted(key) for pair in found]
        print(f"| **{name}** | | | {cells(pairs)}")


def cells(pairs: list[tuple[float, float]]) -> str:
    """The figures of a row of the table."""
    ours = [one for one, _ in pairs]
    within = sum(abs(error) <= 0.3 for error in ours) / len(ours)
    return (
        f"| {len(ours)} | {median(map(abs, ours)):.1%} | {median(ours):+.1%} | {within:.0%} "
        f"| {median(abs(rule) for _, rule in pairs):.0%} |"
    )


if __name__ == "__main__":
    main()
