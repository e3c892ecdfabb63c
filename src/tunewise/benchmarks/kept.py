"""Scores and answers that were computed before, in the user's cache folder: a base model is read once.

One row per model and item. The model's name is the content hash of everything its answers depend on
(``LocalDoor.fingerprint``), the item's that of its token ids and where scoring begins or of its request, so
that changed weights, adapters, prompts or tokenizers never find an older row. Losing the file costs time.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewise.database import connect, failures_in_words, make_folder, transaction
from tunewise.errors import SettingError, StoreError
from tunewise.models.door import Answer, Request
from tunewise.models.embedded import cache_folder
from tunewise.models.token_trees import Question

VERSION = 1  # raise it when scores or a row's form change: recorded ones are computed anew

_TABLES = [
    f"CREATE TABLE IF NOT EXISTS {name} (model TEXT NOT NULL, item TEXT NOT NULL, value TEXT NOT NULL, "
    "PRIMARY KEY (model, item)) WITHOUT ROWID"
    for name in ("scores", "answers")
]  # value, JSON. scores: [[log-probability, ...], [all tokens first choice, ...]]; answers: Answer's fields
Value = tuple[tuple[float, ...], tuple[bool, ...]]


class _Kept:
    """One table of the file, for one model."""

    table: str

    def __init__(self, fingerprint: str, place: Path | None = None) -> None:
        self.model = f"{fingerprint}-{VERSION}"
        self.place = place or cache_folder() / "scores.sqlite"

    def _find(self, keys: Sequence[str]) -> dict[str, Any]:
        """What is known; nothing where the folder cannot be written (SQLite must).

        Raises StoreError when the file is damaged.
        """
        if not self.place.is_file() or not os.access(self.place.parent, os.W_OK):
            return {}
        known: dict[str, Any] = {}
        with failures_in_words(self.place), closing(self.place) as file:
            for begin in range(0, len(keys), 500):
                some = keys[begin : begin + 500]
                marks = ",".join("?" * len(some))
                query = f"SELECT item, value FROM {self.table} WHERE model = ? AND item IN ({marks})"
                known |= {item: json.loads(value) for item, value in file.execute(query, (self.model, *some))}
        return known

    def _keep(self, values: Iterable[tuple[str, Any]]) -> None:
        """Remember, where the folder can be written: what is not remembered only costs time again."""
        rows = [(self.model, item, json.dumps(value)) for item, value in values]
        with suppress(StoreError, SettingError):
            make_folder(self.place.parent)
            with failures_in_words(self.place), closing(self.place) as file, transaction(file):
                file.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?, ?)", rows)


class KeptScores(_Kept):
    """Scores of one model."""

    table = "scores"

    def find(self, questions: Sequence[Question]) -> dict[int, Value]:
        """What is known, by the question's number. Raises StoreError when the file is damaged."""
        keys = [key(question) for question in questions]
        known = self._find(keys)
        return {
            number: (tuple(known[item][0]), tuple(known[item][1]))
            for number, item in enumerate(keys)
            if item in known
        }

    def keep(self, questions: Sequence[Question], values: Sequence[Value]) -> None:
        """Remember scores."""
        found = zip(questions, values, strict=True)
        self._keep((key(question), [list(logprobs), list(greedy)]) for question, (logprobs, greedy) in found)


class KeptAnswers(_Kept):
    """Greedy answers of one model on this machine: its fingerprint names weights, precision and loop."""

    table = "answers"

    def find(self, requests: Sequence[Request]) -> dict[int, Answer]:
        """What is known, by the request's number. Raises StoreError when the file is damaged."""
        keys = [request.key(self.model) for request in requests]
        known = self._find(keys)
        return {number: Answer(**known[item]) for number, item in enumerate(keys) if item in known}

    def keep(self, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
        """Remember answers; those that errored are asked again."""
        given = zip(requests, answers, strict=True)
        self._keep((r.key(self.model), asdict(a)) for r, a in given if a.status != "errored")


class closing:
    """The file, open for a block, its tables made."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> sqlite3.Connection:
        self.file = connect(self.place, pragmas=["journal_mode = WAL", "synchronous = NORMAL"])
        for table in _TABLES:
            self.file.execute(table)
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()


def key(question: Question) -> str:
    """Content hash of what is asked; the group is no part of it, only a way of reading."""
    body = json.dumps([question.sequences, question.firsts], separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
