"""Answering 5-shot prompts: tunewise's generation loop against plain batched ``generate`` of transformers.

    python benchmarks/answering.py [--data ../shared/data] [--inputs 64] [--max-new-tokens 96] [--rounds 1]

The prompts are those of an extraction task (E2E: a sentence to JSON): an instruction, five fixed examples as
chat turns, and an input that differs. Both sides get the same token ids, greedy, fp32, the embedded model.
Peer: the model as transformers loads it, ``generate`` with left padding, batches of 16 and of 32 in file
order; the faster one counts. Ours: calls of 32 prompts, as the runner asks them, the prefix encoded within
the time. Loading is left out on both sides; each side first answers two other prompts. In every round ours
runs before, between and after the two of the peer, and the median counts: a drift of the machine hits both.

Where an answer differs from the peer's, the gap between the two best logits of the plain model at the first
different token is printed: up to 1e-4 it is a tie for fp32. Exit code 1 if the ratio is below 4 or a gap
above that. Processor seconds are printed beside: with one thread (OMP_NUM_THREADS=1) they are the steadier
figure on a machine that others use too.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tunewise.data import Message
from tunewise.models import weights
from tunewise.models.drafting import Drafter
from tunewise.models.embedded import embedded_folder
from tunewise.models.shared_prefix import generator_for
from tunewise.models.tokens import render, stop_ids
from tunewise.models.weights import load_model, load_tokenizer, quiet_transformers
from tunewise.models.writing import Prompt

INSTRUCTION = (
    "Extract the restaurant's attributes from the sentence as one JSON object with the keys name, eatType, "
    "food, priceRange, customer rating, area, familyFriendly, near. Leave out what is not said. Answer with "
    "JSON only."
)
SHOTS, CALL, TIE, BOUND = 5, 32, 1e-4, 4.0
Tokens = list[tuple[int, ...]]


def rows(path: Path, count: int) -> list[dict[str, Any]]:
    """The first rows of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count), lines, strict=False)]


def chats(data: Path, count: int) -> list[tuple[Message, ...]]:
    """One chat per input: instruction, five examples, the input."""
    folder = data / "extraction_e2e"
    shots = [Message("system", INSTRUCTION)]
    for row in rows(folder / "e2e_train.jsonl", SHOTS):
        shots += [Message("user", row["input"]), Message("assistant", json.dumps(row["output"]))]
    return [(*shots, Message("user", row["input"])) for row in rows(folder / "e2e_test.jsonl", count)]


def plain(model: Any, prompts: list[Prompt], stops: frozenset[int], batch: int) -> Tokens:
    """Plain ``generate`` with left padding; tokens up to and with the stop token."""
    answers: Tokens = []
    for first in range(0, len(prompts), batch):
        group = prompts[first : first + batch]
        width = max(len(prompt.tokens) for prompt in group)
        pads = [width - len(prompt.tokens) for prompt in group]
        ids = torch.tensor([[min(stops)] * p + list(g.tokens) for p, g in zip(pads, group, strict=True)])
        mask = torch.tensor([[0] * p + [1] * (width - p) for p in pads])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=group[0].max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(stops),
                pad_token_id=min(stops),
            )
        for written in out[:, width:].tolist():
            ends = [i for i, token in enumerate(written) if token in stops]
            answers.append(tuple(written[: ends[0] + 1] if ends else written))
    return answers


def ours(model: Any, prompts: list[Prompt], stops: frozenset[int]) -> Callable[[], Tokens]:
    """Our loop, forgetting prefixes and answers before each run: what is shared is found in the run."""
    generator: Any = generator_for(model, stops, CALL)
    generator.write([Prompt(prompt.tokens[-40:], 2) for prompt in prompts[:2]])

    def run() -> Tokens:
        generator.store.kept.clear()
        generator.drafter = Drafter(generator.drafter.per_token)
        calls = [prompts[first : first + CALL] for first in range(0, len(prompts), CALL)]
        return [written.tokens for call in calls for written in generator.write(call)]

    return run


def timed(run: Callable[[], Tokens]) -> tuple[float, float, Tokens]:
    """Wall and processor seconds of a run, and what it wrote."""
    started, worked = time.perf_counter(), time.process_time()
    answers = run()
    return time.perf_counter() - started, time.process_time() - worked, answers


def gap(model: Any, prompt: Prompt, mine: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[int, float]:
    """Place of the first different token, and by how much the plain model's best logit leads there."""
    place = next(i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1])
    with torch.inference_mode():
        logits = model(
            torch.tensor([[*prompt.tokens, *mine[:place]]], device=model.device), logits_to_keep=1
        ).logits[0, -1]
    best = logits.topk(2).values
    return place, float(best[0] - best[1])


def main() -> int:
    parser = argparse.ArgumentParser(description="Shared-prefix answering against plain generate.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--inputs", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    folder = embedded_folder()
    device = torch.device("cuda" if weights.on_gpu() else "cpu")
    weights.device_and_dtype = lambda: (device, torch.float32)
    tokenizer = load_tokenizer(folder)
    with quiet_transformers():
        peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    stops = stop_ids(tokenizer, peer.generation_config)
    ids = [render(tokenizer, chat)[0] for chat in chats(options.data, options.inputs)]
    prompts = [Prompt(tuple(one), options.max_new_tokens) for one in ids]
    run_ours = ours(load_model(folder), prompts, stops)
    plain(peer, [Prompt(prompt.tokens[-40:], 2) for prompt in prompts[:2]], stops, 2)

    seconds: dict[str, list[float]] = {"ours": [], "plain 16": [], "plain 32": []}
    wrote: dict[str, Tokens] = {}
    steps: list[tuple[str, Callable[[], Tokens]]] = [
        ("ours", run_ours),
        ("plain 16", lambda: plain(peer, prompts, stops, 16)),
        ("ours", run_ours),
        ("plain 32", lambda: plain(peer, prompts, stops, 32)),
        ("ours", run_ours),
    ]
    for name, step in steps * options.rounds:
        took, worked, wrote[name] = timed(step)
        seconds[name].append(took)
        print(f"{name:9} {took:8.2f} s, processor {worked:8.2f} s", flush=True)

    medians = {name: statistics.median(times) for name, times in seconds.items()}
    best = min(("plain 16", "plain 32"), key=lambda name: medians[name])
    ratio = medians[best] / medians["ours"]
    pairs = zip(prompts, wrote["ours"], wrote[best], strict=True)
    gaps = [(i, *gap(peer, *triple)) for i, triple in enumerate(pairs) if triple[1] != triple[2]]
    lengths = [len(prompt.tokens) for prompt in prompts]
    print(
        f"{len(prompts)} prompts of {min(lengths)}-{max(lengths)} tokens, {torch.get_num_threads()} threads"
    )
    print(f"tokens written: {sum(map(len, wrote['ours']))}; answers identical: {len(prompts) - len(gaps)}")
    for item, place, lead in gaps:
        print(f"  input {item}, token {place}: the best logit leads by {lead:.1e}")
    print(f"ours {medians['ours']:.2f} s, {best} {medians[best]:.2f} s: {ratio:.1f} times as fast")
    return 0 if ratio >= BOUND and all(lead <= TIE for _, _, lead in gaps) else 1


if __name__ == "__main__":
    sys.exit(main())
