"""What is wrong with one key of a task file, in words: what was expected, what came, what to do."""

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tunewise.marked_yaml import Lines, Place, nearest

# Places where pydantic's location names the branch of a union, which is no key of the file.
_UNIONS = frozenset({("model",), ("tune", "model"), ("judge", "model"), ("teacher", "model"), ("examples",)})

_NOT_IN_FILES = ("metric_options",)  # a file writes them under ``metric``

_EXPECTED: Mapping[str, str] = {
    "name": "letters, digits, '.', '_' and '-' were expected, since it names the run's folder",
    "endpoint": "a URL was expected (http://HOST:PORT/v1 or https://...)",
    "scripted": "module:attribute was expected (for example my_package.answers:reply)",
    "target": "a number between 0 and 1, both excluded, was expected (for example 0.90)",
    "choices": "a list of at least two different answers was expected",
}
_NEEDED: Mapping[Place, str] = {
    ("name",): "name: ticket-fields",
    ("examples",): "examples: rows.jsonl",
    ("metric",): "metric: exact",
    ("target",): "target: 0.90",
    ("knowledge", "documents"): "documents: handbook/",
    ("judge", "model"): "model: {endpoint: https://HOST/v1, name: NAME}",
    ("judge", "rubric"): "rubric: rubric.yaml",
}


def shown(value: object) -> str:
    """A value for a message, cut to 60 characters: texts in quotes, others as JSON."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:56] + "..." + text[-1]


def explain(detail: ErrorDetails, lines: Lines, top: type[BaseModel]) -> tuple[int, str]:
    """One validation error of ``top`` as (line in the file, message that begins with the key)."""
    place = _place(detail)
    key, last, kind = ".".join(map(str, place)), str(place[-1]), detail["type"]
    if kind == "mistake":
        text = detail["msg"]
    elif kind == "extra_forbidden":
        known = _known_keys(detail, top)
        text = f"unknown key{nearest(last, known)} (known here: {', '.join(known)})"
    elif kind == "missing":
        example = f"; add for example '{_NEEDED[place]}'" if place in _NEEDED else ""
        text = f"missing{example}"
    elif kind in ("model_type", "model_attributes_type"):
        text = f"a section with keys of its own was expected, got {shown(detail['input'])}"
    elif kind == "int_from_float":
        text = f"a whole number was expected, got {shown(detail['input'])}"
    elif last in _EXPECTED:
        text = f"{_EXPECTED[last]}, got {shown(detail['input'])}"
    else:
        text = f"{detail['msg'].replace('Input should be', 'it must be')}, got {shown(detail['input'])}"
    return lines.at(place), f"{key}: {text}"


def _place(detail: ErrorDetails) -> Place:
    place: Place = ()
    branch_skipped = False
    for part in detail["loc"]:
        if place in _UNIONS and not branch_skipped:
            branch_skipped = True
        else:
            place = (*place, part)
    return place


def _known_keys(detail: ErrorDetails, top: type[BaseModel]) -> tuple[str, ...]:
    """The keys of the section in which the unknown key stands."""
    found = [top]
    for part in detail["loc"][:-1]:
        fields = [section.model_fields[part] for section in found if part in section.model_fields]
        below = [section for field in fields for section in _sections(field.annotation)]
        if below:
            found = below
        elif len(found) > 1:  # the branch of a union is named after the key that chose it
            found = [section for section in found if part in section.model_fields] or found
    return tuple(
        name
        for name, field in found[0].model_fields.items()
        if not field.exclude and name not in _NOT_IN_FILES
    )


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections(inner)]
