"""Doubles of the runner's tests: a door that keeps what it was asked, a candidate, items and a test."""

import threading
import time

import pytest

from tunewise.data import Example, Message
from tunewise.evidence.judgement import make_test
from tunewise.evidence.records import Score
from tunewise.evidence.runner import Runner
from tunewise.models.door import Answer, Decoding, Price, Request
from tunewise.progress import Silent
from tunewise.spending import Spending
from tunewise.store import Store

PRICE = Price(input=1.0, output=1.0)


class RecordingDoor:
    """Answers with ``say(text)`` after ``delay(text)`` seconds, and keeps what it was asked and when."""

    name = "recording"
    fingerprint = "recording"
    host = None
    context_window = None
    lost_replies = 0

    def __init__(
        self, say=lambda text: "yes", *, concurrency=1, batch_size=1, delay=lambda text: 0.0, price=None
    ):
        self.say, self.delay, self.price = say, delay, price
        self.concurrency, self.batch_size = concurrency, batch_size
        self.asked, self.batches = [], []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()

    def answer(self, requests):
        texts = [request.messages[-1].content for request in requests]
        with self._lock:
            self.asked += texts
            self.batches.append(len(texts))
            self.in_flight += len(texts)
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            time.sleep(sum(map(self.delay, texts)))
            said = [self.say(text) for text in texts]
        finally:
            with self._lock:
                self.in_flight -= len(texts)
        return [answer if isinstance(answer, Answer) else Answer(answer) for answer in said]

    def count_tokens(self, messages):
        return None

    def close(self):
        return None


class PlainCandidate:
    rung = "zero-shot"

    def __init__(self, door):
        self.door = door

    def request(self, example):
        return a_request(example.input)


def a_request(text):
    return Request((Message("user", text),), Decoding(max_new_tokens=8))


def right(example, answer):
    """1 for "yes", 0 for anything else."""
    return Score("scored", 1.0 if answer.text == "yes" else 0.0)


def items(count):
    return [Example(f"e{i}", (Message("user", f"item {i}"),), ("yes",)) for i in range(count)]


def binary_test(count, target=0.8):
    return make_test("binary", target=target, tolerance=0.02, alpha_meets=0.025, items=count)


def place_of(text):
    return int(text.split()[1])


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "run.sqlite", {}) as opened:
        yield opened


@pytest.fixture
def runner(store):
    made = Runner(store, Spending(), Silent())
    yield made
    made.close()
