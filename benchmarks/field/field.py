"""Decide on public data sets: prepare rows from a data folder, then climb.

    python benchmarks/field/field.py --data ../shared/data --out runs/field            # all of them
    python benchmarks/field/field.py --data ../shared/data --out runs/field --only e2e --prepare-only
    python benchmarks/field/field.py --only soap --rungs zero-shot,few-shot --exhaustive

The rows are written to the output folder and never to the repository. Each task file stands beside
this script; it is copied next to its rows, so that the run can be repeated with `tunewise decide`.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

BANKING_INTENTS = (
    "activate_my_card",
    "atm_support",
    "automatic_top_up",
    "cancel_transfer",
    "card_about_to_expire",
    "change_pin",
    "contactless_not_working",
    "country_support",
    "edit_personal_details",
    "exchange_rate",
    "lost_or_stolen_phone",
    "passcode_forgotten",
    "receiving_money",
    "terminate_account",
    "transfer_timing",
)


SOAP = ("Subjective", "Objective", "Assessment", "Plan")
SOAP_OF = {  # the sections of MTS-Dialog; all others are what the patient tells
    **dict.fromkeys(("EXAM", "IMAGING", "LABS", "PROCEDURES"), "Objective"),
    **dict.fromkeys(("ASSESSMENT", "DIAGNOSIS"), "Assessment"),
    **dict.fromkeys(("PLAN", "DISPOSITION", "EDCOURSE"), "Plan"),
}


def main() -> None:
    """Prepare and decide, one task after the other."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--out", type=Path, default=Path("runs/field"))
    options.add_argument("--only", choices=sorted(PREPARE))
    options.add_argument("--prepare-only", action="store_true")
    options.add_argument("--exhaustive", action="store_true")
    options.add_argument("--rungs", help="only these, comma-separated")
    given = options.parse_args()
    for name in [given.only] if given.only else PREPARE:
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        PREPARE[name](given.data, folder)
        shutil.copyfile(Path(__file__).with_name(f"{name}.yaml"), folder / "task.yaml")
        if given.prepare_only:
            continue
        command = [str(Path(sys.executable).with_name("tunewise")), "decide", str(folder / "task.yaml")]
        command += ["--out", str(folder / "run")] + (["--exhaustive"] if given.exhaustive else [])
        command += ["--rungs", given.rungs] if given.rungs else []
        print("$", " ".join(command), flush=True)
        code = subprocess.run(command, check=False).returncode
        print(f"exit code {code}\n", flush=True)


def e2e(data: Path, folder: Path) -> None:
    """A restaurant sentence to its attributes; rows that share an output stay in one part."""
    rows = read(data / "extraction_e2e/e2e_train.jsonl")
    picked = some(rows, 1000)
    write(
        folder / "rows.jsonl", ({**pick(r, "input", "output"), "record": dumps(r["output"])} for r in picked)
    )


def banking(data: Path, folder: Path) -> None:
    """A customer's message to one of 15 intents."""
    rows = [
        row
        for name in ("train", "test")
        for row in read(data / f"intent_banking77/banking77_{name}.jsonl")
        if row["output"] in BANKING_INTENTS
    ]
    write(folder / "rows.jsonl", (pick(r, "input", "output") for r in some(rows, 900)))


def policy(data: Path, folder: Path) -> None:
    """A question about a website's privacy policy; the stored context is never shown, the index holds it."""
    dev = some(read(data / "policy_qa/policyqa_dev.jsonl"), 400)
    test = some(read(data / "policy_qa/policyqa_test.jsonl"), 900)[300:]  # the first 300 were opened before
    write(folder / "train.jsonl", (question(r) for r in dev[:300]))
    write(folder / "selection.jsonl", (question(r) for r in dev[300:]))
    write(folder / "certification.jsonl", (question(r) for r in test))
    documents = folder / "documents"
    documents.mkdir(exist_ok=True)
    for name in ("dev", "test"):
        docs = read(data / f"policy_qa/policyqa_{name}_docs.jsonl")
        write(documents / f"{name}.jsonl", ({**d, "site": d["doc_id"].split("#")[0]} for d in docs))


def soap(data: Path, folder: Path) -> None:
    """A doctor's talk with a patient to a note with the four SOAP headings, three with nothing said."""
    clinical(data, folder, soap_note)


def sections(data: Path, folder: Path) -> None:
    """The same talks to the section's text alone: no heading, no filling words that answers share."""
    clinical(data, folder, lambda row: words(row["output"]))


def clinical(data: Path, folder: Path, note: Callable[[Row], str]) -> None:
    """300 train, 48 selection, 100 certification rows, the long ones (an eighth) left out."""
    source = data / "clinical_notes"
    short = {
        name: [
            {"id": r["id"], "input": r["input"], "output": note(r)}
            for r in read(source / f"mts_dialog_{name}.jsonl")
            if len(r["input"]) <= 1200 and len(r["output"]) <= 500
        ]
        for name in ("train", "valid", "test1")
    }
    held = some(short["valid"] + short["test1"], 100)
    said = {letters(row) for row in held}  # a few talks stand in two of the files
    learnt = some((row for row in short["train"] if letters(row) not in said), 348)
    write(folder / "train.jsonl", learnt[:300])
    write(folder / "selection.jsonl", learnt[300:])
    write(folder / "certification.jsonl", held)


def soap_note(row: Row) -> str:
    """The section's text below the heading that it belongs to."""
    own = SOAP_OF.get(row["section"], "Subjective")
    filled = {name: words(row["output"]) if name == own else "Not discussed." for name in SOAP}
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in filled.items())


def words(text: str) -> str:
    """One line: the sections' own line breaks follow no rule."""
    return " ".join(text.split())


def letters(row: Row) -> str:
    """The input without case, spaces and punctuation."""
    return "".join(sign for sign in row["input"].casefold() if sign.isalnum())


def question(row: Row) -> Row:
    """Site and question as input, all answers as references, the gold passage by id."""
    answers = list(dict.fromkeys(row["answers"]))
    return {
        "input": f"{row['site']}: {row['question']}",
        "output": answers[0],
        "references": answers,
        "passage": row["doc_id"],
    }


def some(rows: Iterable[Row], count: int) -> list[Row]:
    """The rows whose content hash is smallest: the same ones everywhere, in no order of the file."""
    return sorted(rows, key=lambda row: hashlib.sha256(dumps(row).encode()).hexdigest())[:count]


def pick(row: Row, *keys: str) -> Row:
    return {key: row[key] for key in keys}


def answered(row: Row) -> Row:
    """A row of instruction_mix: an instruction with what it is about, and its answer."""
    return {
        "input": "\n".join(row[k] for k in ("instruction", "input") if row.get(k)),
        "output": row["output"],
    }


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def read(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def write(path: Path, rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


PREPARE: dict[str, Callable[[Path, Path], None]] = {
    "e2e": e2e,
    "banking": banking,
    "policy": policy,
    "soap": soap,
    "sections": sections,
}

if __name__ == "__main__":
    main()
