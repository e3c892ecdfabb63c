"""Sends the unbatched calls of a probe: always anew, one request per call, so many under way at once."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

from tunewise.evidence.flight import LOST, Asked, Hands, cost_of, lost_cost
from tunewise.evidence.limits import ProbeCall
from tunewise.models.door import Answer, Door, Request
from tunewise.spending import upper_bound
from tunewise.store import Call


@dataclass(frozen=True, slots=True)
class Sent:
    """The calls of a probe in the order in which they were sent, and the wall time from first to last."""

    calls: tuple[ProbeCall, ...]
    seconds: float


class Prober:
    """Sends requests to one door and keeps account of them.

    A probe's calls go on record and count as spent, but are never taken from the record: a time that was
    measured in another process, or in a batch, is another time. Whatever ends a probe early (DoorError,
    BudgetEnded, an interrupt), the calls under way are waited for and recorded.
    """

    def __init__(self, hands: Hands, door: Door, rung: str, concurrency: int) -> None:
        self._hands = hands
        self._door = door
        self._rung = rung
        self._concurrency = concurrency
        self._under_way: dict[Future[tuple[Answer, float]], tuple[int, Asked, float]] = {}
        self._done: dict[int, ProbeCall] = {}
        self._raised: list[BaseException] = []

    def warm_up(self, requests: Sequence[Request]) -> None:
        """Send these and forget their times."""
        self.send(requests, lambda calls: False)

    def send(self, requests: Sequence[Request], enough: Callable[[Sequence[ProbeCall]], bool]) -> Sent:
        """Send up to all requests, in order, until ``enough`` of the first n answered says so."""
        self._done, self._raised = {}, []
        started, place, stop = time.monotonic(), 0, False
        try:
            while self._under_way or (not stop and place < len(requests)):
                while not stop and place < len(requests) and len(self._under_way) < self._concurrency:
                    self._submit(place, requests[place])
                    place += 1
                self._land()
                stop = stop or bool(self._raised) or enough(self._prefix())
        finally:
            while self._under_way:
                self._land()
        if self._raised:
            raise self._raised[0]
        return Sent(self._prefix(), time.monotonic() - started)

    def _prefix(self) -> tuple[ProbeCall, ...]:
        """The calls from the first on without a gap, whichever came back first."""
        calls: list[ProbeCall] = []
        while len(calls) in self._done:
            calls.append(self._done[len(calls)])
        return tuple(calls)

    def _submit(self, place: int, request: Request) -> None:
        door, hands = self._door, self._hands
        upper = None if door.price is None else upper_bound(door.price, request)
        dearest = 2 * hands.dearest.get(door.fingerprint, 0.0)
        reserved = hands.spending.reserve(dearest if upper is None else upper * (1 + door.lost_replies))
        asked = Asked(request.key(door.fingerprint), request, upper)
        self._under_way[hands.executor.submit(timed_answer, door, request)] = (place, asked, reserved)

    def _land(self) -> None:
        ended, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in ended:
            place, asked, reserved = self._under_way.pop(future)
            raised = future.exception()
            if raised is not None:
                self._settle_failed(asked, raised, reserved)
                self._raised.append(raised)
                continue
            answer, seconds = future.result()
            self._record(asked, replace(answer, seconds=seconds), reserved)
            failed = answer.status == "errored"
            self._done[place] = ProbeCall(
                seconds=None if failed else seconds,
                usd=answer.usd,
                tokens_in=answer.tokens_in,
                cached_in=answer.cached_in,
                tokens_out=answer.tokens_out,
                first_token_s=answer.first_token_s,
            )

    def _settle_failed(self, asked: Asked, error: BaseException, reserved: float) -> None:
        """What a host may charge for attempts that it never answered; the call itself is not on record."""
        lost = getattr(error, "unanswered", 0) * (asked.upper_usd or 0.0)
        self._hands.spending.settle(reserved, lost)
        if lost:
            self._hands.store.record_cost(LOST, lost, rung=self._rung)

    def _record(self, asked: Asked, answer: Answer, reserved: float) -> None:
        hands, lost = self._hands, lost_cost(asked, answer)
        hands.spending.settle(reserved, lost + cost_of(asked, answer))
        if lost:
            hands.store.record_cost(LOST, lost, rung=self._rung)
        call = Call(
            key=asked.key,
            answer=answer,
            door=self._door.fingerprint,
            purpose="probe",
            rung=self._rung,
            request=asked.request,
            upper_usd=asked.upper_usd,
        )
        hands.store.record_calls([call])


def timed_answer(door: Door, request: Request) -> tuple[Answer, float]:
    """One answer and its wall time as the caller sees it, retries and waiting included.

    A door that has ``answer_timed`` is asked by it: the same answer, with the time of its first token.

    Where the door reports a longer time than passed (a scripted one, which does not sleep), that one.
    """
    started = time.monotonic()
    timed = getattr(door, "answer_timed", None)
    answer: Answer = door.answer([request])[0] if timed is None else timed(request)
    return answer, max(time.monotonic() - started, answer.seconds)
