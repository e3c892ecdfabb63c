"""A decision between two doors: a priced hosted model that is prompted, and a small local one that is tuned.

    python benchmarks/two_doors.py --out runs/two-doors

The hosted model is the package's mock server with ``two_doors_model.py`` behind it: its time (400 ms), its
prices and its quality are settings. The tuned one is the embedded model with a LoRA adapter, and what is
said of it is measured: tokens, time, throughput, the seconds of training. Prints the decision and its
economics block, and works the break-even volumes out again by hand from the block's own figures.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tunewise.models.mock_server import running_mock

TASK = """\
name: two-doors
instruction: Name the queue for the message.
examples: {messages}
split: {{train: 0.60, selection: 0.11, certification: 0.29}}
metric: accuracy
target: 0.80
limits: {{latency_ms: {latency_ms}, cost_per_query: 0.00015}}
output: {{choices: [Star, Iron, Forest, River, Station, Record]}}
decoding: {{max_new_tokens: 8}}
model:
  endpoint: {endpoint}
  name: mock-large
  usd_per_million: {{input: 2.50, cached_input: 1.25, output: 10}}
tune: {{model: embedded, usd_per_hour: {usd_per_hour}}}
economics: {{queries_per_day: 5000, today: few-shot, utilisation: 0.5, retrain_days: 90}}
"""
MESSAGES = Path(__file__).parents[1] / "examples/routing/messages.jsonl"


def main() -> None:
    """Run it and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/two-doors"))
    parser.add_argument("--usd-per-hour", type=float, default=0.10, help="of the machine that is tuned on")
    parser.add_argument("--latency-ms", type=float, default=2000, help="the limit")
    parser.add_argument("--port", type=int, default=8765, help="of the mock server")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(Path(__file__).parent))
    port = ["--port", str(chosen.port)]  # the same address again, so that the same folder resumes
    with running_mock(script="two_doors_model:reply", latency_ms=400, options=port) as url:
        task = chosen.out / "task.yaml"
        text = TASK.format(
            messages=MESSAGES, endpoint=url, usd_per_hour=chosen.usd_per_hour, latency_ms=chosen.latency_ms
        )
        task.write_text(text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "tunewise",
            "decide",
            str(task),
            "--out",
            str(chosen.out / "run"),
        ]
        command += ["--rungs", "zero-shot,few-shot,few-shot-nearest,lora", "--max-usd", "2"]
        code = subprocess.run(command, check=False).returncode
    print(f"exit {code}")
    decision = json.loads((chosen.out / "run/decision.json").read_text(encoding="utf-8"))
    print(json.dumps(decision["economics"], indent=1))
    check_by_hand(decision["economics"])


def check_by_hand(block: dict[str, Any]) -> None:
    """The break-even volumes again, from the block's figures, for ways that need no second machine."""
    entries = {entry["rung"]: entry for entry in block["rungs"]}
    today = entries[block["today"]]
    base = today["ways"][0]["usd_per_query"], today["build_usd"] / block["retrain_days"]
    for rung, entry in entries.items():
        for way in entry["ways"]:
            if entry is today:
                continue
            fixed = entry["build_usd"] / block["retrain_days"] - base[1]
            if way["machine_usd_per_day"] is not None:
                by_hand = (fixed + way["machine_usd_per_day"]) / base[0]
                sum_ = f"({fixed:.6f} + {way['machine_usd_per_day']:.4f}) / {base[0]:.6g}"
            else:
                by_hand = fixed / (base[0] - way["usd_per_query"])
                sum_ = f"{fixed:.6f} / ({base[0]:.6g} - {way['usd_per_query']:.6g})"
            print(
                f"{rung} ({way['way']}): {sum_} = {by_hand:.4f}; block: {way['break_even_queries_per_day']}"
            )


if __name__ == "__main__":
    main()
