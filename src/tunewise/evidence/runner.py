"""Asks a candidate's questions, ahead of the test but never out of its order, and keeps every answer."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tunewise.data import Example
from tunewise.evidence.flight import Executor, Flight, Hands
from tunewise.evidence.judgement import Test, read_outcomes
from tunewise.evidence.probe import Prober
from tunewise.evidence.records import CUT, Outcome, Score
from tunewise.models.asking import CALLS
from tunewise.models.door import Answer, Door, Request
from tunewise.progress import Progress
from tunewise.spending import Spending
from tunewise.store import Store

MOST_THREADS = 1024  # threads start only when needed; doors bound how many that is
TELL_EVERY_S = 0.5


class Asking(Protocol):
    """All that the runner needs of a candidate."""

    @property
    def door(self) -> Door: ...

    def request(self, example: Example) -> Request: ...


@dataclass(frozen=True, slots=True)
class Gathered:
    """The outcomes of a candidate in certification order, from the first item on without a gap.

    stopped_at: how many of them the test read until its verdict. Without ``exhaustive`` that is all.
    """

    outcomes: tuple[Outcome, ...]
    stopped_at: int

    @property
    def read(self) -> tuple[Outcome, ...]:
        """The outcomes that the decision rests on."""
        return self.outcomes[: self.stopped_at]


class Runner:
    """Asks doors on behalf of one run: the store first, within the cap, each answer on disk before it counts.

    executor: where calls run, in the shape of ``concurrent.futures.Executor``; threads by default.
    Whatever ends a step early (DoorError, StoreError, BudgetEnded, an interrupt), calls under way are
    waited for and recorded, no new one starts, and then the error is raised.
    """

    def __init__(
        self, store: Store, spending: Spending, progress: Progress, executor: Executor | None = None
    ) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if executor is None:
            executor = self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix=CALLS)
        self._hands = Hands(store, spending, executor, progress)
        self._told = 0.0

    def close(self) -> None:
        """End the runner's own threads, once their calls have ended; at once where they were abandoned."""
        if self._pool is not None:
            self._pool.shutdown(wait=not self._hands.abandoned, cancel_futures=self._hands.abandoned)

    def ask(self, door: Door, requests: Sequence[Request], purpose: str, rung: str) -> list[Answer]:
        """One answer per request, in order. Equal requests are sent once; those on record not at all.

        A request whose retries failed has an answer of status ``errored``; the next run asks it again. On
        selection only until the rung's certification items were opened: with another answer a search could
        choose another candidate, after the items of the first were seen.
        """
        answers: dict[int, Answer] = {}
        opened = purpose == "selection" and bool(self._hands.store.outcomes(rung))
        with Flight(self._hands, door, purpose, rung, errors_stand=opened) as flight:
            for place, request in enumerate(requests):
                flight.want(place, request)
            while len(answers) < len(requests):
                answers.update((landed.label, landed.answer) for landed in flight.land())
                self._tell_spent()
        return [answers[place] for place in range(len(requests))]

    def gather(
        self,
        candidate: Asking,
        order: Sequence[Example],
        test: Test,
        score: Callable[[Example, Answer], Score],
        *,
        rung: str,
        exhaustive: bool = False,
        on_look: Callable[[tuple[Outcome, ...]], None] | None = None,
    ) -> Gathered:
        """Ask the items of ``order`` until the test gives a verdict; with ``exhaustive`` go on to all items.

        A look at n reads exactly the first n items, whichever calls came back first, so the outcome does
        not depend on timing. How far it asks ahead of the looks: see ``Course``. Answers asked ahead and
        not needed stay in the store and are no outcomes. Outcomes go on record look by look; ``on_look``
        is then called with all that are read so far.
        """
        course = Course(test, len(order), exhaustive)
        with Flight(self._hands, candidate.door, "certification", rung) as flight:
            while not course.finished:
                for position in course.wanted(flight.width):
                    flight.want(position, candidate.request(order[position]))
                for landed in flight.land():
                    position = landed.label
                    outcome = outcome_of(order[position], position, landed.answer, score)
                    course.put(outcome, landed.key)
                for new in course.looks():
                    self._hands.store.record_outcomes(rung, new)
                    if on_look is not None:
                        on_look(course.outcomes)
                self._tell_spent()
        return Gathered(course.outcomes, course.stopped_at or len(course.outcomes))

    def prober(self, door: Door, rung: str, concurrency: int) -> Prober:
        """What sends unbatched calls whose times count; see ``Prober``."""
        return Prober(self._hands, door, rung, concurrency)

    def _tell_spent(self) -> None:
        if time.monotonic() - self._told < TELL_EVERY_S:
            return
        self._told = time.monotonic()
        spent = self._hands.store.spent()
        self._hands.progress.tell(
            "spent",
            calls=spent.calls,
            tokens_in=spent.tokens_in,
            tokens_out=spent.tokens_out,
            usd=spent.usd,
            seconds=spent.seconds,
        )


class Course:
    """Where one candidate stands on its way through the certification order. Pure: asks and writes nothing.

    How far to ask ahead: first the items of the first look alone, since a rung that plainly fails ends
    there. Then up to the look at which the test would end if the coming items were like those read
    (evenly mixed at their mean), at most ``width`` items beyond the last look that was read. So calls
    that the verdict will not need are few where it is near, and the door is kept busy where it is far.
    """

    def __init__(self, test: Test, items: int, exhaustive: bool) -> None:
        if items < test.cap:
            raise ValueError(f"the test reads up to {test.cap} items, the order has {items}")
        self._test = test
        self._exhaustive = exhaustive
        self._end = items if exhaustive else test.cap
        self._looks = (*test.looks, items) if exhaustive and items > test.cap else test.looks
        self._next_look = 0
        self._early: dict[int, tuple[Outcome, str]] = {}
        self._prefix: list[tuple[Outcome, str]] = []
        self._read = 0
        self._asked = 0
        self._reach = min(test.looks[0], self._end)
        self.stopped_at: int | None = None

    @property
    def finished(self) -> bool:
        """Nothing more to ask or to read."""
        return self._read == self._end if self._exhaustive else self.stopped_at is not None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All outcomes read so far, in order."""
        return tuple(outcome for outcome, _ in self._prefix[: self._read])

    def wanted(self, width: int) -> range:
        """The positions to ask now, at most twice ``width`` unanswered ones; each is given once."""
        unanswered = self._asked - len(self._prefix) - len(self._early)
        first = self._asked
        reach = self._end if self._exhaustive else self._reached(width)
        self._asked = max(first, min(reach, first + 2 * width - unanswered))
        return range(first, self._asked)

    def put(self, outcome: Outcome, call: str) -> None:
        """An outcome, whenever it came; call: the key of its call on record."""
        self._early[outcome.position] = (outcome, call)
        while len(self._prefix) in self._early:
            self._prefix.append(self._early.pop(len(self._prefix)))

    def looks(self) -> Iterator[list[tuple[Outcome, str]]]:
        """Read the looks whose items are all there, in order; yields what each look adds."""
        while not self.finished and len(self._prefix) >= self._looks[self._next_look]:
            before, self._read = self._read, self._looks[self._next_look]
            self._next_look += 1
            if self.stopped_at is None and read_outcomes(self._test, self.outcomes).verdict is not None:
                self.stopped_at = self._read
            yield self._prefix[before : self._read]

    def _reached(self, width: int) -> int:
        if self._read == 0:
            return self._reach
        known = [outcome.value for outcome in self.outcomes if outcome.value is not None]
        if not known:
            return min(self._looks[self._next_look], self._end)
        values = [*known, *more_alike(sum(known) / len(known), width, binary=self._test.kind == "binary")]
        reading = self._test.read(values[: self._test.cap])
        beyond = reading.n - len(known) if reading.verdict is not None else width
        return min(max(self._read + beyond, self._looks[self._next_look]), self._end)


def more_alike(mean: float, count: int, *, binary: bool) -> list[float]:
    """``count`` values of this mean: the mean itself, or zeros and ones mixed as evenly as can be."""
    if not binary:
        return [mean] * count
    return [float(math.floor((i + 1) * mean) - math.floor(i * mean)) for i in range(count)]


def outcome_of(
    example: Example, position: int, answer: Answer, score: Callable[[Example, Answer], Score]
) -> Outcome:
    """One answer as an outcome. An errored answer has no value, and the metric is not asked about it.

    One that was not finished within ``max_new_tokens`` has that in its detail.
    """
    if answer.status == "errored":
        said = Score("errored", None, {"why": answer.error or "the call failed"})
    else:
        said = score(example, answer)
    return Outcome(
        example=example.key,
        position=position,
        status=said.status,
        value=said.value,
        text=answer.text,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        seconds=answer.seconds,
        usd=answer.usd,
        detail={**said.detail, CUT: True} if answer.finish == "length" else said.detail,
        error=answer.error,
    )
