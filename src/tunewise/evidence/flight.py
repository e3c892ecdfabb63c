"""Calls on their way: sent within the cap, committed as soon as they return, handed over afterwards."""

import math
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from types import FrameType, TracebackType
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


LOST = "attempts without a reply, at most"  # the cost of calls that a priced host may charge for all the same


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is not on record, with its identity at the door.

    upper_usd: the most it can cost by the door's price list; None when the door has none.
    """

    key: str
    request: Request
    upper_usd: float | None


@dataclass(eq=False, slots=True)
class _Batch:
    """Requests under way. ``landed`` is set, by whatever thread, when the rest is final.

    answers: as they are on record; error: what went wrong instead.
    """

    asked: tuple[Asked, ...]
    reserved: float
    answers: tuple[Answer, ...] = ()
    error: BaseException | None = None
    landed: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Landed:
    """One answer that counts: ``label`` as given to ``want``, ``key`` of its call on record."""

    label: int
    key: str
    answer: Answer


@dataclass(slots=True)
class Hands:
    """What every flight of a run shares. dearest: most USD per call seen, by the door's fingerprint.

    abandoned: a second interrupt came while calls under way were waited for: nothing waits for them now.
    """

    store: Store
    spending: Spending
    executor: Executor
    progress: Progress
    dearest: dict[str, float] = field(default_factory=dict)
    abandoned: bool = False


class Flight:
    """The calls of one step at one door. Used by one thread, as a context manager.

    ``want`` a request under a label; ``land`` gives answers, each on disk by then, in whatever order
    they return. Requests on record are not sent; equal requests are sent once. At most
    ``door.concurrency`` batches of ``door.batch_size`` are under way. On leaving, nothing new is sent
    and what is under way is waited for, so that no answer that was paid for is lost.

    errors_stand: what errored for this rung before its items were opened has that error for its answer.
    """

    def __init__(self, hands: Hands, door: Door, purpose: str, rung: str, errors_stand: bool = False) -> None:
        self._errors_stand = errors_stand
        self._hands = hands
        self._door = door
        self._purpose = purpose
        self._rung = rung
        self._labels: dict[str, list[int]] = {}
        self._answers: dict[str, Answer] = {}
        self._waiting: deque[Asked] = deque()
        self._ready: list[Landed] = []
        self._landings: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
        self._under_way: list[_Batch] = []
        if getattr(door, "tell", False) is None:  # a door that waits and tries again says so
            setattr(door, "tell", partial(hands.progress.tell, "note"))  # noqa: B010

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
        first: KeyboardInterrupt | None = None
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            try:
                if kind is not None and issubclass(kind, DoorError):
                    self._wait_for_no_attempt()
                self._wait()
                return
            except KeyboardInterrupt as came:
                first = came
        try:
            self._stop()
        except KeyboardInterrupt:
            self._abandon()
            raise
        if first is not None:
            raise first

    def _stop(self) -> None:
        """What the first interrupt does: no further attempt, and a wait for what is under way."""
        if not self._under_way:
            return
        self._give_up()
        self._hands.progress.tell(
            "note",
            text="Stopping: waiting for the calls under way, so that no answer is lost. "
            "Interrupt again to leave at once.",
        )
        self._wait()

    def _give_up(self) -> None:
        """What only waits for its turn or for another attempt has no answer to lose."""
        if give_up := getattr(self._door, "give_up", None):
            give_up()

    def _wait_for_no_attempt(self) -> None:
        """After the door failed as a whole: until the calls under way have ended, none tried again."""
        self._give_up()
        self._wait()
        if go_on := getattr(self._door, "go_on", None):
            go_on()  # what a run asks beside its rungs may find the door mended

    def _abandon(self) -> None:
        """What the second interrupt does: nothing waits any more; what a host may charge is on account."""
        self._hands.abandoned = True
        left = math.fsum(batch.reserved for batch in self._under_way if not batch.landed.is_set())
        if left and self._door.price is not None:
            self._hands.store.record_cost("calls left under way, at most", left, rung=self._rung)

    def _wait(self) -> None:
        """Until every batch has landed.

        Each is waited for by its own flag: an interrupt may have come between taking a batch from the queue
        and striking it off the list.
        """
        for batch in self._under_way:
            batch.landed.wait()

    def want(self, label: int, request: Request) -> None:
        """Ask for the answer to ``request`` under ``label``; nothing is sent before ``land``."""
        key = request.key(self._door.fingerprint)
        if key in self._labels:
            self._labels[key].append(label)
            return
        answer = self._answers.get(key)
        if answer is None and self._errors_stand:
            answer = self._hands.store.settled_failure(key, self._rung)
        if answer is None:
            answer = self._hands.store.call(key)
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
        while self._waiting and len(self._under_way) < slots:
            share = math.ceil(len(self._waiting) / (slots - len(self._under_way)))
            asked = tuple(islice(self._waiting, min(max(1, self._door.batch_size), share)))
            try:
                reserved = self._hands.spending.reserve(math.fsum(map(self._bound, asked)))
            except BudgetEnded:
                if self._under_way or self._ready:
                    return
                raise
            for _ in asked:
                self._waiting.popleft()
            with interrupts_held():
                self._submit(_Batch(asked, reserved))

    def _submit(self, batch: _Batch) -> None:
        requests = [asked.request for asked in batch.asked]
        future = self._hands.executor.submit(answer_all, self._door, requests)
        self._under_way.append(batch)
        future.add_done_callback(partial(self._commit, batch))

    def _bound(self, asked: Asked) -> float:
        """What to reserve: by the price list, with the attempts that may go unanswered; for a machine paid
        by the hour, twice the dearest call so far.

        The latter is an estimate, so a cap on such a machine can be passed by the first batch at most.
        """
        if asked.upper_usd is not None:
            return asked.upper_usd * (1 + self._door.lost_replies)
        return 2 * self._hands.dearest.get(self._door.fingerprint, 0.0)

    def _take(self, batch: _Batch) -> None:
        self._under_way.remove(batch)
        if batch.error is not None:
            raise batch.error
        for asked, answer in zip(batch.asked, batch.answers, strict=True):
            self._answers[asked.key] = answer
            self._ready += [Landed(label, asked.key, answer) for label in self._labels.pop(asked.key)]

    def _commit(self, batch: _Batch, future: "Future[list[Answer]]") -> None:
        """Runs where the call ended, at once: settle, commit, only then hand over. Always hands over."""
        failure: BaseException | None = RuntimeError("a finished call could not be recorded (see the log)")
        try:
            raised = CancelledError() if future.cancelled() else future.exception()
            if raised is None:
                batch.answers = self._recorded(batch, future.result())
            else:
                self._settle_failed(batch, raised)
            failure = raised
        except (DoorError, StoreError) as error:
            failure = error
        finally:
            batch.error = failure
            batch.landed.set()
            self._landings.put(batch)

    def _settle_failed(self, batch: _Batch, error: BaseException) -> None:
        """Of calls that ended in an error: what a host may charge for attempts that it never answered."""
        bounds = [asked.upper_usd or 0.0 for asked in batch.asked]
        lost = getattr(error, "unanswered", 0) * max(bounds, default=0.0)
        self._hands.spending.settle(batch.reserved, lost)
        if lost:
            self._hands.store.record_cost(LOST, lost, rung=self._rung)

    def _recorded(self, batch: _Batch, answers: list[Answer]) -> tuple[Answer, ...]:
        """Count what the answers cost and put them on record. DoorError unless there is one each."""
        spending, dearest, door = self._hands.spending, self._hands.dearest, self._door
        if len(answers) != len(batch.asked):
            spending.settle(batch.reserved, None)
            expected, got = len(batch.asked), len(answers)
            raise DoorError(f"{door.name}: expected {expected} answers, one per request, got {got}.")
        lost = math.fsum(map(lost_cost, batch.asked, answers))
        spending.settle(batch.reserved, lost + math.fsum(map(cost_of, batch.asked, answers)))
        if lost:
            self._hands.store.record_cost(LOST, lost, rung=self._rung)
        dearest[door.fingerprint] = max(
            [dearest.get(door.fingerprint, 0.0), *(a.usd or 0.0 for a in answers)]
        )
        calls = [self._on_record(asked, answer) for asked, answer in zip(batch.asked, answers, strict=True)]
        return tuple(self._hands.store.record_calls(calls))

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


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C takes effect after the block, so that a call that was sent is always known to be under way."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


def answer_all(door: Door, requests: Sequence[Request]) -> list[Answer]:
    """What an executor runs: one batch through the door."""
    return door.answer(requests)


def cost_of(asked: Asked, answer: Answer) -> float:
    """USD to count for a call; where a priced door cannot tell, what it can have cost at most."""
    return (asked.upper_usd or 0.0) if answer.usd is None else answer.usd


def lost_cost(asked: Asked, answer: Answer) -> float:
    """USD that a priced host can have charged at most for attempts whose reply never came."""
    return answer.unanswered * (asked.upper_usd or 0.0)
