"""Checks of a value against a schema, kept to a time.

A schema that refers to itself within alternatives (oneOf of two kinds of expression, each with an operand
that is an expression again) is checked branch by branch at every level, so that an answer nested n deep
takes about 2^n steps. Every such walk passes through a reference, and the time is looked at there.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jsonschema import ValidationError

from tunewise.forms.bounded import TookTooLong

SECONDS = 5.0  # of processor time
EVERY = 1000  # references between two looks: on some systems a look takes far longer than a reference
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


@dataclass(slots=True)
class _Clock:
    """When the time is over, and how many references were followed since it was last looked at."""

    until: float
    steps: int = 0


_clock: ContextVar[_Clock | None] = ContextVar("processor_time", default=None)


@contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Within: following references takes at most about so many seconds of this thread's processor time."""
    token = _clock.set(_Clock(time.thread_time() + seconds))
    try:
        yield
    finally:
        _clock.reset(token)


def look_at_the_time() -> None:
    """Raises TookTooLong once the time of ``in_time`` is over."""
    clock = _clock.get()
    if clock is None:
        return
    clock.steps += 1
    if clock.steps % EVERY == 0 and time.thread_time() > clock.until:
        raise TookTooLong("the schema refers to itself in alternatives, and trying them all takes too long")


def timed_references(keywords: dict[str, Keyword]) -> dict[str, Keyword]:
    """The keywords of a dialect that refer, each with a look at the time before it is followed."""

    def timed(own: Keyword) -> Keyword:
        def check(validator: Any, target: Any, value: Any, schema: Any) -> Iterable[ValidationError] | None:
            look_at_the_time()  # no generator of its own: nested values need the frames
            return own(validator, target, value, schema)

        return check

    return {name: timed(keywords[name]) for name in REFERENCES if name in keywords}
