"""What tuning costs in general ability, and what the guard does about it: real data, the embedded model.

    python benchmarks/forgetting.py STAGE --data FOLDER [--out DIR] [--items 300]

FOLDER holds hellaswag, piqa, arc, lambada, ifeval, intent_banking77 and instruction_mix as
folders of JSONL, and a text in corpus_books. The narrow task: 200 messages of 20 of the banking intents, 40
for selection, 200 to certify. Each stage goes on where it was cut off, keeps its result in DIR and takes
minutes on two cores:

    forget   full tuning at 1e-3 under the guard: to be stopped and rolled back
    sane     full tuning at its default rate under the guard: no alarm
    careful  the same with 30 % general instructions, as the causes that sane names ask for: no symptom either
    lora     five epochs of LoRA at its default rate, the guard within its default share of the time
    none     two epochs of full tuning at 3e-4, without general data; nothing stops it
    mixed    the same with 30 % general instructions
    mix      benchmarks of base, none and mixed: what each lost, and the difference in pairs
    fast     three epochs of LoRA at 1e-3, unguarded
    methods  benchmarks and task quality of sane and lora, full tuning and LoRA at their default rates
    methods2 the same of none and fast, at rates at which both learn more
    show     all that is there, as text
"""

import argparse
import json
import random
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tunewise
from tunewise.benchmarks.comparison import compare_rights
from tunewise.benchmarks.scores import rights
from tunewise.progress import Progress

BENCHMARKS = ("hellaswag", "piqa", "arc_easy", "lambada")
SOURCES = {
    "hellaswag": "hellaswag/*.jsonl",
    "piqa": "piqa/*.jsonl",
    "arc": "arc/arc_easy*.jsonl",
    "lambada": "lambada/*.jsonl",
    "ifeval": "ifeval/*.jsonl",
    "corpus_books": "corpus_books/*.txt",
}
INTENTS, PER_INTENT = 20, 10
FORGETTING_RATE = 1e-3
MIX_RATE, MIX_EPOCHS = 3e-4, 2
LORA_EPOCHS = 5
FAST_RATE = 1e-3
LIMIT = 200  # items of each benchmark that are compared after training
LONG_RUN = 5000  # rows

TASK = """\
name: {name}
instruction: Name the intent.
examples:
  train: {rows}/train.jsonl
  selection: {rows}/selection.jsonl
  certification: {rows}/certification.jsonl
metric: exact
target: 0.80
decoding: {{max_new_tokens: 16}}
model: embedded
training: {training}
guard: {guard}
"""


@dataclass(frozen=True)
class Place:
    """Where rows come from and results go. items: of each benchmark, under the guard."""

    data: Path
    out: Path
    items: int


class Told(Progress):
    """Notes on standard error."""

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        if event == "note":
            print(f"  {facts['text']}", file=sys.stderr, flush=True)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def general(place: Place) -> Path:
    """A folder with the first items of each benchmark: what the guard reads in its full mode."""
    folder = place.out / f"general-{place.items}"
    for name, pattern in SOURCES.items():
        [path] = place.data.glob(pattern)
        if (folder / name / path.name).is_file():
            continue
        if path.suffix == ".txt":
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name / path.name)
        else:
            rows = rows_of(path)
            write_rows(folder / name / path.name, rows if name == "ifeval" else rows[: place.items])
    return folder


def narrow(place: Place) -> Path:
    """The narrow task: 20 intents in the order of their names, rows drawn with a fixed seed."""
    folder = place.out / "narrow"
    if (folder / "train.jsonl").is_file():
        return folder
    by_intent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows_of(place.data / "intent_banking77/banking77_train.jsonl"):
        by_intent[row["output"]].append({"input": row["input"], "output": row["output"]})
    rng, parts = random.Random(7), defaultdict(list)
    for intent in sorted(by_intent)[:INTENTS]:
        some = by_intent[intent]
        rng.shuffle(some)
        parts["train"] += some[:PER_INTENT]
        parts["selection"] += some[PER_INTENT : PER_INTENT + 2]
        parts["certification"] += some[PER_INTENT + 2 : 2 * PER_INTENT + 2]
    for name, rows in parts.items():
        rng.shuffle(rows)
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def mixture(place: Place) -> Path:
    """General instructions with answers."""
    [path] = place.data.glob("instruction_mix/alpaca*.jsonl")
    return path


def trained(
    place: Place, name: str, method: str, training: Mapping[str, Any], guard: Any, rows: Path
) -> dict[str, Any]:
    """One training run through ``tunewise.train``; the same call goes on."""
    task = place.out / f"{name}.yaml"
    task.write_text(
        TASK.format(
            name=name, rows=rows, training=json.dumps(training), guard=json.dumps(guard),
        ),
        encoding="utf-8",
    )  # fmt: skip
    run = tunewise.train(task, method=method, out=place.out / name, progress=Told())
    return {"folder": str(run.folder), "training": dict(training), **dict(run.facts)}


def forget(place: Place) -> dict[str, Any]:
    """Made to forget."""
    guard = {"data": str(general(place)), "mode": "full"}
    return trained(place, "forget", "full", {"learning_rate": FORGETTING_RATE}, guard, narrow(place))


def sane(place: Place) -> dict[str, Any]:
    """The same task and method at the default rate."""
    guard = {"data": str(general(place)), "mode": "full"}
    return trained(place, "sane", "full", {}, guard, narrow(place))


def careful(place: Place) -> dict[str, Any]:
    """The default rate, and general data beside the narrow rows."""
    guard = {"data": str(general(place)), "mode": "full"}
    mix = {"general": str(mixture(place)), "share": 0.30}
    return trained(place, "careful", "full", {"mix": mix}, guard, narrow(place))


def long_run(facts: Mapping[str, Any]) -> dict[str, Any]:
    """From the measured speeds: a run of 5,000 such rows whose four checkpoints read 3,000 items each."""
    guard = facts["guard"]
    if not guard.get("timeline"):
        return {"why": guard["why"]}
    read = sum(entry["n"] for entry in guard["timeline"])
    each = guard["seconds"]["checkpoints"] / read
    training = facts["seconds"] / facts["rows"] / facts["epochs"] * LONG_RUN * 3
    most = 4 * 3000 * each
    return {
        "seconds_per_item": each, "training_seconds": training, "guard_seconds": most,
        "share_if_every_item_is_read": most / training, "items_within_10_percent": 0.10 * training / each / 4,
    }  # fmt: skip


def none(place: Place) -> dict[str, Any]:
    """Without general data."""
    training = {"learning_rate": MIX_RATE, "epochs": MIX_EPOCHS}
    return trained(place, "none", "full", training, "off", narrow(place))


def mixed(place: Place) -> dict[str, Any]:
    """With 30 % general data."""
    mix = {"general": str(mixture(place)), "share": 0.30}
    training = {"learning_rate": MIX_RATE, "epochs": MIX_EPOCHS, "mix": mix}
    return trained(place, "mixed", "full", training, "off", narrow(place))


def lora(place: Place) -> dict[str, Any]:
    """An adapter on the same rows, guarded within the default share; and what 5,000 rows would take."""
    guard = {"data": str(place.data), "benchmarks": list(BENCHMARKS)}
    facts = trained(place, "lora", "lora", {"epochs": LORA_EPOCHS}, guard, narrow(place))
    return {**facts, "long_run": long_run(facts)}


def mix(place: Place) -> dict[str, Any]:
    """Forgetting without and with general data."""
    return forgotten(place, ("none", "mixed"))


def methods(place: Place) -> dict[str, Any]:
    """Forgetting of full tuning and LoRA, beside their quality on the same 200 rows."""
    return forgotten(place, ("sane", "lora"))


def fast(place: Place) -> dict[str, Any]:
    """An adapter that learns as much as full tuning at ``MIX_RATE``."""
    return trained(place, "fast", "lora", {"learning_rate": FAST_RATE}, "off", narrow(place))


def methods2(place: Place) -> dict[str, Any]:
    """As ``methods``, at higher rates."""
    return forgotten(place, ("none", "fast"))


def forgotten(place: Place, names: tuple[str, str]) -> dict[str, Any]:
    """Base against both, and the first against the second, item by item; task quality beside it."""
    base, one, other = (measured(place, name) for name in (None, *names))
    pairs = {f"base - {names[0]}": (base, one), f"base - {names[1]}": (base, other)}
    pairs[f"{names[1]} - {names[0]}"] = (other, one)
    found: dict[str, Any] = {"comparisons": {}}
    for said, (first, second) in pairs.items():
        rows = [
            compare_rights(name, "main figure", first[name], second[name]).to_json() for name in BENCHMARKS
        ]
        whole = [[value for name in BENCHMARKS for value in model[name]] for model in (first, second)]
        found["comparisons"][said] = [*rows, compare_rights("pooled", "main figure", *whole).to_json()]
    values = [quality(place, name) for name in names]
    found["quality"] = compare_rights("task", "exact", values[0], values[1]).to_json()
    return found


def measured(place: Place, name: str | None) -> dict[str, list[int]]:
    """Right or wrong on each item of each benchmark; None: the base. Scores are kept between calls."""
    folder = None if name is None else Path(result(place, name)["folder"])
    whole = folder is not None and folder.name == "model"
    report = tunewise.bench(
        str(folder) if whole else "embedded",
        adapter=None if whole or folder is None else folder,
        tasks=BENCHMARKS,
        data=place.data,
        limit=LIMIT,
    )
    return {
        one.benchmark.name: list(rights(one.benchmark, one.outcome.items)[one.benchmark.main])
        for one in report.measured
    }


def quality(place: Place, name: str) -> list[int]:
    """Right or wrong on each of the rows that are kept for this."""
    from tunewise.api import open_task
    from tunewise.progress import Silent
    from tunewise.rungs.prompt import PromptCandidate, layout_of

    opened = open_task(place.out / f"{name}.yaml")
    assert opened.tune_door is not None
    folder = Path(result(place, name)["folder"])
    bench = opened.bench(place.out, 0, Silent())
    candidate = PromptCandidate(name, opened.tune_door(folder), layout_of(bench), adapter=folder)
    answers = candidate.door.answer([candidate.request(example) for example in opened.order])
    candidate.door.close()
    return [int(bench.score(e, answer).value or 0) for e, answer in zip(opened.order, answers, strict=True)]


def result(place: Place, name: str) -> dict[str, Any]:
    """What a stage found."""
    path = place.out / "results" / f"{name}.json"
    if not path.is_file():
        sys.exit(f"run the stage {name} first")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def show(place: Place) -> None:
    """Everything that was found."""
    for name in STAGES:
        if (place.out / "results" / f"{name}.json").is_file():
            print_stage(name, result(place, name))


def print_stage(name: str, found: Mapping[str, Any]) -> None:
    """One stage."""
    from rich.console import Console

    from tunewise.cli.guard_table import print_rung

    print(f"\n## {name}")
    if "comparisons" in found:
        for said, rows in found["comparisons"].items():
            print(f"{said} (of {sum(row['n'] for row in rows[:-1])} items)")
            for row in rows:
                drop, relative = row["drop"], row["relative"]
                print(
                    f"  {row['name']:10} {row['first']:.3f} {row['second']:.3f}  "
                    f"drop {drop['estimate']:+.3f} [{drop['low']:+.3f}, {drop['high']:+.3f}]  "
                    f"relative {relative['estimate']:+.1%} [{relative['low']:+.1%}, {relative['high']:+.1%}]"
                )
        row = found["quality"]
        drop = row["drop"]
        print(
            f"task quality on {row['n']} rows: {row['first']:.3f} and {row['second']:.3f}, first minus "
            f"second {drop['estimate']:+.3f} [{drop['low']:+.3f}, {drop['high']:+.3f}]"
        )
        return
    print(
        f"{found['method']}, rate {found['learning_rate']:g}, {found['rows']} rows, {found['steps']} steps, "
        f"{found['seconds']:.0f} s, {found['tokens_per_second']} tokens/s; "
        f"selection {found['selection_score']}"
    )
    print_rung(Console(width=140, highlight=False), name, found["guard"])
    if "long_run" in found:
        print(json.dumps(found["long_run"], indent=1))


STAGES: dict[str, Callable[[Place], dict[str, Any]]] = {
    "forget": forget, "sane": sane, "careful": careful, "lora": lora, "none": none,
    "mixed": mixed, "mix": mix, "methods": methods, "fast": fast, "methods2": methods2,
}  # fmt: skip


def main() -> None:
    """One stage, or what all of them found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=[*STAGES, "show"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    parser.add_argument("--items", type=int, default=300, help="of each benchmark, read in full by the guard")
    chosen = parser.parse_args()
    place = Place(chosen.data.absolute(), chosen.out.absolute(), chosen.items)
    if chosen.stage == "show":
        show(place)
        return
    (place.out / "results").mkdir(parents=True, exist_ok=True)
    found = STAGES[chosen.stage](place)
    path = place.out / "results" / f"{chosen.stage}.json"
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    print_stage(chosen.stage, found)


if __name__ == "__main__":
    main()
