"""A student of the embedded model's own long prompt: few-shot-nearest teaches, a tuned short prompt learns.

    python benchmarks/distilled.py --data ../shared/data --out DIR [--seconds 540]

Banking77, 15 intents. The teacher is the embedded model with the nearest of 300 labelled rows in its prompt;
it answers 300 further inputs whose labels are not given. What is of the form of a label stays, and an adapter
is tuned on it with the bare prompt. Both answer the same 200 certification items (``tunewise decide --rungs
zero-shot,few-shot-nearest,distilled --exhaustive``). Ends itself after ``--seconds``; the same call goes on.
Printed: quality, what the student keeps of it, tokens and unbatched latency. Never fails on a figure.
"""

import argparse
import json
from pathlib import Path

from field.field import BANKING_INTENTS, dumps, pick, read, some, write
from rag_lora import decide

RUNGS = ("zero-shot", "few-shot-nearest", "distilled")
TASK = """\
name: banking
instruction: Name the intent of the customer's message. Answer with the name of the intent only.
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: accuracy
target: 0.9
decoding: {{max_new_tokens: 16}}
model: {model}
teacher: {{rung: few-shot-nearest, inputs: unlabelled.jsonl}}
training: {{epochs: {epochs}, curve: false}}
"""


def prepare(data: Path, out: Path, rows: int, certified: int, epochs: float, model: str) -> None:
    """Rows and the task file, once."""
    if (out / "task.yaml").is_file():
        return
    from tunewise.near import normalised

    out.mkdir(parents=True, exist_ok=True)
    given = {
        name: [
            r
            for r in read(data / f"intent_banking77/banking77_{name}.jsonl")
            if r["output"] in BANKING_INTENTS
        ]
        for name in ("train", "test")
    }
    test = some(given["test"], certified)
    asked = {normalised(r["input"]) for r in test}  # some test rows stand in the train file as well
    train = some((r for r in given["train"] if normalised(r["input"]) not in asked), 2 * rows + 40)
    write(out / "train.jsonl", (pick(r, "input", "output") for r in train[:rows]))
    write(out / "selection.jsonl", (pick(r, "input", "output") for r in train[rows : rows + 40]))
    write(out / "unlabelled.jsonl", (pick(r, "input") for r in train[rows + 40 :]))
    write(out / "certification.jsonl", (pick(r, "input", "output") for r in test))
    task = TASK.format(epochs=epochs, model=model)
    (out / "task.yaml").write_text(task, encoding="utf-8")


def known(row: dict[str, str]) -> bool:
    return row["output"] in BANKING_INTENTS


def table(out: Path) -> None:
    """Every rung, and the student beside its teacher."""
    plain = {r["rung"]: r for r in json.loads((out / "run/decision.json").read_text("utf-8"))["rungs"]}
    for rung in RUNGS:
        found = plain[rung]
        if "quality" not in found:
            print(f"{rung}: {found['skipped_because']}")
            return
        n, tokens = found["all_items"]["n"], found["tokens_in"] / found["calls"]
        print(f"{rung:17s} accuracy {found['all_items']['estimate']:.3f} ({n} items), {tokens:.0f} tokens in")
    student = plain["distilled"]
    print(f"lesson: {student['build']['teacher']}")
    found = student["teacher"]
    for side in ("teacher", "student"):
        print(f"{side}: {found[side]}")
    print(f"kept {found['kept']:.1%}, difference {found['difference']}")
    build = student["build"]
    print(f"training: {build['tokens']:,} tokens, {build['seconds']:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=540)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--certified", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--model", default="embedded")
    given = parser.parse_args()
    prepare(given.data, given.out, given.rows, given.certified, given.epochs, given.model)
    print(f"task file: {dumps(str(given.out / 'task.yaml'))}")
    if decide(given.out, RUNGS, given.seconds):
        table(given.out)


if __name__ == "__main__":
    main()
