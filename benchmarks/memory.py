"""Predicted against published memory of training runs: ours, cross-validated, beside what others predict.

    python benchmarks/memory.py [--data ../shared/data] [--peers FOLDER] [--worst 10]

Rows: ``training_memory/measured.csv``. Peak allocated is compared with ``allocated``, peak reserved and
unstated figures with ``reserved``, nvidia-smi with ``device``. Fidelity A (configuration and metric fully
known) counts.

Two cross-validations, both on fidelity-A rows; the goals must hold on the worse one:

- families: constants fitted on the large source (fms-acceleration) without one model family predict it;
- sources: constants fitted on fms-acceleration predict torchtune and torchtitan, and the other way round.

Every fit starts from counts of tensors (``PRIORS``), never from the shipped values, and is held near them
where the rows say nothing. Which tensors a stack keeps (structure) is the same in all of them.

Peers on the same rows: accelerate's ``estimate_training_usage`` and DeepSpeed's ZeRO estimators, by their own
code, given the exact parameter count (DeepSpeed from ``--peers``, a folder it was installed into, else by its
published formula); the rule of thumb (4 x weights; weights + 2 GB; half a byte per parameter + 2 GB).
"unsafe": the figure a user would plan with (ours: ``high``; theirs: the only one) is below what was measured.
"""

import argparse
import csv
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from tunewise.estimation.disk import adapter_bytes
from tunewise.estimation.memory import Memory, memory
from tunewise.estimation.models import find_model
from tunewise.estimation.rule import rule_gib
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape
from tunewise.estimation.spelling import model_of, setup_of

GIB = 2**30
LEVEL = {
    "peak_allocated": "allocated",
    "peak_reserved": "reserved",
    "unstated": "reserved",
    "nvidia-smi": "device",
}
# What counting tensors gives: logits in 16 bits, and in float32 upcast, shifted, log-softmax = 2 + 3 x 4; in
# place 2 + 4 + 2; eight chunks 2 + 10/8; norms and residuals of a block 12 h saved and 12 h on the way; no
# saving by compiling; a tenth of the moving part and the logits' 2 + 2 bytes for the allocator.
PRIORS = {
    "ce_logits": 14.0, "ce_fast": 8.0, "ce_chunked": 3.25, "block_h": 24.0, "compile_block": 1.0,
    "slack": 0.10, "logits_slack": 4.0,
}  # fmt: skip
HOLD = 0.15  # weight of a constant's distance from its prior (log) against one row's error


@dataclass(frozen=True)
class Row:
    """One published run."""

    id: str
    source: str
    family: str
    grade: str
    shape: Shape
    setup: Setup
    level: str
    measured: float
    device: float | None  # nvidia-smi of the same run, where it was published


Predict = Callable[[Row], tuple[float, float]]  # expected, and the figure a user would plan with


def rows_of(path: Path) -> list[Row]:
    """The rows with a measured figure."""
    with path.open(encoding="utf-8", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["measured_gib"]]
    found = []
    for row in table:
        notes: list[str] = []
        shape = model_of(row, notes)
        grade = re.search(r"fid=([ABC])", row["notes"])
        smi = re.search(r"nvidia_smi_gib=([\d.]+)", row["notes"])
        source = row["id"].rsplit("-", 1)[0].replace("fms", "fms-acceleration")
        found.append(
            Row(
                row["id"], source, shape.name, grade.group(1) if grade else "C", shape, setup_of(row, notes),
                LEVEL[row["metric"]], float(row["measured_gib"]), float(smi.group(1)) if smi else None,
            )
        )  # fmt: skip
    return found


def with_constants(setup: Setup, constants: Mapping[str, float] | None) -> Setup:
    """The set-up computed with these constants in place of the shipped ones."""
    if constants is None:
        return setup
    own = dict(constants)
    if setup.stack != "hf":
        own["block_h"] = max(0.0, own["block_h"] - 8.0)  # a fused norm keeps one copy less, twice
    if setup.stack == "torchtitan":
        own["logits_slack"] = 0.0  # its allocator maps pages: expandable segments
    if setup.stack == "torchtune":
        own["logits_slack"] = min(1.0, own["logits_slack"])
    return replace(setup, corrections=tuple(own.items()))


def estimate(row: Row, constants: Mapping[str, float] | None) -> Memory:
    """Our estimate of one row."""
    return memory(row.shape, with_constants(row.setup, constants))


def ours(constants: Mapping[str, float] | None) -> Predict:
    """Our prediction with some constants; None: the shipped ones."""

    def predict(row: Row) -> tuple[float, float]:
        found = getattr(estimate(row, constants), row.level)
        return found.expected, found.high

    return predict


def fit(rows: Sequence[Row]) -> dict[str, float]:
    """The constants that predict these rows best: robust least squares on relative errors."""
    names = list(PRIORS)

    def residuals(logs: np.ndarray) -> np.ndarray:
        constants = {name: PRIORS[name] * math.exp(log) for name, log in zip(names, logs, strict=True)}
        errors = []
        for row in rows:
            found = estimate(row, constants)
            errors.append(math.log(getattr(found, row.level).expected / row.measured))
            if row.device is not None:
                errors.append(0.5 * math.log(found.device.expected / row.device))
        return np.array([*errors, *(HOLD * logs)])

    start = np.zeros(len(names))
    solved = least_squares(residuals, start, loss="soft_l1", f_scale=0.03, diff_step=0.02, max_nfev=5)
    return {name: PRIORS[name] * math.exp(log) for name, log in zip(names, solved.x, strict=True)}


def by_family(rows: Sequence[Row]) -> tuple[dict[str, tuple[float, float]], dict[str, dict[str, float]]]:
    """Leave one model family out within the large source; the rest of the rows by all of it."""
    large = [row for row in rows if row.source == "fms-acceleration"]
    found, constants = {}, {}
    for family in sorted({row.family for row in large}):
        constants[family] = fit([row for row in large if row.family != family])
        predict = ours(constants[family])
        found |= {row.id: predict(row) for row in large if row.family == family}
    return found, constants


def by_source(rows: Sequence[Row]) -> tuple[dict[str, tuple[float, float]], dict[str, dict[str, float]]]:
    """Constants of each source predict the other."""
    large = [row for row in rows if row.source == "fms-acceleration"]
    small = [row for row in rows if row.source != "fms-acceleration"]
    constants = {"fms-acceleration": fit(large), "torchtune + torchtitan": fit(small)}
    one, other = ours(constants["fms-acceleration"]), ours(constants["torchtune + torchtitan"])
    return {row.id: one(row) for row in small} | {row.id: other(row) for row in large}, constants


def figures(rows: Iterable[Row], predict: Predict) -> dict[str, float] | None:
    """Median and 90th percentile of |error|, bias, unsafe share, median width of the interval."""
    pairs = [(row, *predict(row)) for row in rows]
    if not pairs:
        return None
    errors = [expected / row.measured - 1 for row, expected, _ in pairs]
    return {
        "n": len(pairs),
        "median": statistics.median(abs(error) for error in errors),
        "p90": float(np.quantile([abs(error) for error in errors], 0.9)),
        "bias": statistics.median(errors),
        "unsafe": sum(high < row.measured for row, _, high in pairs) / len(pairs),
        "width": statistics.median(high / expected for _, expected, high in pairs),
    }


def line(name: str, found: Mapping[str, float] | None) -> str:
    """One line of a table."""
    if found is None:
        return f"  {name:44s} no rows"
    return (
        f"  {name:44s} {found['n']:4.0f} {found['median']:8.1%} {found['p90']:8.1%} {found['bias']:+8.1%} "
        f"{found['unsafe']:7.1%} {found['width']:8.2f}"
    )


HEAD = f"  {'':44s} {'n':>4s} {'median':>8s} {'p90':>8s} {'bias':>8s} {'unsafe':>7s} {'high/exp':>8s}"


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By source and number of GPUs."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        count = "1 GPU" if row.setup.gpus == 1 else "several GPUs"
        found.setdefault(f"{row.source}, {count}", []).append(row)
    return found


def peers_of(folder: Path | None) -> dict[str, Predict]:
    """What others predict for a row; each is given the exact parameter count."""
    from accelerate.commands.estimate import estimate_training_usage

    def accelerate(row: Row) -> tuple[float, float]:
        usage = estimate_training_usage(4 * row.shape.parameters(), "bfloat16")
        figure = max(usage.values()) / GIB
        return figure, figure

    def thumb(row: Row) -> tuple[float, float]:
        figure = rule_gib(row.shape.parameters(), row.setup.method)
        return figure, figure

    zero2, zero3, how = _deepspeed(folder)

    def deepspeed(row: Row) -> tuple[float, float]:
        largest = max(
            max(m.inputs * m.outputs for m in row.shape.linears), row.shape.vocab * row.shape.hidden
        )
        count = row.shape.parameters()
        gpus = row.setup.gpus
        figure = (zero3(count, largest, gpus) if gpus > 1 else zero2(count, gpus)) / GIB
        return figure, figure

    return {
        "rule of thumb": thumb,
        "accelerate estimate-memory (bf16, training)": accelerate,
        f"DeepSpeed model states ({how})": deepspeed,
    }


def _deepspeed(folder: Path | None) -> tuple[Callable[..., float], Callable[..., float], str]:
    """DeepSpeed's estimators without offload: its own code where a folder has it, else as published."""
    if folder is not None:
        sys.path.append(str(folder))
        from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as z3
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as z2

        return (
            lambda count, gpus: z2(count, num_gpus_per_node=gpus, cpu_offload=False)[1],
            lambda count, largest, gpus: z3(
                count, largest, num_gpus_per_node=gpus, cpu_offload=False, cpu_offload_params=False
            )[1],
            "own code",
        )
    return (
        lambda count, gpus: 2 * count + 18 * count / gpus,
        lambda count, largest, gpus: 4 * largest + 18 * count / gpus,
        "published formula",
    )


def counts(data: Path) -> str:
    """Parameter counts of the shared models against ours."""
    configs = json.loads((data / "model_configs.json").read_text(encoding="utf-8"))
    right = sum(
        find_model(name).parameters() == config["params_from_formula"] for name, config in configs.items()
    )
    return f"parameter counts exact: {right} of {len(configs)} models"


def adapters(path: Path) -> tuple[int, int, float, list[str]]:
    """LoRA files with exact published bytes: how many, within 1 %, largest error, and other structures."""
    errors, other = [], []
    with path.open(encoding="utf-8", newline="") as file:
        table = [
            row for row in csv.DictReader(file) if row["method"] == "LORA" and row["file_bytes"].isdigit()
        ]
    for row in table:
        name = row["source"].rsplit("/", 1)[-1]
        if "bdlora" in name:
            other.append(f"{name}: block-diagonal factors, not LoRA's")
            continue
        targets = tuple(row["targets"].split(","))
        ours = adapter_bytes(find_model(row["model"]), int(row["rank"]), targets, dora="dora" in name)
        errors.append(abs(ours / int(row["file_bytes"]) - 1))
    return len(errors), sum(error <= 0.01 for error in errors), max(errors), other


def goals(rows: Sequence[Row], found: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The figures the goals are stated in."""
    predict: Predict = lambda row: found[row.id]  # noqa: E731
    have = [row for row in rows if row.id in found]
    one = figures([row for row in have if row.setup.gpus == 1], predict)
    several = figures([row for row in have if row.setup.gpus > 1], predict)
    both = figures(have, predict)
    if one is None or several is None or both is None:
        raise SystemExit("the data lack rows of one GPU or of several")
    return {
        "single GPU, median |error|": one["median"],
        "single GPU, 90th percentile": one["p90"],
        "several GPUs, median |error|": several["median"],
        "high below measured": both["unsafe"],
        "median high / expected": both["width"],
    }


LIMITS = {
    "single GPU, median |error|": 0.06,
    "single GPU, 90th percentile": 0.15,
    "several GPUs, median |error|": 0.10,
    "high below measured": 0.02,
    "median high / expected": 1.20,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--peers", type=Path, help="folder that DeepSpeed was installed into")
    parser.add_argument("--worst", type=int, default=10)
    parser.add_argument("--no-validation", action="store_true", help="leave the fits out (half a minute)")
    options = parser.parse_args()
    every = rows_of(options.data / "training_memory" / "measured.csv")
    rows = [row for row in every if row.grade == "A"]
    shipped = ours(None)
    print(
        f"{len(every)} measured rows, {len(rows)} of fidelity A\n\nShipped constants, fidelity A, by source"
    )
    print(HEAD)
    for name, members in sorted(groups(rows).items()):
        print(line(name, figures(members, shipped)))
    print(line("all", figures(rows, shipped)))
    print("\nBeside it, the same rows" + "\n" + HEAD)
    peers = peers_of(options.peers)
    for part in ("full", "lora", "qlora"):
        chosen = [row for row in rows if row.setup.method == part]
        for name, predict in ({"tunewise": shipped} | peers).items():
            print(line(f"{part}: {name}", figures(chosen, predict)))
    for name, predict in ({"tunewise": shipped} | peers).items():
        print(line(f"all: {name}", figures(rows, predict)))
    pairs = [replace(row, level="device", measured=row.device) for row in rows if row.device is not None]
    print("\nDevice-visible (nvidia-smi of the same runs)\n" + HEAD)
    for name, members in sorted(groups(pairs).items()):
        print(line(name, figures(members, shipped)))
    print("\nFidelity B and C, shipped constants (one setting or more unknown: not counted)\n" + HEAD)
    for grade in ("B", "C"):
        print(line(grade, figures([row for row in every if row.grade == grade], shipped)))
    if not options.no_validation:
        validate(rows)
    print(f"\n{counts(options.data)}")
    n, within, largest, other = adapters(options.data / "training_memory" / "adapter_checkpoint_sizes.csv")
    print(f"LoRA adapter files within 1 %: {within} of {n} (largest error {largest:.3%})")
    for text in other:
        print(f"  left out: {text}")
    print(f"\nLargest errors of the shipped constants ({options.worst})")
    for row in sorted(rows, key=lambda row: -abs(shipped(row)[0] / row.measured - 1))[: options.worst]:
        expected, high = shipped(row)
        print(
            f"  {row.id:16s} {row.family:18s} {row.setup.method:5s} {row.setup.gpus:3d} GPU  measured "
            f"{row.measured:6.2f}  expected {expected:6.2f}  high {high:6.2f}  "
            f"{expected / row.measured - 1:+.0%}"
        )


def validate(rows: Sequence[Row]) -> None:
    """Both cross-validations, their constants, and the goals on the worse of each."""
    families, of_family = by_family(rows)
    sources, of_source = by_source(rows)
    print("\nCross-validation: one family left out\n" + HEAD)
    for family in sorted(of_family):
        for count, members in groups([row for row in rows if row.family == family]).items():
            if all(row.id in families for row in members):
                print(line(f"{family}; {count}", figures(members, lambda row: families[row.id])))
    print("\nCross-validation: constants of the other source\n" + HEAD)
    for name, members in sorted(groups(rows).items()):
        print(line(name, figures(members, lambda row: sources[row.id])))
    print("\nConstants (count of tensors; fitted without each family; from each source)")
    for name, prior in PRIORS.items():
        held = [constants[name] for constants in of_family.values()]
        each = ", ".join(f"{source} {constants[name]:.3g}" for source, constants in of_source.items())
        print(f"  {name:14s} {prior:6.3g}; {min(held):.3g}-{max(held):.3g}; {each}")
    first, second = goals(rows, families), goals(rows, sources)
    print("\nGoals (the worse of both counts)")
    for name, limit in LIMITS.items():
        worse = max(first[name], second[name])
        shown = [
            f"{value:.2f}" if "/" in name else f"{value:.1%}" for value in (first[name], second[name], limit)
        ]
        verdict = "met" if worse <= limit else "MISSED"
        print(
            f"  {name:32s} families {shown[0]:>6s}  sources {shown[1]:>6s}  goal <= {shown[2]:>6s}  {verdict}"
        )


if __name__ == "__main__":
    main()
