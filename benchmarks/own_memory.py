"""Peak memory on this machine, its GPU or else its CPU, predicted against measured on the embedded model.

    python benchmarks/own_memory.py                     # full, lora and qlora at 128, 256 and 512 tokens x 2
    python benchmarks/own_memory.py --lengths 96 320 --checkpointing full --attention eager

Measured: live tensor storages, on a GPU what its allocator holds (``training.tensor_memory``), at the peak of
steps 2 and 3 of plain transformers + PEFT with AdamW (foreach); predicted: ``tunewise.estimate`` for this
machine, nothing calibrated.
"""

import argparse
import json
from dataclasses import asdict
from statistics import median

from tunewise import estimate
from tunewise.models.embedded import embedded_folder
from tunewise.training.probe import ProbeSetup, probe, this_device

GIB = 2**30


def main() -> None:
    """Print one row per run and the largest and median error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--checkpointing", choices=["none", "full"], default="none")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder, device = embedded_folder(), this_device({"hardware": None})
    print(f"on {device}")
    print("| method | tokens | measured GiB | predicted GiB | error | peak at | tokens/s | predicted |")
    print("|---|---|---|---|---|---|---|---|")
    errors = []
    for method in given.methods:
        for length in given.lengths:
            run = ProbeSetup(
                method,
                length,
                given.micro_batch,
                optimizer=given.optimizer,
                recompute=given.checkpointing == "full",
                attention=given.attention,
            )
            found = probe(folder, run)
            said = estimate(
                "embedded",
                method=method,
                lengths=length,
                gpu=device,
                calibrate=False,
                micro_batch=given.micro_batch,
                checkpointing=given.checkpointing,
                attention=given.attention,
                optimizer=given.optimizer,
            )
            measured, predicted = found.peak_bytes / GIB, said.memory.allocated.expected
            errors.append(predicted / measured - 1)
            rate = said.run.speed.tokens_per_second.expected
            print(
                f"| {method} | {given.micro_batch} x {length} | {measured:.3f} | {predicted:.3f} "
                f"| {errors[-1]:+.1%} | {said.memory.peak} | {found.tokens_per_second:.0f} | {rate:.0f} |",
                flush=True,
            )
            if given.json:
                print(json.dumps({**asdict(run), **asdict(found), "predicted_gib": predicted}), flush=True)
    absolute = [abs(error) for error in errors]
    print(
        f"\n{given.checkpointing} checkpointing, {given.attention}: error median {median(absolute):.1%}, "
        f"largest {max(absolute):.1%} of {len(errors)} runs"
    )


if __name__ == "__main__":
    main()
