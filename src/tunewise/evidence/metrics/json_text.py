"""Reading JSON that a model wrote: strictly, or cut out of the text around it. Never deep recursion."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 64  # of nested objects and arrays; far below where Python's parser would run out of stack
MAX_STARTS = 20  # places where ``cut_json`` looks for the beginning of a value

BRACKETS = re.compile(r'["{}\[\]]')
REST_OF_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class NotStrictJson(Exception):
    """Why a text is not JSON, in words fit for the report. Never leaves the metric."""


@dataclass(frozen=True, slots=True)
class Found:
    """A JSON value found within a text (a value may be None, so it comes in a box)."""

    value: Any


def parse_strict(text: str) -> Any:
    """The value of a text that is JSON (RFC 8259) and nothing else, but for white space around it.

    Not accepted: NaN and Infinity, numbers beyond a double, a key twice in one object, nesting deeper
    than MAX_DEPTH, a byte order mark. Raises NotStrictJson.
    """
    if not text.strip():
        raise NotStrictJson("the answer is empty")
    if too_deep(text):
        raise NotStrictJson(f"nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as mistake:
        what = mistake.msg.lower().removesuffix(" at")
        place = f"line {mistake.lineno}, column {mistake.colno}"
        raise NotStrictJson(f"not JSON: {what} at {place}") from None


def cut_json(text: str, openings: str) -> Found | None:
    """The first JSON object or array within a text, as ``parse_strict`` reads it; None where there is none.

    openings: "{", "[" or both: which kinds are looked for. At most MAX_STARTS beginnings are tried.
    """
    if not openings:
        return None
    starts = re.compile("[" + re.escape(openings) + "]")
    place = 0
    for _ in range(MAX_STARTS):
        start = starts.search(text, place)
        if start is None:
            return None
        place = start.end()
        end = end_of_value(text, start.start())
        if end is None:
            continue
        try:
            return Found(parse_strict(text[start.start() : end]))
        except NotStrictJson:
            continue
    return None


def end_of_value(text: str, start: int) -> int | None:
    """Where the brackets opened from ``start`` on are all closed; None if never, or deeper than MAX_DEPTH."""
    depth, place = 0, start
    while found := BRACKETS.search(text, place):
        place = found.end()
        if found.group() == '"':
            rest = REST_OF_STRING.match(text, place)
            if rest is None:
                return None
            place = rest.end()
        elif found.group() in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                return None
        else:
            depth -= 1
            if depth <= 0:
                return place
    return None


def too_deep(text: str) -> bool:
    """Whether the brackets outside strings are ever nested deeper than MAX_DEPTH."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False  # nearly every answer: too few to be nested so deep
    depth, place = 0, 0
    while found := BRACKETS.search(text, place):
        place = found.end()
        if found.group() == '"':
            rest = REST_OF_STRING.match(text, place)
            if rest is None:
                return False
            place = rest.end()
        else:
            depth += 1 if found.group() in "{[" else -1
            if depth > MAX_DEPTH:
                return True
    return False


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrictJson(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotStrictJson(f"the number {digits[:20]} is beyond what a double holds")
    return number


def _whole(digits: str) -> int:
    if len(digits) > 400:
        raise NotStrictJson(f"a whole number of {len(digits)} digits")
    return int(digits)


def _object(found: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(found)
    if len(made) < len(found):
        last = {key: place for place, (key, _) in enumerate(found)}
        twice = next(key for place, (key, _) in enumerate(found) if last[key] != place)
        raise NotStrictJson(f"the key {twice!a} stands twice in one object")
    return made
