"""``unevaluatedProperties`` in bounded time: ``jsonschema`` itself searches names with Python's ``re``."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import ValidationError
from referencing.jsonschema import lookup_recursive_ref

from tunewise.forms.patterns import pattern
from tunewise.forms.wording import not_allowed

ALTERNATIVES = ("allOf", "anyOf", "oneOf")


def unevaluated_properties(validator: Any, part: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    """Fields that no other keyword has evaluated meet ``part`` (draft 2020-12, Core 11.3)."""
    if not validator.is_type(value, "object"):
        return
    known = evaluated(validator, value, schema)
    left = [name for name in value if name not in known]
    wrong = [name for name in left if not _meets(validator, value[name], part)]
    if wrong:
        yield ValidationError(not_allowed(wrong))


def evaluated(validator: Any, value: Mapping[str, Any], schema: Any) -> set[str]:
    """Names of the fields of ``value`` that a schema's keywords, and those they apply beside it, evaluate."""
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", {})) & value.keys()
    patterns = [pattern(source) for source in schema.get("patternProperties", {})]
    found.update(name for name in value if any(one.found_in(name) for one in patterns))
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema:
            part = schema[keyword]
            found.update(name for name, inner in value.items() if _meets(validator, inner, part))
    for one in _applied(validator, value, schema):
        found |= evaluated(validator, value, one)
    for other in _referred(validator, schema):
        resolved = validator.evolve(schema=other.contents, _resolver=other.resolver)
        found |= evaluated(resolved, value, other.contents)
    return found


def _applied(validator: Any, value: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Any]:
    """Subschemas that apply to the same value, and that it meets."""
    yield from (part for name, part in schema.get("dependentSchemas", {}).items() if name in value)
    for keyword in ALTERNATIVES:
        yield from (part for part in schema.get(keyword, ()) if _meets(validator, value, part))
    if "if" in schema:
        held = _meets(validator, value, schema["if"])
        if held:
            yield schema["if"]
        yield schema.get("then" if held else "else")


def _referred(validator: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(schema.get(keyword), str):
            yield validator._resolver.lookup(schema[keyword])
    if "$recursiveRef" in schema:
        yield lookup_recursive_ref(validator._resolver)


def _meets(validator: Any, value: Any, part: Any) -> bool:
    return next(validator.descend(value, part), None) is None
