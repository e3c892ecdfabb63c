"""Work whose time nobody can promise (a back-tracking pattern, a lenient parser), done in a helper process.

One helper serves the whole process, one piece of work at a time; one that takes too long is ended and
the next piece starts a fresh helper. It holds at most MEMORY_BYTES where the system can limit that.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 2.0
STARTING_SECONDS = 30.0  # for a fresh helper on a busy machine: starting is not the work
MEMORY_BYTES = 2 * 2**30
HELPER = Path(__file__).with_name("bounded_helper.py")


class TookTooLong(Exception):
    """The work was not done within the limits, in words fit for the report."""


@dataclass(slots=True)
class _Left:
    """Seconds that all the work on one answer may still take together."""

    seconds: float


_left: ContextVar[_Left | None] = ContextVar("seconds_left", default=None)


@contextlib.contextmanager
def together(seconds: float = SECONDS) -> Iterator[None]:
    """Within: all bounded work together takes at most so many seconds, the starts of the helper apart.

    Many small pieces, each just within its own limit, would otherwise take for ever.
    """
    token = _left.set(_Left(seconds))
    try:
        yield
    finally:
        _left.reset(token)


class _Helper:
    """The helper process and the lock on it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def do(self, name: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._start()
            left = _left.get()
            most = seconds if left is None else min(seconds, left.seconds)
            began = time.monotonic()
            try:
                reply = json.loads(self._exchange(json.dumps([name, *arguments]), most))
            except (TookTooLong, BrokenPipeError):
                self.end()
                raise TookTooLong(f"{name} took more than {seconds:g} s or too much memory") from None
            finally:
                if left is not None:
                    left.seconds -= time.monotonic() - began
        if "failed" in reply:
            raise TookTooLong(f"{name} failed: {reply['failed']}")
        return reply["done"]

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(HELPER), str(MEMORY_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._read_line(STARTING_SECONDS)  # it says that it is ready

    def _exchange(self, line: str, seconds: float) -> bytes:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode("ascii") + b"\n")
        self.process.stdin.flush()
        return self._read_line(seconds)

    def _read_line(self, seconds: float) -> bytes:
        assert self.process is not None
        assert self.process.stdout is not None
        until, parts = time.monotonic() + seconds, bytearray()
        handle = self.process.stdout.fileno()
        while not parts.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise TookTooLong
            piece = os.read(handle, 2**16)
            if not piece:
                raise TookTooLong
            parts += piece
        return bytes(parts)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


_helper = _Helper()
atexit.register(_helper.end)


def bounded(name: str, *arguments: Any, seconds: float = SECONDS) -> Any:
    """The result of ``bounded_helper``'s work ``name`` on JSON values. Raises TookTooLong."""
    return _helper.do(name, arguments, seconds)
