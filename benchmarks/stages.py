"""Reading documents, tuning on their questions, or both: killed once in each stage, resumed, compared.

    python benchmarks/stages.py prepare --data ../shared/data --out DIR
    python benchmarks/stages.py both --out DIR --kill cpt:40     # kill -9 at step 40 of the first stage
    python benchmarks/stages.py both --out DIR --kill sft:20     # goes on, and is killed in the second
    python benchmarks/stages.py both --out DIR                   # to the end
    python benchmarks/stages.py tuning --out DIR                 # tuning only, on the bare model
    python benchmarks/stages.py answers --out DIR --arm base     # and tuning, reading, both
    python benchmarks/stages.py table --out DIR

Documents: the answers of MedQuAD, without their questions, up to ``--tokens`` tokens of the embedded model.
Questions: of the same documents; the right answer is the first sentence. No topic (MedQuAD's "focus") stands
both in train or selection and in certification, so what the rows teach is the form; what is asked has to come
from the documents. General text: rows of instruction_mix, measured and not trained on.

Four arms answer the same certification items, greedily: base, tuning only, reading only, both. Printed: mean
token F1 with paired differences (BCa bootstrap), held-out perplexity on domain and general text before and
after. Every step can be cut off and called again. Never fails on a figure.
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

SENTENCE = re.compile(r"(?<=[.!?])\s")
SHORTEST, LONGEST = 40, 240  # characters of an answer
TRAIN, SELECTION, CERTIFICATION = 260, 20, 200
ARMS = ("base", "tuning", "reading", "both")
STAGE_OF = {"both": "cpt+sft", "tuning": "sft"}
MARGIN = 0.02
TASK = """\
name: medquad
instruction: Answer the question on health in one sentence.
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: token_f1
target: 0.4
decoding: {{max_new_tokens: 64}}
model: {model}
training:
  epochs: {epochs}
  cpt: {{documents: documents.jsonl, general: general.jsonl, tokens: {tokens}, length: {length}}}
"""


def prepare(data: Path, out: Path, tokens: int, length: int, epochs: float, model: str) -> None:
    """Write documents, questions, general text and the task file."""
    rows = read(data / "corpus_medquad" / "medquad.jsonl")
    asked, said = [], set()
    for row in rows:
        first = SENTENCE.split(row["answer"].strip())[0]
        if SHORTEST <= len(first) <= LONGEST and row["question"] not in said:
            said.add(row["question"])
            asked.append({**row, "first": first})
    focuses = sorted({row["focus"] for row in asked})
    random.Random(0).shuffle(focuses)
    place = {focus: number for number, focus in enumerate(focuses)}
    asked.sort(key=lambda row: (place[row["focus"]], row["id"]))
    parts: dict[str, list[dict[str, Any]]] = {"certification": [], "selection": [], "train": []}
    sizes = {"certification": CERTIFICATION, "selection": SELECTION, "train": TRAIN}
    names, taken = iter(parts), ""
    part = next(names)
    for row in asked:  # a topic begins a new part only when the part before is full
        if len(parts[part]) >= sizes[part] and row["focus"] != taken:
            following = next(names, None)
            if following is None:
                break
            part = following
        taken = row["focus"]
        parts[part].append({"input": row["question"], "output": row["first"]})
    out.mkdir(parents=True, exist_ok=True)
    for name, chosen in parts.items():
        write(out / f"{name}.jsonl", chosen[: sizes[name]] if name != "train" else chosen)
    used = {row["input"] for chosen in parts.values() for row in chosen}
    first = [row for row in rows if row["question"] in used]
    rest = [row for row in rows if row["question"] not in used]
    documents = [{"id": r["id"], "text": r["answer"], "focus": r["focus"]} for r in (*first, *rest)]
    write(out / "documents.jsonl", list({d["id"]: d for d in documents}.values()))
    general = read(data / "instruction_mix" / "alpaca_en_demo.jsonl")
    write(out / "general.jsonl", [{"input": text_in(r), "output": r["output"]} for r in general])
    task = TASK.format(tokens=tokens, length=length, epochs=epochs, model=model)
    (out / "task.yaml").write_text(task, encoding="utf-8")
    print(", ".join(f"{name} {len(chosen)}" for name, chosen in parts.items()), "questions")


def text_in(row: dict[str, Any]) -> str:
    return "\n".join(row[key] for key in ("instruction", "input") if row.get(key))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


class Lines:
    """Prints progress as JSON lines, for the process that may kill this one."""

    def tell(self, event: str, **facts: Any) -> None:
        print(json.dumps({"event": event, **facts}, default=str), flush=True)


def child(out: Path, arm: str) -> None:
    """Train in this process, going on where an earlier one was cut off."""
    from tunewise.tuning import train

    train(out / "task.yaml", stage=STAGE_OF[arm], out=out / arm, progress=Lines())


def run(out: Path, arm: str, kill: str | None) -> None:
    """Train in a process of its own; with ``STAGE:STEP`` end it there by kill -9."""
    began = time.monotonic()
    words = [sys.executable, __file__, "child", "--out", str(out), "--arm", arm]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line) if line.startswith("{") else {"event": "note", "text": line.strip()}
            if said["event"] == "note":
                print(said["text"])
            if said["event"] != "training":
                continue
            stage = (
                "sft" if arm == "tuning" or (out / arm / "cpt-sft" / "cpt" / "done.json").exists() else "cpt"
            )
            if said["step"] % 10 == 0 or said["step"] == said["steps"]:
                print(
                    f"{stage} step {said['step']}/{said['steps']}, loss {said.get('loss') or 0:.3f}",
                    flush=True,
                )
            if kill is not None and f"{stage}:{said['step']}" == kill:
                process.send_signal(signal.SIGKILL)
                break
        code = process.wait()
    print(f"ended with {code} after {time.monotonic() - began:.0f} s")


def folder_of(out: Path, arm: str) -> tuple[Path | None, Path | None]:
    """(model, adapter) that answer for an arm; None stands for the bare model, and for none."""
    if arm == "tuning":
        return None, out / "tuning" / "lora" / "adapter"
    places = {"base": None, "reading": out / "both/cpt-sft/cpt/model", "both": out / "both/cpt-sft/model"}
    return places[arm], None


def answers(out: Path, arm: str, batch: int) -> None:
    """Answer the certification items, a batch at a time; what is there is not asked again."""
    from tunewise.api import open_task
    from tunewise.data import Example
    from tunewise.models.open import open_door
    from tunewise.progress import Silent
    from tunewise.rungs.prompt import PromptCandidate, layout_of
    from tunewise.task_scores import score_answer

    opened = open_task(out / "task.yaml")
    model, adapter = folder_of(out, arm)
    door = open_door(str(model) if model else str(opened.task.model), adapter=adapter)
    layout = layout_of(opened.bench(out / "bench", 0, Silent()))
    candidate = PromptCandidate(arm, door, layout, adapter=adapter)
    place = out / f"answers-{arm}.jsonl"
    done = read(place) if place.is_file() else []
    todo: list[Example] = list(opened.order)[len(done) :]
    began = time.monotonic()
    with place.open("a", encoding="utf-8") as file:
        for start in range(0, len(todo), batch):
            some = todo[start : start + batch]
            for example, answer in zip(some, door.answer([candidate.request(e) for e in some]), strict=True):
                value = score_answer(opened.task, opened.parts, example, answer).value
                said = {"key": example.key, "text": answer.text, "value": value}
                file.write(json.dumps(said, ensure_ascii=False) + "\n")
            file.flush()
    print(f"{arm}: {len(done) + len(todo)} answers, {time.monotonic() - began:.0f} s")


def table(out: Path) -> None:
    """Quality of the arms with paired differences, and perplexities."""
    from tunewise.evidence.paired import compare_graded

    scores = {
        arm: [row["value"] for row in read(out / f"answers-{arm}.jsonl")]
        for arm in ARMS
        if (out / f"answers-{arm}.jsonl").is_file()
    }
    print(f"{'arm':10s} {'items':>5s} {'token F1':>9s}  against tuning only")
    for arm, values in scores.items():
        line = f"{arm:10s} {len(values):5d} {fmean(values):9.3f}"
        if "tuning" in scores and arm != "tuning":
            found = compare_graded(scores["tuning"], values, MARGIN)
            line += f"  {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {found.answer}"
        print(line)
    facts = json.loads((out / "both/cpt-sft/cpt/done.json").read_text(encoding="utf-8"))
    print(f"read: {facts['train_tokens']:,} tokens, {facts['epochs']:g} epoch, {facts['steps']} steps")
    for name, found in facts["perplexity"].items():
        print(f"perplexity on held-out {name} text: {found['before']:.2f} before, {found['after']:.2f} after")
    print(f"gate: {facts['why']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["prepare", "both", "tuning", "answers", "table", "child"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--epochs", type=float, default=2.0, help="of tuning")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--arm", choices=ARMS, default="both")
    parser.add_argument("--kill", metavar="STAGE:STEP")
    parser.add_argument("--batch", type=int, default=50)
    given = parser.parse_args()
    if given.what == "prepare":
        prepare(given.data, given.out, given.tokens, given.length, given.epochs, given.model)
    elif given.what == "child":
        child(given.out, given.arm)
    elif given.what == "answers":
        answers(given.out, given.arm, given.batch)
    elif given.what == "table":
        table(given.out)
    else:
        run(given.out, given.what, given.kill)


if __name__ == "__main__":
    main()
