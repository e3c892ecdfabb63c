"""Raw, extracted, repaired and constrained: one table on real outputs of the embedded model.

    python benchmarks/format_outputs.py --data ../shared/data [--out FOLDER] [--only lora] [--speed lora]

Task: E2E sentences to flat JSON (``extraction_e2e``), 200 test rows that no rung learns from. Each rung is
the package's own: the bare prompt, five fixed examples (the covering draw of ``few-shot``), and LoRA on 400
rows for two epochs. Every rung answers twice, freely and held to the grammar of the schema. Answers are
appended to ``OUT/RUNG.jsonl`` and ``OUT/RUNG+grammar.jsonl`` batch by batch, training goes on from its
checkpoints, and the same call goes on where an earlier one ended. The table is what
``tunewise score --metric json_schema`` says of these files (the same code; the commands are printed).

With ``--speed RUNG``: tokens per second without and with the grammar, the same 32 prompts in the same batch,
alternating, best of three, and the share of the time that the grammar itself takes.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewise import score, train
from tunewise.api import Opened, open_task
from tunewise.data import Example
from tunewise.models import shared_prefix
from tunewise.models.door import Door
from tunewise.models.local import LocalDoor
from tunewise.progress import Silent
from tunewise.rungs.few_shot import drawn, usable
from tunewise.rungs.grammars import grammar_of
from tunewise.rungs.prompt import PromptCandidate, Shot, layout_of

sys.path.insert(0, str(Path(__file__).parent / "field"))
from field import letters, read, some, write

RUNGS = ("zero-shot", "few-shot", "lora")
SHOTS, BATCH, TRAIN, SELECTION, TEST = 5, 25, 400, 40, 200
TASK = """\
name: format-outputs
instruction: >-
  Extract what the sentence says about the restaurant as one JSON object with the keys name, eatType, food,
  priceRange, customer rating, area, familyFriendly, near. Leave out keys that are not mentioned. Answer with
  the JSON only.
examples: {train: train.jsonl, selection: selection.jsonl, certification: test.jsonl}
metric: json_schema
target: 0.95
output: {json_schema: schema.json}
decoding: {max_new_tokens: 112}
model: embedded
training: {learning_rate: 2.0e-4, epochs: 2, batch_size: 8}
"""


def main() -> None:
    """Prepare, answer, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/format-outputs"))
    parser.add_argument("--only", choices=RUNGS, help="answer with this rung only, then score what is there")
    parser.add_argument("--speed", choices=RUNGS, help="time the grammar with this rung; no table")
    options = parser.parse_args()
    prepare(options.data / "extraction_e2e", options.out)
    opened = open_task(options.out / "task.yaml")
    if options.speed:
        speed(candidate_of(options.speed, opened, options.out), opened)
        return
    for rung in [options.only] if options.only else RUNGS:
        candidate = candidate_of(rung, opened, options.out)
        answer(candidate, opened.order, options.out / f"{rung}.jsonl")
        held = candidate.held_to(grammar_of(opened.bench(options.out, 0, Silent())))
        answer(held, opened.order, options.out / f"{rung}+grammar.jsonl")
    table(options.out)


def prepare(source: Path, out: Path) -> None:
    """The task's folder: rows with their id, train and test rows of the source in parts of their own."""
    out.mkdir(parents=True, exist_ok=True)
    learnt = some(read(source / "e2e_train.jsonl"), TRAIN + SELECTION)
    write(out / "train.jsonl", learnt[:TRAIN])
    write(out / "selection.jsonl", learnt[TRAIN:])
    seen = {letters(row) for row in learnt}
    fresh = (row for row in read(source / "e2e_test.jsonl") if letters(row) not in seen)
    write(out / "test.jsonl", some(fresh, TEST))
    shutil.copyfile(source / "schema.json", out / "schema.json")
    (out / "task.yaml").write_text(TASK, encoding="utf-8")


def candidate_of(rung: str, opened: Opened, out: Path) -> PromptCandidate:
    """The rung, built as the package builds it, but for the number of shots, which is fixed here."""
    bench = opened.bench(out, 0, Silent())
    layout, door = layout_of(bench), opened.door
    if rung == "few-shot":
        shots = [Shot.of(example) for example in drawn(usable(opened.parts.train), "cover", 0, SHOTS)]
        layout = replace(layout, shots=tuple(reversed(shots)))
    if rung == "lora":
        began = time.perf_counter()
        run = train(out / "task.yaml", method="lora", out=out / "train")
        print(f"lora: {run.facts['steps']} steps, {time.perf_counter() - began:.0f} s in this call")
        door = LocalDoor("embedded", adapter=run.folder, name="lora")
    return PromptCandidate(rung, door, layout)


def answer(candidate: PromptCandidate, items: tuple[Example, ...], file: Path) -> None:
    """Append answers to the items that the file does not hold yet, batch by batch."""
    done = len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0
    for start in range(done, len(items), BATCH):
        batch = items[start : start + BATCH]
        rows = [
            {
                "id": example.fields["id"],
                "input": example.input,
                "output": said.text,
                "reference": example.references[0],
                "finish": said.finish,
                "tokens": said.tokens_out,
                "seconds": round(said.seconds, 4),
            }
            for example, said in zip(batch, answers(candidate, candidate.door, batch), strict=True)
        ]
        with file.open("a", encoding="utf-8") as lines:
            lines.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def answers(candidate: PromptCandidate, door: Door, batch: tuple[Example, ...]) -> list[Any]:
    return door.answer([candidate.request(example) for example in batch])


def table(out: Path) -> None:
    """The figures of every file that is there, raw ones and, beside them, what comes with the grammar."""
    names = ("rung", "n", "json", "raw", "extracted", "repaired", "constrained", "complete", "held")
    print(" | ".join((*names, "fields right", "held", "cut off", "held", "tokens/answer", "held")))
    for rung in RUNGS:
        free, held = (out / f"{rung}{kind}.jsonl" for kind in ("", "+grammar"))
        if not (free.is_file() and held.is_file()):
            continue
        told = {file: score(file, "json_schema", schema=out / "schema.json") for file in (free, held)}
        raw, grammar = told[free].summary, told[held].summary
        figures = [raw["json_rate"], raw["compliance_rate"], raw["extracted_rate"], raw["repaired_rate"]]
        figures += [grammar["compliance_rate"], raw["avg_completeness"], grammar["avg_completeness"]]
        figures += [raw["avg_field_correctness"], grammar["avg_field_correctness"]]
        rows = {file: list(read(file)) for file in (free, held)}
        cut = [str(sum(row["finish"] == "length" for row in rows[file])) for file in (free, held)]
        lengths = [
            f"{sum(row['tokens'] for row in rows[file]) / len(rows[file]):.0f}" for file in (free, held)
        ]
        print(" | ".join([rung, str(told[free].rows), *(f"{f:.3f}" for f in figures), *cut, *lengths]))
    for file in sorted(out.glob("*.jsonl")):
        if "finish" in next(read(file), {}):
            print(f"tunewise score {file} --metric json_schema --schema {out / 'schema.json'}")


def speed(candidate: PromptCandidate, opened: Opened) -> None:
    """Tokens per second, free and held, on the same prompts in one batch, and the grammar's own share."""
    held = candidate.held_to(grammar_of(opened.bench(Path(), 0, Silent())))
    items = opened.order[:32]
    answers(candidate, candidate.door, items[:2])  # weights and prefix are read once, before the clock runs
    answers(held, held.door, items[:2])
    clock = Clock(shared_prefix.hold)
    shared_prefix.hold = clock
    best: dict[str, float] = {}
    for _ in range(3):
        for name, asked in (("free", candidate), ("held", held)):
            clock.seconds, began, worked = 0.0, time.perf_counter(), time.process_time()
            said = answers(asked, asked.door, items)
            seconds, work = time.perf_counter() - began, time.process_time() - worked
            tokens = sum(a.tokens_out or 0 for a in said)
            best[name] = max(tokens / seconds, best.get(name, 0.0))
            rates = f"{tokens / seconds:.0f}/s, {tokens / work:.0f} per processor second"
            print(
                f"{name}: {tokens} tokens, {rates}; {clock.seconds / seconds:.1%} of the time in the grammar"
            )
    print(f"free {best['free']:.0f}/s, held {best['held']:.0f}/s, ratio {best['held'] / best['free']:.3f}")


class Clock:
    """A function that adds up the seconds spent in it."""

    def __init__(self, work: Callable[..., None]) -> None:
        self.work = work
        self.seconds = 0.0

    def __call__(self, *given: Any) -> None:
        began = time.perf_counter()
        self.work(*given)
        self.seconds += time.perf_counter() - began


if __name__ == "__main__":
    main()
