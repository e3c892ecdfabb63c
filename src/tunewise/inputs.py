"""New inputs for ``tunewise answer``, and the decision of an earlier run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from tunewise.data import Message
from tunewise.errors import DataError, RunError

Given = tuple[str, str | Sequence[Message]]


def read_inputs(source: str, stdin: TextIO) -> list[Given]:
    """Inputs from a file, or from standard input for ``-``: (as shown, as asked), one per line.

    A line is plain text, or a JSON object with ``input``, ``prompt`` or ``messages``. Raises DataError.
    """
    if source == "-":
        text = stdin.read()
    else:
        path = Path(source)
        if not path.is_file():
            raise DataError(
                f"{source}: no such file; give a file with one input per line, or - for standard input"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{source}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    given = [_one(line, source, place) for place, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not given:
        raise DataError(f"{source}: no input; expected one per line")
    return given


def _one(line: str, source: str, place: int) -> Given:
    if not line.lstrip().startswith("{"):
        return line, line
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return line, line
    for key in ("input", "prompt"):
        if isinstance(row.get(key), str):
            return row[key], row[key]
    if isinstance(row.get("messages"), list):
        turns = [Message(turn["role"], turn["content"]) for turn in row["messages"]]
        while turns and turns[-1].role == "assistant":
            turns.pop()
        if turns:
            return turns[-1].content, turns
    raise DataError(f"{source}:{place}: expected a key input, prompt or messages, got {sorted(row)}")


def read_decision(run: Path) -> dict[str, Any]:
    """``decision.json`` of a run folder. Raises RunError when there is none."""
    path = run / "decision.json"
    if not path.is_file():
        raise RunError(f"{run} holds no decision.json; run `tunewise decide TASK --out {run}` first")
    decision: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return decision
