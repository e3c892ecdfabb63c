"""Scores that were computed before, in the user's cache folder: a base model is scored once.

One row per model and item. The model's name is the content hash of everything its answers depend on
(``LocalDoor.fingerprint``), the item's that of its token ids and where scoring begins, so that changed
weights, adapters, prompts or tokenizers never find an older score. Losing the file costs only time.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tunewise.database import connect, failures_in_words, make_folder, transaction
from tunewise.errors import SettingError, StoreError
from tunewise.models.embedded import cache_folder
from tunewise.models.token_trees import Question

VERSION = 1  # raise it when scoring changes so that scores can differ: recorded ones are computed anew

_TABLE = """
    CREATE TABLE IF NOT EXISTS scores (
        model TEXT NOT NULL,
        item  TEXT NOT NULL,
        value TEXT NOT NULL, -- JSON: [[log-probability, ...], [all tokens first choice, ...]]
        PRIMARY KEY (model, item)
    ) WITHOUT ROWID
"""
Value = tuple[tuple[float, ...], tuple[bool, ...]]


class KeptScores:
    """Scores of one model."""

    def __init__(self, fingerprint: str, place: Path | None = None) -> None:
        self.model = f"{fingerprint}-{VERSION}"
        self.place = place or cache_folder() / "scores.sqlite"

    def find(self, questions: Sequence[Question]) -> dict[int, Value]:
        """What is known, by the question's number; nothing where the folder cannot be written (SQLite must).

        Raises StoreError when the file is damaged.
        """
        if not self.place.is_file() or not os.access(self.place.parent, os.W_OK):
            return {}
        keys = [key(question) for question in questions]
        known: dict[str, Value] = {}
        with failures_in_words(self.place), closing(self.place) as file:
            for begin in range(0, len(keys), 500):
                some = keys[begin : begin + 500]
                marks = ",".join("?" * len(some))
                query = f"SELECT item, value FROM scores WHERE model = ? AND item IN ({marks})"
                for item, value in file.execute(query, (self.model, *some)):
                    logprobs, greedy = json.loads(value)
                    known[item] = tuple(logprobs), tuple(greedy)
        return {number: known[item] for number, item in enumerate(keys) if item in known}

    def keep(self, questions: Sequence[Question], values: Sequence[Value]) -> None:
        """Remember scores, where the folder can be written: what is not remembered only costs time again."""
        rows = [
            (self.model, key(question), json.dumps([list(logprobs), list(greedy)]))
            for question, (logprobs, greedy) in zip(questions, values, strict=True)
        ]
        with suppress(StoreError, SettingError):
            make_folder(self.place.parent)
            with failures_in_words(self.place), closing(self.place) as file, transaction(file):
                file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)


class closing:
    """The file, open for a block, its table made."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> sqlite3.Connection:
        self.file = connect(self.place, pragmas=["journal_mode = WAL", "synchronous = NORMAL"])
        self.file.execute(_TABLE)
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()


def key(question: Question) -> str:
    """Content hash of what is asked; the group is no part of it, only a way of reading."""
    body = json.dumps([question.sequences, question.firsts], separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()
