"""What is wrong with a JSON value, in words that fit into a line of the report."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from jsonschema import SchemaError, ValidationError

LENGTH = 60  # characters of a value that are shown
JSON_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
TYPES = {bool: "true or false", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def in_words(wrong: ValidationError | SchemaError, *, place: bool = True) -> str:
    """``at /order/id: expected integer, got string "abc"``."""
    where = place_words(wrong.absolute_path)
    said = _said(wrong)
    return f"at {where}: {said}" if place and where else said


def place_words(path: Iterable[str | int]) -> str:
    """A place in a JSON value as a JSON Pointer (RFC 6901), cut where it is very long; "" at the top."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return visible("".join(f"/{step}" for step in steps), 200)


def visible(text: str, length: int = LENGTH) -> str:
    """A text cut to a length, with lone surrogates and control characters escaped."""
    cut = text if len(text) <= length else text[:length] + "…"
    if all(character.isprintable() for character in cut):
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def not_allowed(names: Sequence[str]) -> str:
    """The fields that may not be there, the first five of them."""
    return f"field not allowed: {', '.join(repr(visible(name)) for name in names[:5])}"


def value_words(value: Any) -> str:
    """A JSON value with its type, cut: ``string "abc"``, ``array of 3``."""
    if isinstance(value, dict | list):
        return f"{TYPES[type(value)]} of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return "string " + visible('"' + value[: LENGTH + 1] + ('"' if len(value) <= LENGTH else ""))
    return f"{TYPES[type(value)]} {visible(str(value))}"


def _said(wrong: ValidationError | SchemaError) -> str:
    keyword = wrong.validator
    value: Any = wrong.instance
    limit: Any = wrong.validator_value
    got = f", got {value_words(value)}"
    if keyword == "required" and isinstance(limit, list) and isinstance(value, dict):
        missing = [visible(name) for name in limit if name not in value]
        return f"the required field{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))} missing"
    if keyword == "type":
        wanted = limit if isinstance(limit, str) else " or ".join(map(str, limit))
        return f"expected {wanted}{got}"
    if keyword == "enum":
        known = ", ".join(json.dumps(one, ensure_ascii=False) for one in limit)
        return f"expected one of {visible(known, 120)}{got}"
    if keyword == "const":
        return f"expected {value_words(limit)}{got}"
    if keyword in ("additionalProperties", "unevaluatedProperties") and limit is False:
        return visible(wrong.message, 400)  # the keyword knows which fields
    if keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
        return f"{keyword} {limit}{got}"
    if keyword in ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"):
        return f"{keyword} {limit}, got length {len(value)}"
    if keyword in ("pattern", "format"):
        return f"expected {keyword} {visible(str(limit), 120)}{got}"
    if keyword == "anyOf" and isinstance(wrong, SchemaError) and list(wrong.absolute_path)[-1:] == ["type"]:
        return f"expected one of the JSON types {', '.join(JSON_TYPES)}, or a list of them{got}"
    if keyword is None:
        return f"nothing is allowed here{got}"
    return visible(wrong.message, 160)
