"""A commented task file, guessed from a data file: what ``tunewise init DATA`` writes."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunewise.data import Example, read_examples
from tunewise.formats import is_filled

MAX_CHOICES = 100  # different outputs up to which they may be a closed set
ROWS_PER_CHOICE = 3  # mean rows of each output from which they are taken for one
SHORT_ANSWER = 60  # characters up to which half of the answers must be for ``exact``
_GROUP_NAME = r"(group|user|customer|author|site|source|session|thread|document)(_?id)?"
FEWEST_GROUPS = 64  # of which 0.35 hold the 16 that a certification needs, with room for chance
COPIES = 0.3  # share of rows whose output repeats an earlier row's, from which a group is proposed


@dataclass(frozen=True, slots=True)
class Guess:
    """What the data suggest. why: the reason in words; group: the row field proposed for ``split.group``."""

    metric: str
    why: str
    choices: tuple[str, ...] | None = None
    group: str | None = None
    group_why: str = ""


def init_task(data_path: str | Path, task_file: str | Path = "task.yaml") -> str:
    """The text of a task file for this data, each guess with its reason. Raises as ``read_examples``.

    task_file: where the text will be written; ``examples`` names the data as seen from that folder.
    """
    path = Path(data_path)
    read = read_examples(path)
    seen = Path(os.path.relpath(path, Path(task_file).parent)).as_posix()
    return task_text(path, seen, read.examples, read.format)


def guess(examples: Sequence[Example]) -> Guess:
    """Metric, closed set and group that fit these rows; at least one row."""
    outputs = [row.answer.strip() for row in examples]
    objects = all(_is_object(row.references[0]) for row in examples)
    group, group_why = _guess_group(examples, outputs if objects else ())
    if objects:
        return Guess("json_fields", "every output is a JSON object", None, group, group_why)
    kinds = Counter(outputs)
    several = any(len(row.references) > 1 for row in examples)
    enough = len(outputs) >= ROWS_PER_CHOICE * len(kinds)
    if not several and 2 <= len(kinds) <= MAX_CHOICES and enough:
        why = f"{len(outputs)} rows have only {len(kinds)} different outputs"
        return Guess("accuracy", why, tuple(sorted(kinds)), group, group_why)
    short = sum(len(output) <= SHORT_ANSWER for output in outputs) * 2 > len(outputs)
    if short and not several and all("\n" not in output for output in outputs):
        return Guess("exact", "the outputs are short texts of one line", None, group, group_why)
    return Guess("token_f1", "the outputs are texts of several words", None, group, group_why)


def _is_object(reference: Any) -> bool:
    if isinstance(reference, str) and reference.lstrip().startswith("{"):
        try:
            return isinstance(json.loads(reference), dict)
        except json.JSONDecodeError:
            return False
    return isinstance(reference, dict)


def _guess_group(examples: Sequence[Example], outputs: Sequence[str]) -> tuple[str | None, str]:
    """A field named like a group whose values come back, else ``output`` where these outputs do."""
    for field in examples[0].fields:
        values = Counter(str(row.fields.get(field)) for row in examples)
        filled = all(is_filled(row.fields.get(field)) for row in examples)
        if filled and re.fullmatch(_GROUP_NAME, field) and FEWEST_GROUPS <= len(values) < len(examples):
            return field, f"'{field}' has {len(values)} different values in {len(examples)} rows"
    copies = 1 - len(set(outputs)) / len(outputs) if len(set(outputs)) >= FEWEST_GROUPS else 0.0
    if copies >= COPIES and "output" in examples[0].fields:
        return "output", f"{copies:.0%} of the rows repeat the output of an earlier one"
    return None, ""


def task_text(path: Path, seen: str, examples: Sequence[Example], form: str) -> str:
    """The commented task file for these rows; ``seen``: the data's path as the task file names it."""
    found = guess(examples)
    lines = [
        f"# Task file for tunewise, written from {path.name}: {len(examples)} different {form}.",
        "# Guesses are marked; read them, then run: tunewise check THIS_FILE",
        "",
        f"name: {_name(path)}",
        "",
        "# What is wanted, as you would tell a new colleague. Leave it out when it cannot be said in words.",
        f"# instruction: {_instruction(found)}",
        "",
        f"examples: {_quoted(seen)}",
        "",
        "# Train: examples for prompts and for tuning. Selection: choosing among prompts and settings.",
        "# Certification: the verdict. Which row goes where follows from its content and stays so.",
        *_split_lines(found),
        "",
        f"# Guess: {found.why}.",
        "# accuracy (a choice from a closed set), exact, token_f1 or json_fields.",
        f"metric: {found.metric}",
        "",
        "# The quality to prove, between 0 and 1, and how far below it still counts as met",
        "# (by default 0.02 at a target of 0.90). tolerance: 0 is the strict test.",
        "target: 0.90",
        "# tolerance: 0.02",
        *_output_lines(found),
        "",
        "# Documents that hold what the model cannot know: a folder, or a file of JSONL rows.",
        "# knowledge: {documents: handbook/}",
        "",
        f"decoding: {{max_new_tokens: {_max_new_tokens(examples)}, temperature: 0}}",
        "",
        "# The model that answers: embedded, a folder of weights, a hub id, or an endpoint, for example",
        "# model: {endpoint: http://localhost:8000/v1, name: NAME, usd_per_million: {input: 1, output: 4}}",
        "model: embedded",
        "# The local weights that tuning trains, where they are not those of 'model'.",
        "# tune: {model: embedded, usd_per_hour: 0.60}",
        "",
        "# The cap on one run.",
        "# budget: {usd: 5, hours: 2}",
        "",
    ]
    return "\n".join(lines)


def _split_lines(found: Guess) -> list[str]:
    shares = "train: 0.50, selection: 0.15, certification: 0.35"
    if found.group is None:
        return [
            "# group: FIELD keeps rows with the same value of FIELD in one part.",
            f"split: {{{shares}}}",
        ]
    return [
        f"# Guess: {found.group_why}; such rows stay in one part.",
        f"split: {{{shares}, group: {_quoted(found.group)}}}",
    ]


def _output_lines(found: Guess) -> list[str]:
    if found.choices is None:
        return []
    return ["", "# Guess: the closed set of answers.", "output:", "  choices:"] + [
        f"    - {_quoted(choice)}" for choice in found.choices
    ]


def _instruction(found: Guess) -> str:
    if found.metric == "accuracy":
        return "Sort the message into one of the queues. Answer with the name of the queue only."
    if found.metric == "json_fields":
        return "Turn the text into one JSON object with the fields ... Answer with the JSON only."
    return "Answer the question in a few words."


def _name(path: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    return name or "task"


def _quoted(text: str) -> str:
    """A YAML scalar that reads back as this text: plain where that is safe, else in JSON's quotes."""
    plain = None if "  " in text else re.fullmatch(r"[A-Za-z./_][\w./ -]*[\w./]", text)
    try:
        safe = plain is not None and yaml.safe_load(text) == text
    except yaml.YAMLError:
        safe = False
    return text if safe else json.dumps(text, ensure_ascii=False)


def _max_new_tokens(examples: Sequence[Example]) -> int:
    """Room for the longest answer: a token per two characters, in steps of 32, from 32 to 1,024."""
    longest = max(len(row.answer) for row in examples)
    return min(1024, max(32, -(-longest // 2 // 32) * 32))
