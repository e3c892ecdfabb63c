"""Calls on their way: sent within the cap, committed as soon as they return, handed over afterwards."""

import math
import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Protocol

from tunewise.errors import BudgetEnded, DoorError, StoreError
from tunewise.models.door import Answer, Door, Request
from tunewise.progress import Progress
from tunewise.spending import Spending, upper_bound
from tunewise.store import Call, Store


class Executor(Protocol):
    """Where calls run: the shape of ``concurrent.futures.Executor``, which cluster engines offer as well.

    What is submitted is a plain function of a door and requests and touches neither store nor budget;
    the commit is made in this process, by the future's callback.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> "Future[Any]": ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is not on record, with its identity at the door.

    upper_usd: the most it can cost by the door's price list; None when the door has none.
    """

    key: str
    request: Request
    upper_usd: float | None


@dataclass(frozen=True, slots=True)
class _Landing:
    """A batch that came back: its answers as they are on record, or what went wrong."""

    batch: tuple[Asked, ...]
    answers: tuple[Answer, ...]
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Landed:
    """One answer that counts: ``label`` as given to ``want``, ``key`` of its call on record."""

    label: int
    key: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Hands:
    """What every flight of a run shares. dearest: most USD per call seen, by the door's fingerprint."""

    store: Store
    spending: Spending
    executor: Executor
    progress: Progress
    dearest: dict[str, float] = field(default_factory=dict)


class Flight:
    """The calls of one step at one door. Used by one thread, as a context manager.

    ``want`` a request under a label; ``land`` gives answers, each on disk by then, in whatever order
    they return. Requests on record are not sent; equal requests are sent once. At most
    ``door.concurrency`` batches of ``door.batch_size`` are under way. On leaving, nothing new is sent
    and what is under way is waited for, so that no answer that was paid for is lost.
    """

    def __init__(self, hands: Hands, door: Door, purpose: str, rung: str) -> None:
        self._hands = hands
        self._door = door
        self._purpose = purpose
        self._rung = rung
        self._labels: dict[str, list[int]] = {}
        self._answers: dict[str, Answer] = {}
        self._waiting: deque[Asked] = deque()
        self._ready: list[Landed] = []
        self._landings: queue.SimpleQueue[_Landing] = queue.SimpleQueue()
        self._under_way = 0

    @property
    def width(self) -> int:
        """Requests that may be under way at once."""
        return max(1, self._door.concurrency) * max(1, self._door.batch_size)

    def __enter__(self) -> "Flight":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        if self._under_way and kind is not None and issubclass(kind, KeyboardInterrupt):
            self._hands.progress.tell(
                "note",
                text="Stopping: waiting for the calls under way, so that no answer is lost. "
                "Interrupt again to leave at once.",
            )
        while self._under_way:
            self._landings.get()
            self._under_way -= 1

    def want(self, label: int, request: Request) -> None:
        """Ask for the answer to ``request`` under ``label``; nothing is sent before ``land``."""
        key = request.key(self._door.fingerprint)
        if key in self._labels:
            self._labels[key].append(label)
            return
        answer = self._answers.get(key) or self._hands.store.call(key)
        if answer is not None:
            self._answers[key] = answer
            self._ready.append(Landed(label, key, answer))
            return
        self._labels[key] = [label]
        price = self._door.price
        self._waiting.append(Asked(key, request, None if price is None else upper_bound(price, request)))

    def land(self) -> list[Landed]:
        """The next answers, at least one as long as any is wanted. Waits for the door when it must.

        Raises BudgetEnded when the next call does not fit and nothing is under way that might make
        room; and what a batch that came back raised (DoorError, StoreError).
        """
        self._send()
        if not self._ready and self._under_way:
            self._take(self._landings.get())
        while not self._landings.empty():
            self._take(self._landings.get())
        ready, self._ready = self._ready, []
        return ready

    def _send(self) -> None:
        slots = max(1, self._door.concurrency)
        while self._waiting and self._under_way < slots:
            size = min(
                max(1, self._door.batch_size), math.ceil(len(self._waiting) / (slots - self._under_way))
            )
            batch = tuple(islice(self._waiting, size))
            try:
                reserved = self._hands.spending.reserve(math.fsum(map(self._bound, batch)))
            except BudgetEnded:
                if self._under_way or self._ready:
                    return
                raise
            for _ in batch:
                self._waiting.popleft()
            future = self._hands.executor.submit(answer_all, self._door, [asked.request for asked in batch])
            self._under_way += 1
            future.add_done_callback(partial(self._commit, batch, reserved))

    def _bound(self, asked: Asked) -> float:
        """What to reserve: by the price list; for a machine paid by the hour, twice the dearest call so far.

        The latter is an estimate, so a cap on such a machine can be passed by the first batch at most.
        """
        if asked.upper_usd is not None:
            return asked.upper_usd
        return 2 * self._hands.dearest.get(self._door.fingerprint, 0.0)

    def _take(self, landing: _Landing) -> None:
        self._under_way -= 1
        if landing.error is not None:
            raise landing.error
        for asked, answer in zip(landing.batch, landing.answers, strict=True):
            self._answers[asked.key] = answer
            self._ready += [Landed(label, asked.key, answer) for label in self._labels.pop(asked.key)]

    def _commit(self, batch: tuple[Asked, ...], reserved: float, future: "Future[list[Answer]]") -> None:
        """Runs where the call ended, at once: settle, commit, only then hand over. Always hands over."""
        landing = _Landing(
            batch, (), RuntimeError("a finished call could not be recorded (see the log above)")
        )
        try:
            landing = self._settled(batch, reserved, future)
        finally:
            self._landings.put(landing)

    def _settled(self, batch: tuple[Asked, ...], reserved: float, future: "Future[list[Answer]]") -> _Landing:
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._hands.spending.settle(reserved, 0.0)
            return _Landing(batch, (), error)
        answers = future.result()
        if len(answers) != len(batch):
            self._hands.spending.settle(reserved, None)
            name, got = self._door.name, len(answers)
            return _Landing(
                batch, (), DoorError(f"{name}: expected {len(batch)} answers, one per request, got {got}.")
            )
        self._hands.spending.settle(reserved, math.fsum(map(_cost, batch, answers)))
        dearest = max(
            [self._hands.dearest.get(self._door.fingerprint, 0.0), *(a.usd or 0.0 for a in answers)]
        )
        self._hands.dearest[self._door.fingerprint] = dearest
        try:
            recorded = self._hands.store.record_calls(
                [self._on_record(asked, answer) for asked, answer in zip(batch, answers, strict=True)]
            )
        except StoreError as failure:
            return _Landing(batch, (), failure)
        return _Landing(batch, tuple(recorded), None)

    def _on_record(self, asked: Asked, answer: Answer) -> Call:
        return Call(
            key=asked.key,
            answer=answer,
            door=self._door.fingerprint,
            purpose=self._purpose,
            rung=self._rung,
            request=asked.request,
            upper_usd=asked.upper_usd,
        )


def answer_all(door: Door, requests: Sequence[Request]) -> list[Answer]:
    """What an executor runs: one batch through the door."""
    return door.answer(requests)


def _cost(asked: Asked, answer: Answer) -> float:
    """USD to count for a call; where a priced door cannot tell, what it can have cost at most."""
    return (asked.upper_usd or 0.0) if answer.usd is None else answer.usd
