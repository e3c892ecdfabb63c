"""A workbench on which rungs are built without a model: the door is a function, calls are counted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tunewise.data import Example, Message
from tunewise.evidence.records import Score
from tunewise.models.door import Answer, Door, Request
from tunewise.models.scripted import ScriptedDoor
from tunewise.progress import Silent
from tunewise.rungs.rung import Workbench
from tunewise.splits import Parts
from tunewise.task import Knowledge, Task


class Calls:
    """Answers requests as the store would: a request that was asked before is not sent again."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.purposes: list[str] = []
        self._known: dict[str, Answer] = {}

    def ask(self, door: Door, requests: Sequence[Request], purpose: str) -> list[Answer]:
        self.purposes.append(purpose)
        for request in requests:
            key = request.key(door.fingerprint)
            if key not in self._known:
                self.sent.append(request)
                [self._known[key]] = door.answer([request])
        return [self._known[request.key(door.fingerprint)] for request in requests]


def exactly(example: Example, answer: Answer) -> Score:
    """1 when the answer is a reference, letter for letter."""
    if answer.status == "errored":
        return Score("errored", None)
    return Score("scored", float(answer.text in example.references))


def row(text: str, answer: Any = "?", **more: Any) -> Example:
    """An example of one turn; its key follows from text and answer."""
    turns = more.pop("turns", (Message("user", text),))
    return Example(key=f"{text}|{answer}", turns=turns, references=(answer,), **more)


@pytest.fixture
def make_row() -> Callable[..., Example]:
    return row


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Workbench]:
    """``make_bench(script, train=..., selection=..., documents=..., **task settings)``."""

    def make(
        script: Callable[[Sequence[Message]], str | Answer],
        *,
        train: Sequence[Example] = (),
        selection: Sequence[Example] = (),
        certification: Sequence[Example] = (),
        documents: Path | None = None,
        score: Callable[[Example, Answer], Score] = exactly,
        window: int | None = None,
        concurrency: int = 1,
        seed: int = 0,
        **settings: Any,
    ) -> Workbench:
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="exact", target=0.8).__dict__,
                "knowledge": None if documents is None else Knowledge(documents=documents),
                "instruction": "Answer in one word.",
                **settings,
            }
        )
        calls = Calls()
        bench = Workbench(
            task=task,
            parts=Parts(tuple(train), tuple(selection), tuple(certification), clusters=0),
            door=ScriptedDoor(script, context_window=window, concurrency=concurrency),
            tune_door=None,
            tune_door_missing="none here",
            ask=calls.ask,
            score=score,
            folder=tmp_path / "rungs",
            seed=seed,
            progress=Silent(),
        )
        bench.__dict__["calls"] = calls
        return bench

    return make
