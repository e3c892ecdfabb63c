"""Real tokens per second of LoRA training against TRL's settings: same rows, recipe and machine, one run.

    python benchmarks/training.py --data FOLDER [--steps 16] [--rows N] [--sets even skewed]
        [--precision own|fp32] [--json]

FOLDER holds ``extraction_e2e/e2e_train.jsonl`` and ``corpus_medquad/medquad.jsonl``. *even*: E2E rows (a
sentence to a JSON object). *skewed*: the same with one long medical answer in eight. Every variant runs in
a process of its own with the embedded model, rank 8, rate 2e-4. Padding counts for nobody: a token is real
when it is of a row. The first step is not timed. Shown are wall and processor seconds (other work on the
machine slows the former more), and the loss of the saved adapter on the same held-out rows, read in fp32. A
step has 8 rows, and 4 of the skewed set: 8 with a long one, padded and without recomputing, take 20 GB.

Precision is each trainer's own choice unless ``--precision fp32`` says otherwise: bf16 autocast is TRL's
default, tunewise takes factors in bf16 where a CPU has AMX, else fp32; on a GPU both autocast to bf16.

Peers: ``trl-default`` as SFTConfig comes (it recomputes every layer), ``trl-kept`` without recomputing,
``trl-grouped`` with length-grouped batches, ``trl-packed`` with best-fit packing into 1,024 tokens; the
last three keep activations, which is faster.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS = ("ours", "trl-default", "trl-kept", "trl-grouped", "trl-packed")
SYSTEM = "Turn the sentence into a JSON object, or answer the question."
LONGEST = 900  # tokens of a long answer, about; characters are cut at 4 times as many
PACK = 1024
HELD_OUT = 16
POOL = 240  # rows to draw from
ROWS = {"even": 8, "skewed": 4}  # in a step


def examples_of(data: Path, name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(input, output) pairs to train on and to hold out."""
    e2e = [json.loads(line) for line in (data / "extraction_e2e/e2e_train.jsonl").open(encoding="utf-8")]
    pairs = [(row["input"], row["output"]) for row in e2e]
    pairs = [(i, o if isinstance(o, str) else json.dumps(o)) for i, o in pairs]
    if name == "skewed":
        medquad = [
            json.loads(line) for line in (data / "corpus_medquad/medquad.jsonl").open(encoding="utf-8")
        ]
        keys = ("question", "answer") if "question" in medquad[0] else ("input", "output")
        long = [(row[keys[0]], row[keys[1]][: 4 * LONGEST]) for row in medquad if len(row[keys[1]]) > 1200]
        pairs = [long[place // 8] if place % 8 == 0 else pair for place, pair in enumerate(pairs[: 2 * POOL])]
    random.Random(1).shuffle(pairs)
    return pairs[:POOL], pairs[POOL : POOL + HELD_OUT]


class Clock:
    """Real tokens and seconds of each step."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.steps: list[tuple[float, float]] = []
        self.began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started_at()

    def step(self) -> None:
        """A step has ended."""
        self.steps.append((time.perf_counter(), time.process_time()))
        if len(self.steps) == 1:
            self.first = time.time() - self.began

    def facts(self, loss: float) -> dict[str, Any]:
        """Figures of all steps but the first."""
        (wall, cpu), (wall_end, cpu_end) = self.steps[0], self.steps[-1]
        tokens = sum(self.tokens[1 : len(self.steps)])
        return {
            "tokens": tokens,
            "wall": tokens / (wall_end - wall),
            "cpu": tokens / (cpu_end - cpu),
            "first_step_seconds": self.first,
            "held_out_loss": loss,
        }


def started_at() -> float:
    """Seconds after boot at which this process began (Linux)."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def rendered(pairs: list[tuple[str, str]]) -> Any:
    """Rows as tunewise trains on them, and the tokenizer."""
    from tunewise.data import Example, Message
    from tunewise.models.embedded import embedded_folder
    from tunewise.models.tokens import render
    from tunewise.models.weights import load_tokenizer
    from tunewise.training.masks import render_rows

    tokenizer = load_tokenizer(embedded_folder())
    system = Message("system", SYSTEM)
    examples = [Example(f"{n:016x}", (system, Message("user", i)), (o,)) for n, (i, o) in enumerate(pairs)]
    return tokenizer, render_rows(tokenizer, render, examples, lambda e: e.turns, 2048).rows


def ours(data: Path, name: str, rows: int, steps: int, precision: str) -> dict[str, Any]:
    """tunewise's recipe, as the lora rung has it."""
    from tunewise.models.embedded import embedded_folder
    from tunewise.models.precision import best_precision
    from tunewise.training import trainer
    from tunewise.training.recipe import Recipe, train

    clock = Clock()
    some, held = examples_of(data, name)
    train_rows, held_rows = rendered(some)[1], rendered(held)[1]

    class Told:
        def tell(self, event: str, **facts: Any) -> None:
            if event == "training":
                clock.step()

    inner = trainer.Collate.__call__

    def counted(self: Any, examples: Any) -> Any:
        clock.tokens.append(sum(len(self.rows[example["row"]]) for example in examples))
        return inner(self, examples)

    trainer.Collate.__call__ = counted  # type: ignore[method-assign]
    chosen = best_precision() if precision == "own" else "fp32"
    recipe = Recipe(2e-4, steps * rows / len(train_rows), 0.01, 1.0, 8, rows, 0, chosen)
    with tempfile.TemporaryDirectory() as work:
        trained = train(embedded_folder(), train_rows, held_rows, recipe, Path(work), Told())
        loss = loss_of(trained.snapshots[-1].folder, held_rows)
    return clock.facts(loss)


def loss_of(adapter: Path, held_rows: Any) -> float:
    """Loss on the held-out rows, nats per answer token, of a saved adapter on the base in fp32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from tunewise.models.embedded import embedded_folder
    from tunewise.models.precision import products
    from tunewise.training.held_out import held_out_loss
    from tunewise.training.recipe import Recipe

    base = AutoModelForCausalLM.from_pretrained(embedded_folder(), dtype="float32")
    recipe = Recipe(2e-4, 1.0, 0.01, 1.0, 8, 8, 0, "fp32", rows_per_pass=1)
    with products("fp32"):
        return float(held_out_loss(PeftModel.from_pretrained(base, adapter), held_rows, recipe) or 0)


def trl(data: Path, name: str, rows: int, steps: int, precision: str, variant: str) -> dict[str, Any]:
    """TRL's SFTTrainer on the same rows as prompt and completion."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tunewise.models.embedded import embedded_folder
    from tunewise.models.weights import device_and_dtype

    clock = Clock()
    some, held = examples_of(data, name)
    tokenizer, train_rows = rendered(some)
    held_rows = rendered(held)[1]
    special: dict[str, Any] = {
        "trl-default": {},
        "trl-kept": {"gradient_checkpointing": False},
        "trl-grouped": {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
        "trl-packed": {"gradient_checkpointing": False, "packing": True, "max_length": PACK},
    }[variant]
    mean = sum(map(len, train_rows)) / len(train_rows)
    packs = max(1, round(rows * mean / PACK))  # as many rows in a step as the others have
    with tempfile.TemporaryDirectory() as work:
        args = SFTConfig(
            output_dir=work,
            per_device_train_batch_size=packs if variant == "trl-packed" else rows,
            max_steps=steps,
            learning_rate=2e-4,
            weight_decay=0.01,
            lr_scheduler_type="linear",
            warmup_steps=1,
            use_cpu=not torch.cuda.is_available(),
            completion_only_loss=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            seed=0,
            disable_tqdm=True,
            **{"max_length": 2048, **special, **({"bf16": False} if precision == "fp32" else {})},
        )
        # columns that TRL's own preparation makes of prompt and completion; ids as serving sends them
        dataset = Dataset.from_dict(
            {
                "input_ids": [row.ids for row in train_rows],
                "completion_mask": [[0] * len(row.prompt) + [1] * len(row.answer) for row in train_rows],
            }
        )

        class Steps(TrainerCallback):
            def on_step_end(self, *given: Any, **more: Any) -> None:
                clock.step()

        model = AutoModelForCausalLM.from_pretrained(embedded_folder(), dtype=device_and_dtype()[1])
        adapter = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = SFTTrainer(
            model=model, args=args, train_dataset=dataset, processing_class=tokenizer, peft_config=adapter,
            callbacks=[Steps()],
        )  # fmt: skip
        collate = trainer.data_collator

        def counted(examples: Any) -> Any:
            clock.tokens.append(sum(len(example["input_ids"]) for example in examples))
            return collate(examples)

        trainer.data_collator = counted
        trainer.train()
        trainer.model.save_pretrained(work)
        return clock.facts(loss_of(Path(work), held_rows))


def in_own_process(variant: str, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One variant, measured in a fresh process."""
    words = [sys.executable, __file__, "--data", str(given.data), "--steps", str(given.steps)]
    words += ["--rows", str(given.rows or ROWS[name]), "--sets", name, "--variant", variant]
    words += ["--precision", given.precision]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{variant}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def torch_has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rows", type=int, help="in a step; default 8, and 4 of the skewed set")
    parser.add_argument("--sets", nargs="+", default=["even", "skewed"], choices=["even", "skewed"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--precision", default="own", choices=["own", "fp32"])
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.precision == "fp32" and torch_has_gpu():
        raise SystemExit("--precision fp32 is for a CPU: on a GPU the base is read in bf16")
    if given.variant:
        measure = ours if given.variant == "ours" else trl
        more = (given.precision,) if given.variant == "ours" else (given.precision, given.variant)
        rows = given.rows or ROWS[given.sets[0]]
        print(json.dumps(measure(given.data, given.sets[0], rows, given.steps, *more)))
        return
    results: dict[str, dict[str, Any]] = {}
    for name in given.sets:
        results[name] = {variant: in_own_process(variant, name, given) for variant in given.variants}
        if not given.json:
            report(name, results[name])
    if given.json:
        print(json.dumps(results, indent=2))


def report(name: str, found: dict[str, Any]) -> None:
    """One table, and the ratios."""
    print(f"\n{name}: real tokens per second")
    print(f"{'variant':<12} {'wall':>8} {'cpu s':>8} {'first step':>11} {'held-out loss':>14}")
    for variant, row in found.items():
        print(
            f"{variant:<12} {row['wall']:8.1f} {row['cpu']:8.1f} {row['first_step_seconds']:10.1f}s "
            f"{row['held_out_loss']:14.4f}"
        )
    peers = {variant: row for variant, row in found.items() if variant != "ours"}
    if "ours" not in found or not peers:
        return
    for clock in ("wall", "cpu"):
        best = max(peers, key=lambda variant: peers[variant][clock])
        said = f"against the fastest ({best}) {found['ours'][clock] / peers[best][clock]:.2f}x"
        if "trl-default" in peers:
            said += f", against trl-default {found['ours'][clock] / peers['trl-default'][clock]:.2f}x"
        print(f"{clock}: {said}", flush=True)


if __name__ == "__main__":
    main()
