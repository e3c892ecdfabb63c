"""General rows mixed in at 70/30 against none: what the task gains and what general text loses.

    python benchmarks/mixing.py --data ../shared/data --out DIR [--rows 300] [--epochs 2] [--only ARM]

Task: E2E, a restaurant sentence to its attributes. General rows: instruction_mix (alpaca), 200 of them held
out of the pool. Each arm is ``tunewise train --method lora`` on the same task rows, with ``training.mix:
{share: 0.30}``, without it, and (``--only replay``) with the base model's own answers to the general prompts.
Arms: none, mix, replay. Printed: mean loss per answer token on 200 task rows and 200 general rows that no arm
was trained on, each with the paired difference from no mixing (BCa bootstrap over rows). A finished arm is
not trained again. Never fails on a figure.
"""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from field.field import answered, pick, read, some, write
from scipy.stats import bootstrap

HELD_OUT, LONGEST = 200, 600  # rows; characters of a general answer
ARMS = ("none", "mix", "replay")
MIX = {
    "none": "",
    "mix": ", mix: {general: general.jsonl, share: 0.30}",
    "replay": ", mix: {general: general.jsonl, share: 0.30, replay: true, max_new_tokens: 96}",
}
TASK = """\
name: e2e-{arm}
instruction: Write the attributes of the restaurant as one JSON object.
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: json_fields
target: 0.8
decoding: {{max_new_tokens: 96}}
model: {model}
training: {{epochs: {epochs}{mix}}}
"""


def prepare(data: Path, out: Path, rows: int, epochs: float, model: str) -> None:
    """Rows and one task file for each arm."""
    from tunewise.near import normalised

    out.mkdir(parents=True, exist_ok=True)
    test = some(read(data / "extraction_e2e/e2e_test.jsonl"), HELD_OUT)
    asked = {normalised(r["input"]) for r in test}
    found = (r for r in read(data / "extraction_e2e/e2e_train.jsonl") if normalised(r["input"]) not in asked)
    train = some(found, rows + 8)
    write(out / "train.jsonl", (pick(r, "input", "output") for r in train[:rows]))
    write(out / "selection.jsonl", (pick(r, "input", "output") for r in train[rows:]))
    write(out / "certification.jsonl", (pick(r, "input", "output") for r in test))
    alpaca = read(data / "instruction_mix/alpaca_en_demo.jsonl")
    general = some((answered(r) for r in alpaca if len(r["output"]) <= LONGEST), 10_000)
    write(out / "general_held_out.jsonl", general[:HELD_OUT])
    write(out / "general.jsonl", general[HELD_OUT:])
    for arm in ARMS:
        task = TASK.format(arm=arm, model=model, epochs=epochs, mix=MIX[arm])
        (out / f"{arm}.yaml").write_text(task, encoding="utf-8")


class Told:
    """Prints notes, and every tenth step."""

    def tell(self, event: str, **facts: Any) -> None:
        if event == "note":
            print(facts["text"], flush=True)
        if event == "training" and facts["step"] % 10 == 0:
            print(f"step {facts['step']}/{facts['steps']}, loss {facts.get('loss') or 0:.3f}", flush=True)


def losses(out: Path, arm: str | None) -> dict[str, list[float]]:
    """Nats per answer token of every held-out row, by kind of row; arm None: the base."""
    import torch

    from tunewise.api import open_task
    from tunewise.data import read_examples
    from tunewise.models.embedded import embedded_folder
    from tunewise.models.tokens import render
    from tunewise.models.weights import load_model, load_tokenizer
    from tunewise.progress import Silent
    from tunewise.rungs.prompt import layout_of
    from tunewise.training.masks import TrainRow, render_rows
    from tunewise.training.recipe import quiet
    from tunewise.training.trust import answer_logits

    place = out / f"losses-{arm or 'base'}.json"
    if place.is_file():
        found: dict[str, list[float]] = json.loads(place.read_text(encoding="utf-8"))
        return found
    opened = open_task(out / "none.yaml")
    layout = layout_of(opened.bench(out, 0, Silent()))
    base = embedded_folder() if opened.task.model == "embedded" else Path(str(opened.task.model))
    tokenizer = load_tokenizer(base)
    general = read_examples(out / "general_held_out.jsonl").examples
    kinds: dict[str, Sequence[TrainRow]] = {
        "task": render_rows(
            tokenizer, render, opened.order, lambda e: layout.messages(e.turns, (), ()), None
        ).rows,
        "general": render_rows(tokenizer, render, general, lambda e: e.turns, None).rows,
    }

    def loss(model: Any, row: TrainRow) -> float:
        logits = answer_logits(model, row).float()
        return float(torch.nn.functional.cross_entropy(logits.cpu(), torch.tensor(row.answer)))

    with quiet():
        model = load_model(base, out / arm / "lora" / "adapter" if arm else None)
        found = {kind: [loss(model, row) for row in rows] for kind, rows in kinds.items()}
    place.write_text(json.dumps(found), encoding="utf-8")
    return found


def table(out: Path, arms: Iterable[str]) -> None:
    """Mean losses, and differences from no mixing."""
    plain_arm = losses(out, "none")
    print(f"{'':8s} {'task loss':>10s} {'general loss':>13s}")
    for arm in (None, *arms):
        found = losses(out, arm)
        line = f"{arm or 'base':8s} {np.mean(found['task']):10.4f} {np.mean(found['general']):13.4f}"
        if arm not in (None, "none"):
            for kind in ("task", "general"):
                apart = np.array(found[kind]) - np.array(plain_arm[kind])
                ci = bootstrap((apart,), np.mean, rng=np.random.default_rng(0)).confidence_interval
                line += f"   {kind} {apart.mean():+.4f} [{ci.low:+.4f}, {ci.high:+.4f}]"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--only", choices=ARMS)
    given = parser.parse_args()
    from tunewise.tuning import train

    if not (given.out / "none.yaml").is_file():
        prepare(given.data, given.out, given.rows, given.epochs, given.model)
    for arm in [given.only] if given.only else ["none", "mix"]:
        began = time.monotonic()
        run = train(given.out / f"{arm}.yaml", method="lora", out=given.out / arm, progress=Told())
        facts = run.facts
        print(f"{arm}: {facts['tokens']:,} tokens, {time.monotonic() - began:.0f} s, mix {facts.get('mix')}")
    table(given.out, [arm for arm in ARMS if (given.out / arm / "lora" / "done.json").is_file()])


if __name__ == "__main__":
    main()
