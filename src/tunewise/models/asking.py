"""Asks a door many requests outside a run: as many at once as it takes, answers in order."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from tunewise.errors import BudgetEnded
from tunewise.models.door import Answer, Door, Request
from tunewise.spending import Spending, upper_bound

CALLS = "tunewise-call"  # how the threads of calls are named


def ask_in_order(
    door: Door, requests: Sequence[Request], spending: Spending | None = None
) -> Iterator[Answer]:
    """One answer per request, in order; ``door.concurrency`` calls of up to ``door.batch_size`` at once.

    Calls run ahead of the reader by one round at most. spending: what a priced door is held to; each call
    is reserved at its upper bound, with the attempts that may go unanswered. Whatever ends it early
    (DoorError, BudgetEnded) is raised after the answers before it, and no further call is sent. An interrupt
    waits for what is under way, a second one does not.
    """
    spending = spending or Spending()
    width = max(1, door.concurrency)
    size = max(1, min(door.batch_size, math.ceil(len(requests) / width)))
    waiting = deque(requests[start : start + size] for start in range(0, len(requests), size))
    under_way: deque[Future[list[Answer]]] = deque()
    pool = ThreadPoolExecutor(width, thread_name_prefix=CALLS)
    abandoned = False
    try:
        while waiting or under_way:
            while waiting and len(under_way) < width:
                try:
                    reserved = spending.reserve(math.fsum(bound(door, request) for request in waiting[0]))
                except BudgetEnded:
                    if not under_way:  # nothing is on its way that might make room
                        raise
                    break
                under_way.append(pool.submit(_answer, door, waiting.popleft(), spending, reserved))
            yield from under_way.popleft().result()
    except KeyboardInterrupt:
        if give_up := getattr(door, "give_up", None):
            give_up()
        try:
            wait(under_way)
        except KeyboardInterrupt:
            abandoned = True
            raise
        raise
    finally:
        pool.shutdown(wait=not abandoned, cancel_futures=True)


def bound(door: Door, request: Request) -> float:
    """The most that a request can cost at this door, in USD; 0 without a price."""
    return 0.0 if door.price is None else upper_bound(door.price, request) * (1 + door.lost_replies)


def _answer(door: Door, batch: Sequence[Request], spending: Spending, reserved: float) -> list[Answer]:
    """The answers of one batch; what they cost is settled, at the bound where the host does not say."""
    try:
        answers = door.answer(batch)
    except BaseException:
        spending.settle(reserved, None)
        raise
    costs = [_cost(door, *pair) for pair in zip(batch, answers, strict=True)]
    spending.settle(reserved, math.fsum(costs))
    return answers


def _cost(door: Door, request: Request, answer: Answer) -> float:
    """What an answer cost in USD, at most where the host does not say."""
    if door.price is None:
        return 0.0
    most = upper_bound(door.price, request)
    return (most if answer.usd is None else answer.usd) + answer.unanswered * most
