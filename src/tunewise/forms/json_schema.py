"""A JSON Schema, compiled once: whether a value meets it, where and why not, and how complete the value is.

Draft 2020-12, and what ``$schema`` names (draft 3 to 2019-09). Only this document is read: a reference to
another one is an error, nothing is ever fetched.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, best_match
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from tunewise.errors import SettingError
from tunewise.forms.bounded import TookTooLong, together
from tunewise.forms.json_formats import checker, not_assertable
from tunewise.forms.json_keywords import BOUNDED
from tunewise.forms.json_quick import quick_check
from tunewise.forms.json_time import REFERENCES, in_time, look_at_the_time, timed_references
from tunewise.forms.patterns import pattern
from tunewise.forms.wording import in_words, place_words

MAX_VIOLATIONS = 20  # the most telling of these is reported
PROBES: tuple[Any, ...] = (None, True, 0, "", [], {}, [[]], {"a": {}})
REASON_SECONDS = 2.0  # of processor time, to find where a value fails that is known to fail


@dataclass(frozen=True, slots=True)
class Completeness:
    """Required fields that a value has, of all that its schema requires."""

    present: int
    required: int


class JsonSchema:
    """A compiled schema. Read-only after it is made, and so safe to share between threads.

    schema: a JSON value (object or boolean). assert_format: whether ``format`` is asserted; by the standard
    it is a remark only. name: what stands before a message. Raises SettingError where the schema
    is itself invalid (which keyword, where), names an unknown dialect, refers to another document,
    refers to itself without end, or asks for a format that cannot be asserted.
    """

    def __init__(self, schema: Any, *, assert_format: bool = False, name: str = "the schema") -> None:
        self.schema = schema
        self.name = name
        self.assert_format = assert_format
        dialect = self._dialect()
        self._check(dialect)
        self._check_references(dialect)
        own: dict[str, Any] = {name: check for name, check in BOUNDED.items() if name in dialect.VALIDATORS}
        own |= timed_references(dialect.VALIDATORS)
        bounded: Any = validators.extend(dialect, own)  # type: ignore[no-untyped-call]
        body = schema
        if isinstance(schema, dict) and "$schema" in schema:
            body = copy(schema)
            del body["$schema"]  # else every "$ref": "#" would fall back to the unbounded class
        formats = checker() if assert_format else None
        self._validator: Any = bounded(body, registry=SPECIFICATIONS, format_checker=formats)
        self._probe()
        self._quick = quick_check(body) if dialect is Draft202012Validator else None
        self._requires = isinstance(schema, dict) and bool(schema.get("required"))

    @classmethod
    def read(cls, path: str | Path, *, assert_format: bool = False) -> "JsonSchema":
        """The schema in a file. Raises SettingError, also where the file cannot be read or is not JSON."""
        file = Path(path)
        try:
            schema = json.loads(
                file.read_text(encoding="utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant
            )
        except OSError as error:
            raise SettingError(f"{path}: the schema cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise SettingError(f"{path}: byte {error.start} is not UTF-8; save the schema as UTF-8") from None
        except json.JSONDecodeError as wrong:
            place = f"line {wrong.lineno}, column {wrong.colno}"
            raise SettingError(
                f"{path}: not JSON: {wrong.msg.lower()} at {place}; a JSON Schema was expected"
            ) from None
        except _NotAsWritten as wrong:
            raise SettingError(f"{path}: {wrong}") from None
        except RecursionError:
            raise SettingError(f"{path}: nested too deeply for a schema") from None
        return cls(schema, assert_format=assert_format, name=str(path))

    def why_not(self, value: Any) -> str | None:
        """None where a JSON value meets the schema, else where and why not. Raises TookTooLong."""
        if self.meets(value):
            return None
        try:
            with together(), in_time(REASON_SECONDS):
                found = best_match(islice(self._validator.iter_errors(value), MAX_VIOLATIONS))
        except (RecursionError, TookTooLong):
            return "it does not meet the schema; finding out where takes too long"
        return in_words(found) if found is not None else None

    def meets(self, value: Any) -> bool:
        """Whether a JSON value meets the schema. Raises TookTooLong."""
        if self._quick is not None and self._quick(value):
            return True
        try:
            with together(), in_time():
                return bool(self._validator.is_valid(value))
        except RecursionError:
            raise TookTooLong("nested too deeply to be checked against this schema") from None

    def requires_of(self, value: Any) -> bool:
        """Whether a value as a whole is an object of which fields are required."""
        return self._requires and isinstance(value, dict)

    def completeness(self, value: Any) -> Completeness:
        """How many of the required fields a value has, at every level.

        An absent object counts as absent with all that it would have to hold; each element of an array
        is counted; alternatives (anyOf, oneOf, if) are not, since nobody knows which one was meant.
        Raises TookTooLong.
        """
        with in_time():
            return Completeness(*_count(self._walk(self.schema), value, self, ()))

    def top_types(self) -> frozenset[str]:
        """The JSON types that the value as a whole may have by ``type`` alone; all where it says nothing."""
        for part in self._walk(self.schema):
            named = part.get("type")
            if named is not None:
                return frozenset([named] if isinstance(named, str) else named)
        return frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})

    def _walk(self, schema: Any, seen: tuple[int, ...] = ()) -> Iterator[Mapping[str, Any]]:
        """A schema with all that applies beside it through local references and allOf."""
        if not isinstance(schema, dict) or id(schema) in seen:
            return
        yield schema
        seen = (*seen, id(schema))
        target = schema.get("$ref")
        if isinstance(target, str):
            look_at_the_time()
            yield from self._walk(self._target(target), seen)
        for part in schema.get("allOf", ()):
            yield from self._walk(part, seen)

    def _target(self, reference: str) -> Any:
        try:
            return self._validator._resolver.lookup(reference).contents
        except Unresolvable:  # relative to an inner $id: such fields are not counted
            return None

    def _dialect(self) -> Any:
        if not isinstance(self.schema, dict | bool):
            raise SettingError(
                f"{self.name}: a JSON Schema is an object (or true, false), got {_kind(self.schema)}"
            )
        named = self.schema.get("$schema") if isinstance(self.schema, dict) else None
        if named is None:
            return Draft202012Validator
        unknown: Any = None
        found = validators.validator_for(self.schema, default=unknown) if isinstance(named, str) else None
        if found is None:
            raise SettingError(
                f"{self.name}: $schema names {named!r}, which is no dialect known here; name "
                "'https://json-schema.org/draft/2020-12/schema' or a draft from 3 to 2019-09, or leave it out"
            )
        return found

    def _check(self, dialect: Any) -> None:
        try:
            dialect.check_schema(self.schema, format_checker=None)
        except SchemaError as wrong:
            raise SettingError(
                f"{self.name}: invalid schema at {_place(wrong)}: {in_words(wrong, place=False)}"
            ) from None
        except RecursionError:
            raise SettingError(f"{self.name}: nested too deeply for a schema") from None

    def _check_references(self, dialect: Any) -> None:
        """Every reference resolves within this document, every pattern compiles, every format is known."""
        specification = specification_with(dialect.META_SCHEMA.get("$schema") or dialect.META_SCHEMA["id"])
        top = specification.create_resource(self.schema)
        registry: Registry[Any] = SPECIFICATIONS.with_resource("", top).crawl()
        waiting: list[tuple[Resource[Any], Any]] = [(top, registry.resolver_with_root(top))]
        while waiting:
            resource, resolver = waiting.pop()
            body = resource.contents
            if not isinstance(body, dict):
                continue
            for keyword in REFERENCES:
                if isinstance(target := body.get(keyword), str):
                    self._check_reference(keyword, target, resolver)
            self._check_patterns(body)
            if self.assert_format and isinstance(body.get("format"), str):
                reason = not_assertable(body["format"])
                if reason is not None:
                    raise SettingError(f"{self.name}: {reason}")
            waiting += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]

    def _check_reference(self, keyword: str, target: str, resolver: Any) -> None:
        try:
            resolver.lookup(target)
        except Unresolvable:
            where = (
                "in this document"
                if target.startswith("#")
                else "here, and other documents are never fetched"
            )
            raise SettingError(
                f"{self.name}: {keyword} {target!r} does not exist {where}; copy what it names into this "
                "schema's $defs and refer to it as '#/$defs/NAME'"
            ) from None

    def _check_patterns(self, body: Mapping[str, Any]) -> None:
        sources = [body["pattern"]] if isinstance(body.get("pattern"), str) else []
        if isinstance(body.get("patternProperties"), dict):
            sources += list(body["patternProperties"])
        for source in sources:
            try:
                pattern(source)
            except ValueError as wrong:
                raise SettingError(f"{self.name}: pattern {source!r}: {wrong}") from None

    def _probe(self) -> None:
        try:
            for value in PROBES:
                self._validator.is_valid(value)
        except RecursionError:
            raise SettingError(
                f"{self.name}: it refers to itself without end; no value can be checked against it"
            ) from None


def _count(
    parts: Iterator[Mapping[str, Any]], value: Any, of: JsonSchema, above: tuple[int, ...]
) -> tuple[int, int]:
    """Present and required fields below one schema. above: schemas that an absent value is already within.

    An array where only an object may stand has none of the object's fields.
    """
    present = total = 0
    applying = list(parts)
    fields = value if isinstance(value, dict) else {}
    elements = value if isinstance(value, list) and all(map(_may_be_array, applying)) else None
    absent = not isinstance(value, dict) and elements is None
    for part in applying:
        if absent and id(part) in above:  # a recursive schema requires nothing of what is not there
            continue
        inside = (*above, id(part)) if absent else (id(part),)
        inner = part.get("properties")
        inner = inner if isinstance(inner, dict) else {}
        required = part.get("required")
        if isinstance(required, list) and elements is None:
            present += sum(name in fields for name in required)
            total += len(required)
            wanted = dict.fromkeys([*required, *(name for name in inner if name in fields)])
        else:
            wanted = dict.fromkeys(name for name in inner if name in fields)
        for name in wanted:
            if name in inner:
                one = _count(of._walk(inner[name]), fields.get(name), of, inside)
                present, total = present + one[0], total + one[1]
        if elements is not None and isinstance(part.get("items"), dict):
            for element in elements:
                one = _count(of._walk(part["items"]), element, of, ())
                present, total = present + one[0], total + one[1]
    return present, total


def _may_be_array(part: Mapping[str, Any]) -> bool:
    kinds = part.get("type", "array")
    return bool({"array", "any"} & set([kinds] if isinstance(kinds, str) else kinds))


class _NotAsWritten(Exception):
    """What of a schema's file Python would read as something else than stands there."""


def _object(found: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in found)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        raise _NotAsWritten(f"the key {twice!a} stands twice in one object, so one of them would be lost")
    return dict(found)


def _constant(name: str) -> Any:
    raise _NotAsWritten(f"not JSON: {name} is no JSON number")


def _place(wrong: SchemaError) -> str:
    return place_words(wrong.absolute_path) or "the top"


def _kind(value: Any) -> str:
    return {type(None): "null", str: "a text", list: "an array"}.get(type(value), "a number")
