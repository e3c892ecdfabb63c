"""Scoring general benchmarks: tunewise against lm-evaluation-harness (its `hf` backend), parity and speed.

    python benchmarks/scoring.py --data FOLDER [--items 500] [--pilot 60] [--only hellaswag,...] [--work DIR]
                                 [--bf16]

Both sides get the same rows and the same weights (the embedded model, fp32) and build their prompts
themselves: ours from the package's tasks, the peer's from the task files below, which are its own with the
rows taken from FOLDER. Each run has a process of its own. Seconds are those of tokenising and scoring, after
loading and a warm-up on two items; processor seconds stand beside them, the steadier figure on a machine that
others use. The peer runs at batch sizes 8, 16 and 32 on ``--pilot`` items and then at the fastest on all
(``--pilot 0``: at all three on all items). Ours runs before and after the peer, and the mean counts. Memory
is the highest resident size while scoring (VmHWM, reset before), on a GPU what torch allocated.

Parity: picks (acc, acc_norm, greedy) must be equal item by item but where the peer's two best differ by less
than 1e-4, which are listed; log-probabilities must agree within 1e-3. Exit code 1 if they do not, or if a
ratio is below its goal with at least 500 items. Finished runs are kept in ``--work`` and not repeated.
``--bf16`` scores a third time with weights in bf16: how many picks rounding alone turns over.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOALS = {"hellaswag": 2.0, "arc_easy": 2.5, "mmlu": None, "mmlu_5shot": 6.0, "mmlu_5shot_all": 4.0}
BATCHES = (8, 16, 32)
TIE, CLOSE = 1e-4, 1e-3
SUBJECTS = 5
ROWS = {
    "hellaswag": "hellaswag/hellaswag_val*.jsonl",
    "arc_easy": "arc/arc_easy*.jsonl",
    "mmlu": "mmlu/mmlu_test*.jsonl",
}
MMLU = (
    "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\n"
    "C. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
)
COUNTED = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]


def rows_in(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """A JSONL file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def chosen_rows(data: Path, name: str, items: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and dev rows: the first ``items``; of MMLU those of five subjects, or of all, in equal parts."""
    file = next(iter(sorted(data.glob(ROWS["mmlu" if name.startswith("mmlu") else name]))))
    rows = rows_in(file)
    if not name.startswith("mmlu"):
        return rows[:items], []
    dev = rows_in(next(iter(sorted(data.glob("mmlu/mmlu_dev*.jsonl")))))
    with_examples = {row["subject"] for row in dev}
    subjects = [s for s in dict.fromkeys(row["subject"] for row in rows) if s in with_examples]
    if name != "mmlu_5shot_all":
        subjects = subjects[:SUBJECTS]
    each = -(-items // len(subjects))
    taken = [row for s in subjects for row in [r for r in rows if r["subject"] == s][:each]]
    return taken, [row for row in dev if row["subject"] in subjects]


def prepare(data: Path, name: str, items: int, folder: Path) -> Path:
    """A folder with the rows of one benchmark, as both sides read them."""
    rows, dev = chosen_rows(data, name, items)
    place = {"hellaswag": "hellaswag/hellaswag_val.jsonl", "arc_easy": "arc/arc_easy.jsonl"}
    write_rows(folder / place.get(name, "mmlu/mmlu_test.jsonl"), rows)
    if dev:
        write_rows(folder / "mmlu/mmlu_dev.jsonl", dev)
    return folder


def peer_tasks(name: str, folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """The harness's task files (hellaswag, arc_easy, mmlu at 0.4.13) on rows of ``folder``."""
    common: dict[str, Any] = {
        "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test",
        "doc_to_target": "answer_index", "doc_to_choice": "choices", "metric_list": COUNTED,
    }  # fmt: skip
    if not name.startswith("mmlu"):
        text = {
            "hellaswag": "{{activity_label}}: {{question}}",
            "arc_easy": "Question: {{question}}\nAnswer:",
        }[name]
        (file,) = folder.glob("*/*.jsonl")
        kwargs = {"data_files": {"test": str(file)}}
        return [{**common, "task": f"peer_{name}", "doc_to_text": text, "dataset_kwargs": kwargs}]
    rows, dev = rows_in(folder / "mmlu/mmlu_test.jsonl"), rows_in(folder / "mmlu/mmlu_dev.jsonl")
    tasks = []
    for subject in dict.fromkeys(row["subject"] for row in rows):
        files = {}
        for split, source in (("test", rows), ("dev", dev)):
            files[split] = str(scratch / f"{subject}_{split}.jsonl")
            write_rows(Path(files[split]), [row for row in source if row["subject"] == subject])
        tasks.append(
            {
                **common,
                "task": f"peer_mmlu_{subject}",
                "description": "The following are multiple choice questions (with answers) about "
                f"{subject.replace('_', ' ')}.\n\n",
                "doc_to_text": MMLU,
                "doc_to_choice": ["A", "B", "C", "D"],
                "fewshot_split": "dev",
                "fewshot_config": {"sampler": "first_n"},
                "num_fewshot": 0 if name == "mmlu" else 5,
                "dataset_kwargs": {"data_files": files},
            }
        )
    return tasks


def status(key: str) -> float:
    """A line of /proc/self/status in MiB, 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key)), 0.0)


def measured(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a run gives, its wall and processor seconds, and the peak of resident memory meanwhile."""
    import torch

    if on_gpu := torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").is_file():
        Path("/proc/self/clear_refs").write_text("5")
    before, started, worked = status("VmRSS"), time.perf_counter(), time.process_time()
    result = run()
    facts = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else status("VmHWM")
    return result, {**facts, "peak_mib": peak, "before_mib": before}


def run_ours(name: str, folder: Path, bf16: bool = False) -> dict[str, Any]:
    """One run of ours: log-probabilities per item, seconds, memory."""
    import torch

    from tunewise.benchmarks import tasks
    from tunewise.benchmarks.data import items_of
    from tunewise.benchmarks.scorer import LocalScorer
    from tunewise.models import weights

    device = torch.device("cuda" if weights.on_gpu() else "cpu")
    weights.device_and_dtype = lambda: (device, torch.bfloat16 if bf16 else torch.float32)
    items = items_of(tasks.find(name.removesuffix("_all")), folder)
    scorer = LocalScorer("embedded", keep=False)
    scorer.score(items[:2])
    outcome, facts = measured(lambda: scorer.score(items))
    return {
        **facts,
        "items": [
            {"logprobs": i.logprobs, "acc": i.pick == i.gold, "acc_norm": i.pick_norm == i.gold,
             "pick": i.pick, "pick_norm": i.pick_norm, "lengths": i.lengths}
            for i in outcome.items
        ],
    }  # fmt: skip


def run_peer(name: str, folder: Path, batch: int) -> dict[str, Any]:
    """One run of the harness: the same, timed around its scoring of requests (tokenising included)."""
    scratch = Path(tempfile.mkdtemp(prefix="peer"))
    os.environ["HF_DATASETS_CACHE"] = str(scratch / "cache")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from tunewise.models import weights
    from tunewise.models.embedded import embedded_folder

    device = "cuda" if weights.on_gpu() else "cpu"
    facts: dict[str, float] = {}

    class Timed(HFLM):
        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            ask = super().loglikelihood
            ask(requests[:2], disable_tqdm=True)
            found, times = measured(lambda: ask(requests, disable_tqdm=True))
            facts.update(times)
            return found

    model = Timed(pretrained=str(embedded_folder()), dtype="float32", device=device, batch_size=batch)
    found = simple_evaluate(
        model, tasks=peer_tasks(name, folder, scratch), bootstrap_iters=0, log_samples=True
    )
    items = []
    for samples in found["samples"].values():
        for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
            logprobs = [float(pair[0]) for pair in sample["filtered_resps"]]
            items.append(
                {"logprobs": logprobs, "acc": bool(sample["acc"]), "acc_norm": bool(sample["acc_norm"])}
            )
    return {**facts, "batch": batch, "items": items}


def worker(
    work: Path, label: str, side: str, name: str, folder: Path, batch: int = 0, more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Result of one run in a process of its own; kept, and taken from there the next time."""
    out = work / f"{label}.json"
    if not out.is_file():
        command = [sys.executable, __file__, "--worker", side, "--only", name, "--data", str(folder)]
        command += ["--batch", str(batch), "--out", str(out), *more]
        subprocess.run(command, check=True, stdout=sys.stderr)
    result: dict[str, Any] = json.loads(out.read_text())
    said = f"{result['seconds']:.1f} s, {result['cpu_seconds']:.1f} processor s, {result['peak_mib']:.0f} MiB"
    print(f"{label}: {len(result['items'])} items, {said}", file=sys.stderr, flush=True)
    return result


def parity(ours: list[dict[str, Any]], peer: list[dict[str, Any]]) -> dict[str, Any]:
    """Items whose pick differs, near-ties aside, and the largest difference of a log-probability."""
    differ, ties, largest = [], [], 0.0
    for number, (mine, theirs) in enumerate(zip(ours, peer, strict=True)):
        gaps = [abs(a - b) for a, b in zip(mine["logprobs"], theirs["logprobs"], strict=True)]
        largest = max(largest, *gaps)
        by_length = [lp / n for lp, n in zip(theirs["logprobs"], mine["lengths"], strict=True)]
        for pick, values in (("pick", theirs["logprobs"]), ("pick_norm", by_length)):
            best = max(range(len(values)), key=values.__getitem__)
            if mine[pick] != best:
                first, second = sorted(values, reverse=True)[:2]
                (ties if first - second < TIE else differ).append((number, pick, first - second))
        for metric in ("acc", "acc_norm"):
            if mine[metric] != theirs[metric] and not any(n == number for n, *_ in ties):
                differ.append((number, metric, 0.0))
    return {"items": len(ours), "differ": differ, "ties": ties, "largest": largest}


def flips(ours: list[dict[str, Any]], rounded: list[dict[str, Any]], pick: str) -> float:
    """Share of items whose pick is another one with weights in bf16."""
    return sum(a[pick] != b[pick] for a, b in zip(ours, rounded, strict=True)) / len(ours)


def compared(
    data: Path, name: str, items: int, pilot: int, work: Path, batches: list[int], bf16: bool
) -> dict[str, Any]:
    """One benchmark: ours, the peer's batch sizes, the peer, ours again, ours in bf16."""
    label = f"{name}-{items}"
    folder = prepare(data, name, items, work / f"{label}-rows")
    first = worker(work, f"{label}-ours-1", "ours", name, folder)
    if pilot and pilot < items:
        small = prepare(data, name, pilot, work / f"{name}-{pilot}-rows")
        tried = {b: worker(work, f"{name}-{pilot}-peer-{b}", "peer", name, small, b) for b in batches}
        best = min(tried, key=lambda batch: tried[batch]["seconds"])
        peer = worker(work, f"{label}-peer-{best}", "peer", name, folder, best)
    else:
        tried = {b: worker(work, f"{label}-peer-{b}", "peer", name, folder, b) for b in batches}
        peer = min(tried.values(), key=lambda result: result["seconds"])
    again = worker(work, f"{label}-ours-2", "ours", name, folder)
    turned = None
    if bf16:
        rounded = worker(work, f"{label}-ours-bf16", "ours", name, folder, more=("--bf16",))["items"]
        turned = {pick: flips(first["items"], rounded, pick) for pick in ("pick", "pick_norm")}
    seconds = (first["seconds"] + again["seconds"]) / 2
    cpu = (first["cpu_seconds"] + again["cpu_seconds"]) / 2
    return {
        "name": name,
        "turned": turned,
        **parity(first["items"], peer["items"]),
        "ours_s": seconds,
        "peer_s": peer["seconds"],
        "batch": peer["batch"],
        "ratio": peer["seconds"] / seconds,
        "cpu_ratio": peer["cpu_seconds"] / cpu,
        "ours_mib": max(first["peak_mib"], again["peak_mib"]),
        "peer_mib": peer["peak_mib"],
    }


def show(results: list[dict[str, Any]]) -> bool:
    """The two tables; True when everything holds."""
    holds = True
    print("| parity | items | picks that differ | near-ties | largest difference of a log-probability |")
    print("|---|---|---|---|---|")
    for r in results:
        print(f"| {r['name']} | {r['items']} | {r['differ'] or 0} | {r['ties'] or 0} | {r['largest']:.1e} |")
        holds &= not r["differ"] and r["largest"] <= CLOSE
    for r in results:
        if r["turned"] is not None:
            acc, norm = r["turned"]["pick"], r["turned"]["pick_norm"]
            print(f"\nbf16 turns over {acc:.1%} of the picks of {r['name']} (acc), {norm:.1%} (acc_norm)")
    print(
        "\n| speed | ours | harness (batch) | ratio | by processor time | goal | peak ours | peak harness |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        goal = GOALS[r["name"]]
        print(
            f"| {r['name']} | {r['ours_s']:.1f} s | {r['peer_s']:.1f} s ({r['batch']}) | {r['ratio']:.1f}x "
            f"| {r['cpu_ratio']:.1f}x | {f'{goal}x' if goal else ''} | {r['ours_mib']:.0f} MiB "
            f"| {r['peer_mib']:.0f} MiB |"
        )
        if goal and r["items"] >= 500:
            holds &= r["ratio"] >= goal and r["ours_mib"] <= r["peer_mib"]
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description="Scoring against lm-evaluation-harness.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--pilot", type=int, default=60)
    parser.add_argument("--only", default="hellaswag,arc_easy,mmlu,mmlu_5shot,mmlu_5shot_all")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="of the peer")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--worker", choices=["ours", "peer"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.worker == "ours":
        result = run_ours(options.only, options.data, options.bf16)
    elif options.worker == "peer":
        result = run_peer(options.only, options.data, options.batch)
    else:
        work = options.work or Path(tempfile.mkdtemp(prefix="scoring"))
        work.mkdir(parents=True, exist_ok=True)
        batches = [int(batch) for batch in options.batches.split(",")]
        names = [name.strip() for name in options.only.split(",")]
        results = [
            compared(options.data, name, options.items, options.pilot, work, batches, options.bf16)
            for name in names
        ]
        return 0 if show(results) else 1
    options.out.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
