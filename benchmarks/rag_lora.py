"""Passages in the prompt, tuning, or both: rag, lora and rag-lora on questions about privacy policies.

    python benchmarks/rag_lora.py --data ../shared/data --out DIR [--seconds 540] [--rows 300]

300 train rows of PolicyQA (its development split), 200 certification items of its test split; the documents
are the paragraphs of both. All three rungs answer every certification item (``decide --exhaustive``).
Ends itself after ``--seconds``; the same call goes on. Printed, when all three are measured: mean token F1,
prompt tokens and the paired differences of rag-lora with the two others (BCa bootstrap), over all items and
apart for items whose passage the search finds and misses. Never fails on a figure.
"""

import argparse
import json
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

from field.field import dumps, question, read, some, write

RUNGS = ("rag", "lora", "rag-lora")
MARGIN = 0.02
TASK = """\
name: policy
instruction: Answer the question about the website's privacy policy with a few words copied from the policy.
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: token_f1
target: 0.4
knowledge: {{documents: documents}}
decoding: {{max_new_tokens: 32}}
model: {model}
training: {{epochs: {epochs}, curve: false, retrieval: {{passages: {passages}, present: 0.8}}}}
"""


def prepare(
    data: Path, out: Path, rows: int, certified: int, epochs: float, passages: int, model: str
) -> None:
    """Rows, documents and the task file, once."""
    if (out / "task.yaml").is_file():
        return
    from tunewise.near import normalised

    documents = out / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    test = some(read(data / "policy_qa/policyqa_test.jsonl"), 900)[-certified:]
    asked = {normalised(question(r)["input"]) for r in test}
    found = read(data / "policy_qa/policyqa_dev.jsonl")
    dev = some((r for r in found if normalised(question(r)["input"]) not in asked), rows + 24)
    write(out / "train.jsonl", (question(r) for r in dev[:rows]))
    write(out / "selection.jsonl", (question(r) for r in dev[rows:]))
    write(out / "certification.jsonl", (question(r) for r in test))
    for name in ("dev", "test"):
        docs = read(data / f"policy_qa/policyqa_{name}_docs.jsonl")
        write(documents / f"{name}.jsonl", ({**d, "site": d["doc_id"].split("#")[0]} for d in docs))
    (out / "task.yaml").write_text(
        TASK.format(epochs=epochs, passages=passages, model=model), encoding="utf-8"
    )


def found_items(out: Path) -> set[str]:
    """Keys of the certification items whose passage rag-lora's own search shows it."""
    from tunewise.answering import saved_doors
    from tunewise.api import open_task
    from tunewise.rungs.order import load_candidate

    candidate: Any = load_candidate(out / "run/rungs/rag-lora", saved_doors(out / "run"))
    by_id = {chunk.id: chunk for chunk in candidate.retriever.chunks}
    found = set()
    for example in open_task(out / "task.yaml").order:
        shown = [by_id[name] for name in candidate.request(example).tag.get("passages", ())]
        if any(chunk.is_of(name) for chunk in shown for name in example.passages):
            found.add(example.key)
    return found


def table(out: Path) -> None:
    """Means, tokens and paired differences."""
    from tunewise.evidence.paired import compare_graded

    values = {rung: outcomes(out / "run/run.sqlite", rung) for rung in RUNGS}
    plain = {r["rung"]: r for r in json.loads((out / "run/decision.json").read_text("utf-8"))["rungs"]}
    found = found_items(out)
    everything = sorted(set.intersection(*(set(scored) for scored in values.values())))
    groups = {"all": everything, "passage found": [k for k in everything if k in found]}
    groups["passage missed"] = [k for k in everything if k not in found]
    for name, keys in groups.items():
        print(f"\n{name}: {len(keys)} items")
        for rung in RUNGS:
            mean = fmean(values[rung][key][0] for key in keys)
            tokens = fmean(values[rung][key][1] for key in keys)
            print(f"  {rung:9s} token F1 {mean:.3f}   {tokens:5.0f} prompt tokens")
        for other in ("rag", "lora"):
            one, two = ([values[r][key][0] for key in keys] for r in (other, "rag-lora"))
            d = compare_graded(one, two, MARGIN)
            print(f"  rag-lora - {other:4s} {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {d.answer}")
    taught = plain["rag-lora"]["build"]
    chosen = plain["rag"]["build"]
    print(
        f"\nrag chose {chosen['k']} passages and {chosen['shots']} shots; rag-lora saw {taught['k']} passages"
    )
    print(f"train prompts of rag-lora: {taught['taught']}")
    for rung in ("lora", "rag-lora"):
        b = plain[rung]["build"]
        print(f"{rung}: {b['tokens']:,} tokens, {b['seconds']:.0f} s, {b['tokens_per_second']} tokens/s")


def outcomes(store: Path, rung: str) -> dict[str, tuple[float, int]]:
    """Example key -> value and prompt tokens."""
    query = "SELECT example, value, tokens_in FROM outcomes WHERE rung = ? AND value IS NOT NULL"
    with closing(sqlite3.connect(store)) as connection:
        return {key: (value, tokens) for key, value, tokens in connection.execute(query, (rung,))}


class Told:
    """Prints notes and verdicts."""

    def tell(self, event: str, **facts: Any) -> None:
        if event in ("note", "plan") or (event == "rung" and facts.get("state") != "measuring"):
            print(event, {k: v for k, v in facts.items() if v is not None}, flush=True)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def decide(out: Path, rungs: Iterable[str], seconds: int) -> bool:
    """Climb until all is measured or the time is over; whether all is measured."""
    import tunewise

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        tunewise.decide(
            out / "task.yaml", out=out / "run", rungs=list(rungs), exhaustive=True, progress=Told()
        )
    except KeyboardInterrupt:
        print(f"ended itself after {seconds} s; the same call goes on", flush=True)
        return False
    finally:
        signal.alarm(0)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=540)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--certified", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--passages", type=int, default=2)
    parser.add_argument("--model", default="embedded")
    given = parser.parse_args()
    prepare(given.data, given.out, given.rows, given.certified, given.epochs, given.passages, given.model)
    print(f"task file: {dumps(str(given.out / 'task.yaml'))}")
    if decide(given.out, RUNGS, given.seconds):
        table(given.out)


if __name__ == "__main__":
    main()
