"""Full tuning, LoRA and QLoRA side by side on real rows: ``tunewise train --compare full,lora,qlora``.

    python benchmarks/methods.py --data ../shared/data --out DIR [--rows 400] [--selection 200]

Task: E2E, a restaurant sentence to its attributes. Rows that share an output stand on one side of the split.
The general loss is measured on answers to general instructions (instruction_mix, alpaca), on which nothing is
trained. The table is the command's own, and so is all that is kept in DIR: the same call goes on where an
earlier one was cut off. Never fails on a figure.
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "field"))
from field import answered, dumps, pick, read, some, write

CERTIFICATION, GENERAL, LONGEST = 16, 200, 600
TASK = """\
name: e2e-methods
instruction: Write the attributes of the restaurant as one JSON object.
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: json_fields
target: 0.6
decoding: {{max_new_tokens: 96}}
model: {model}
training: {{epochs: {epochs}}}
"""


def prepare(data: Path, out: Path, rows: int, selection: int, epochs: float, model: str) -> None:
    """Write task file, rows and general rows into ``out``."""
    there = some(read(data / "extraction_e2e/e2e_train.jsonl"), 10_000)
    chosen = there[-selection:]
    known = {dumps(row["output"]) for row in chosen}
    train = [row for row in there[:-selection] if dumps(row["output"]) not in known][:rows]
    certification = some(read(data / "extraction_e2e/e2e_test.jsonl"), CERTIFICATION)
    out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("selection", chosen), ("certification", certification)):
        write(out / f"{name}.jsonl", (pick(row, "input", "output") for row in part))
    short = [r for r in read(data / "instruction_mix/alpaca_en_demo.jsonl") if len(r["output"]) <= LONGEST]
    write(out / "general.jsonl", map(answered, some(short, GENERAL)))
    (out / "task.yaml").write_text(TASK.format(epochs=epochs, model=model), encoding="utf-8")
    print(f"{len(train)} rows to train on, {len(chosen)} to choose and measure on", flush=True)


def main() -> None:
    """Prepare, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--selection", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--methods", default="full,lora,qlora")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--prepare-only", action="store_true")
    given = parser.parse_args()
    prepare(given.data, given.out, given.rows, given.selection, given.epochs, given.model)
    options = ["--compare", given.methods, "--general", str(given.out / "general.jsonl")]
    words = ["train", str(given.out / "task.yaml"), *options, "--out", str(given.out / "run")]
    print(f"$ tunewise {' '.join(words)}", flush=True)
    if not given.prepare_only:
        main_of = "from tunewise.cli.main import main; main()"
        sys.exit(subprocess.run([sys.executable, "-c", main_of, *words], check=False).returncode)


if __name__ == "__main__":
    main()
