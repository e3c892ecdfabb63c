"""How many requests may be under way at once, adapted to what the host bears."""

import threading
import time
from collections.abc import Callable
from types import TracebackType


class GivenUp(Exception):
    """The door was given up while a request waited for its turn or for another attempt."""


class AdaptiveLimit:
    """Bounds requests under way: additive increase, multiplicative decrease.

    The limit starts at ``most``. A "too many requests" halves it (never below 1), at most once for all
    requests that were already under way, as one congestion event hits many of them; each success adds
    1 / limit, that is one per round, up to ``most``. Source: V. Jacobson, Congestion Avoidance and
    Control, SIGCOMM 1988, section 2.

    Used as a context manager around each request; threads beyond the limit wait their turn.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._limit = float(most)
        self._under_way = 0
        self._last_cut = float("-inf")
        self._paused_until = float("-inf")
        self._given_up = False
        self._changed = threading.Condition()

    @property
    def limit(self) -> float:
        """Requests that may be under way now, >= 1; the whole part counts."""
        return self._limit

    def __enter__(self) -> "AdaptiveLimit":
        with self._changed:
            while not self._given_up:
                pause = self._paused_until - self._clock()
                if pause <= 0 and self._has_room():
                    break
                self._changed.wait(pause if pause > 0 else None)
            if self._given_up:
                raise GivenUp
            self._under_way += 1
            if self._has_room():
                self._changed.notify()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify()

    def give_up(self) -> None:
        """Nothing starts any more: those that wait end at once with GivenUp."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def go_on(self) -> None:
        """Let requests start again."""
        with self._changed:
            self._given_up = False

    def _has_room(self) -> bool:
        return self._under_way < int(self._limit)

    def succeeded(self) -> None:
        """The host answered: raise the limit by one request per round."""
        with self._changed:
            if self._limit < self._most:
                self._limit = min(float(self._most), self._limit + 1 / self._limit)
                self._changed.notify()

    def throttled(self, started: float, wait_s: float | None) -> None:
        """The host said that there are too many requests, to one that started at ``started`` (the clock's).

        wait_s: how long the host asks for quiet; nothing new starts before that.
        """
        with self._changed:
            now = self._clock()
            if started > self._last_cut:
                self._limit = max(1.0, self._limit / 2)
                self._last_cut = now
            if wait_s is not None:
                self._paused_until = max(self._paused_until, now + wait_s)
