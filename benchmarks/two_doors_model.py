"""Stands in for a large hosted model in ``two_doors.py``: right more often the more examples it is shown.

It knows the right queue of every message of examples/routing and errs on a share that falls with the
number of examples in its prompt, so its quality and its time are settings and no measurements.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tunewise.data import Message

MESSAGES = Path(__file__).parents[1] / "examples/routing/messages.jsonl"
SHARE_RIGHT = ((8, 0.97), (5, 0.85), (3, 0.75), (1, 0.5))  # from so many examples on


@lru_cache(maxsize=1)
def queues() -> dict[str, str]:
    """The right queue of every message."""
    rows = [json.loads(line) for line in MESSAGES.read_text(encoding="utf-8").splitlines()]
    return {row["input"]: row["output"] for row in rows}


def reply(messages: Sequence[Message]) -> str:
    """A queue; without examples a sentence, since the names say nothing by themselves."""
    asked = messages[-1].content
    shown = sum(message.role == "assistant" for message in messages)
    share = next((right for least, right in SHARE_RIGHT if shown >= least), 0.0)
    draw = int(hashlib.sha256(asked.encode()).hexdigest(), 16) % 1000 / 1000
    if not shown:
        return "This is best handled by the department that deals with it."
    return queues()[asked] if draw < share else "Record"
