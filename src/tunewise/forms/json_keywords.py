"""Keywords of JSON Schema whose time or range must be bounded, in place of ``jsonschema``'s own."""

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from jsonschema import ValidationError

from tunewise.forms.json_unevaluated import unevaluated_properties
from tunewise.forms.patterns import pattern
from tunewise.forms.wording import not_allowed


def _pattern(validator: Any, source: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(value, "string") and not pattern(source).found_in(value):
        yield ValidationError(f"does not match {source!r}")


def _pattern_properties(validator: Any, parts: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for source, part in parts.items():
        compiled = pattern(source)
        for name, inner in value.items():
            if compiled.found_in(name):
                yield from validator.descend(inner, part, path=name, schema_path=source)


def _additional_properties(validator: Any, part: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    known = schema.get("properties", {})
    patterns = [pattern(source) for source in schema.get("patternProperties", {})]
    extra = [n for n in value if n not in known and not any(p.found_in(n) for p in patterns)]
    if validator.is_type(part, "object"):
        for name in extra:
            yield from validator.descend(value[name], part, path=name)
    elif not part and extra:
        yield ValidationError(not_allowed(extra))


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """Linear time: equal JSON values have one canonical text (1 and 1.0 are equal, 1 and true are not)."""
    if not wanted or not validator.is_type(value, "array"):
        return
    if len({json.dumps(_canonical(element), sort_keys=True) for element in value}) < len(value):
        yield ValidationError("the elements of the array are not all different")


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(element) for element in value]
    return {k: _canonical(v) for k, v in value.items()} if isinstance(value, dict) else value


def _multiple_of(validator: Any, step: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """Exact, on the decimal digits as written, so that 0.3 is a multiple of 0.1; no range is too large."""
    if validator.is_type(value, "number") and Fraction(str(value)) % Fraction(str(step)):
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


BOUNDED = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
    "unevaluatedProperties": unevaluated_properties,
}
