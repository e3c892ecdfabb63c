"""New inputs for ``tunewise answer``, and the decision of an earlier run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from tunewise import data
from tunewise.data import Message
from tunewise.errors import DataError, RunError, SettingError
from tunewise.formats import read_row, recognise
from tunewise.rowfiles import KINDS, json_value

Given = tuple[str, str | Sequence[Message]]


def read_inputs(source: str, stdin: TextIO) -> list[Given]:
    """Inputs from a file, or from standard input for ``-``: (as shown, as asked).

    A data file (JSONL, JSON, CSV, Parquet) holds rows of the accepted formats, with or without answers;
    any other file, and standard input, holds one input per line: plain text or such a row as JSON.
    Raises DataError.
    """
    if source == "-":
        try:
            return _lines(stdin.read().removeprefix("\ufeff"), "standard input")
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: not UTF-8 (byte {error.start}); send it as UTF-8") from None
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{source}: no such file; give a file of inputs, or - for standard input")
    if path.suffix.lower() in KINDS:
        return [(example.input, example.turns) for example in data.read_inputs(path).examples]
    try:
        return _lines(path.read_text(encoding="utf-8-sig"), source)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _lines(text: str, source: str) -> list[Given]:
    lines = [(place, line.rstrip("\r")) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{source}: no input; expected one per line")
    return [_one(line, source, place) for place, line in lines]


def _one(line: str, source: str, place: int) -> Given:
    row = json_value(line)
    if isinstance(row, DataError) and line.lstrip().startswith('{"'):
        raise DataError(
            f"{source}:{place}: {row} (a line that begins as an object is read as a row; "
            'as {"input": "..."} any text can be sent)'
        )
    if not isinstance(row, dict):
        return line, line
    try:
        turns = read_row(row, recognise([row]), answered=False).turns
    except DataError as error:
        raise DataError(f"{source}:{place}: {error}") from None
    return turns[-1][1], [Message(role, content) for role, content in turns]


def check_seed(seed: int) -> None:
    """Raise SettingError for a number that no generator of random numbers takes."""
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed: a whole number from 0 to {2**32 - 1} was expected, got {seed}")


def read_decision(run: Path) -> dict[str, Any]:
    """``decision.json`` of a run folder. Raises RunError when there is none that can be read."""
    path = run / "decision.json"
    if not path.is_file():
        raise RunError(f"{run} holds no decision.json; run `tunewise decide TASK --out {run}` first")
    try:
        decision = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        decision = None
    if not isinstance(decision, dict) or not {"task", "choice", "rungs"} <= decision.keys():
        raise RunError(
            f"{path} is not a decision that tunewise wrote, or it was changed since; the same"
            f" `tunewise decide TASK --out {run}` writes it again from what was measured"
        )
    return decision
