"""A quick yes for values that surely meet a schema of everyday keywords; the rest is for ``jsonschema``.

A check only ever says "surely" or "cannot tell", so that it may leave work undone but never errs;
an unknown keyword means no quick check at all.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tunewise.forms.patterns import pattern

Check = Callable[[Any], bool]
REMARKS = frozenset({"title", "description", "default", "examples", "$comment", "deprecated", "readOnly"})
TYPES: Mapping[str, Check] = {
    "object": lambda v: type(v) is dict,
    "array": lambda v: type(v) is list,
    "string": lambda v: type(v) is str,
    "boolean": lambda v: type(v) is bool,
    "null": lambda v: v is None,
    "integer": lambda v: type(v) is int,  # 1.0 is one as well; that is for the slow way to say
    "number": lambda v: type(v) is int or type(v) is float,
}
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set[str](),
    "null": set[str](),
}


def quick_check(schema: Any) -> Check | None:
    """The check of a schema, None where it has a keyword (or a combination) beyond those known here."""
    if schema is True or schema == {}:
        return lambda value: True
    if not isinstance(schema, dict):
        return None
    asked = {key: value for key, value in schema.items() if key not in REMARKS and key != "$schema"}
    kind = asked.pop("type", None)
    if "enum" in asked:
        allowed = asked.pop("enum")
        if asked or kind not in (None, "string") or not all(type(one) is str for one in allowed):
            return None
        known = frozenset(allowed)
        return lambda value: type(value) is str and value in known
    if not isinstance(kind, str) or not asked.keys() <= KEYWORDS.get(kind, set()):
        return None
    if kind == "object":
        return _object(asked)
    if kind == "array":
        return _array(asked)
    if kind in ("boolean", "null"):
        return TYPES[kind]
    return _string(asked) if kind == "string" else _number(TYPES[kind], asked)


def _object(asked: Mapping[str, Any]) -> Check | None:
    inner = {name: quick_check(part) for name, part in asked.get("properties", {}).items()}
    others = quick_check(asked.get("additionalProperties", True)) or None
    closed = asked.get("additionalProperties", True) is False
    checks = {name: check for name, check in inner.items() if check is not None}
    if len(checks) < len(inner) or (others is None and not closed):
        return None
    required = tuple(asked.get("required", ()))

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name in required:
            if name not in value:
                return False
        for name, part in value.items():
            own = checks.get(name, others)
            if own is None or not own(part):
                return False
        return True

    return check


def _array(asked: Mapping[str, Any]) -> Check | None:
    each = quick_check(asked.get("items", True))
    if each is None:
        return None
    low, high = asked.get("minItems", 0), asked.get("maxItems", float("inf"))
    return lambda value: type(value) is list and low <= len(value) <= high and all(map(each, value))


def _string(asked: Mapping[str, Any]) -> Check | None:
    low, high = asked.get("minLength", 0), asked.get("maxLength", float("inf"))
    found = pattern(asked["pattern"]) if "pattern" in asked else None
    if found is not None and not found.in_linear_time:  # all such searches of an answer share one limit
        return None

    def check(value: Any) -> bool:
        return type(value) is str and low <= len(value) <= high and (found is None or found.found_in(value))

    return check


def _number(is_kind: Check, asked: Mapping[str, Any]) -> Check:
    low, high = asked.get("minimum", float("-inf")), asked.get("maximum", float("inf"))
    return lambda value: is_kind(value) and low <= value <= high
