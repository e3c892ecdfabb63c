"""The grammar that a task's answers can be held to, made from its declared form and its train rows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any
from urllib.parse import unquote

from tunewise.data import reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics.json_text import NotStrictJson, parse_strict
from tunewise.forms.bounded import TookTooLong
from tunewise.forms.json_schema import JsonSchema
from tunewise.forms.patterns import pattern
from tunewise.models.door import Answer, Door, Grammar, grammars_of
from tunewise.rungs.rung import Workbench

SEPARATORS = ((", ", ": "), (",", ":"))
MAX_ROWS = 300  # train rows that order and separators are read from

Path = tuple[str, ...]


def grammar_of(bench: Workbench) -> Grammar | None:
    """The grammar of ``output.json_schema``, else of ``choices``, else of ``regex``; None without these.

    The properties of a schema stand in the order in which the train rows have them, and separators are those
    of the rows, since a grammar that enforces another order makes the answers that the model has learnt to
    give impossible.
    """
    output = bench.task.output
    if output is None:
        return None
    if output.json_schema is not None:
        form = output.spec().json_schema
        assert form is not None
        texts = [reference_text(row.references[0]) for row in bench.parts.train[:MAX_ROWS]]
        return Grammar("json_schema", json.dumps(in_order(form.schema, texts)), separators(texts))
    if output.choices is not None:
        return Grammar("choices", json.dumps(list(output.choices)))
    return Grammar("regex", output.regex) if output.regex is not None else None


def no_grammar(bench: Workbench, door: Door) -> str | None:
    """Why no grammar can be made for this task at this door; None where one can. Asks nothing."""
    grammar = grammar_of(bench)
    if grammar is None:
        return (
            "the task declares no form that a grammar can be made of (output.json_schema, choices or regex)"
        )
    kinds = grammars_of(door)
    if grammar.kind not in kinds:
        known = f"only to {', '.join(sorted(kinds))}" if kinds else "to no grammar"
        return f"{door.name} can hold its answers {known}, and the task declares {grammar.kind}"
    if door.host is None and "regex" in kinds:  # local weights, whose tokens we choose ourselves
        from tunewise.models.grammar import compiled

        try:
            compiled(grammar)
        except SettingError as reason:
            return str(reason)
    return None


def not_enforced(grammar: Grammar, door: Door) -> tuple[str, ...]:
    """What of the form the grammar does not enforce, in words; known for local weights only."""
    if door.host is not None or grammar.kind != "json_schema":
        return ()
    from tunewise.models.grammar import compiled, installed

    return compiled(grammar)[1] if installed() else ()


def breaks(grammar: Grammar, answer: Answer) -> bool:
    """Whether an answer that came to its own end is surely not of the form it was asked to be held to."""
    if answer.status != "ok" or answer.finish != "stop":
        return False
    text = answer.text.strip()
    if grammar.kind == "choices":
        return text not in json.loads(grammar.source)
    try:
        if grammar.kind == "regex":
            return not pattern(grammar.source, whole=True).found_in(text)
        return not JsonSchema(json.loads(grammar.source)).meets(parse_strict(text))
    except NotStrictJson:
        return True
    except TookTooLong:
        return False


def separators(texts: Sequence[str]) -> tuple[str, str] | None:
    """The separators with which all these JSON texts are written, None where they differ."""
    parsed = [value for text in texts if (value := _parsed(text)) is not None]
    for item, key in SEPARATORS:
        same = (
            text.strip() == json.dumps(value, ensure_ascii=False, separators=(item, key))
            for text, value in zip(texts, parsed, strict=False)
        )
        if len(parsed) == len(texts) > 0 and all(same):
            return item, key
    return None


def in_order(schema: Any, texts: Sequence[str]) -> Any:
    """The schema with the properties of every object in the order in which most rows have them.

    Order of two keys: by their mean place among the keys of the objects at the same path; keys that no row
    has come last, in the schema's own order. An object behind local references or alternatives is found by
    its place in the rows as well; one that stands under several paths has the mean over all of them.
    """
    places = _places(texts)
    paths = _paths(schema, frozenset(path[:end] for path in places for end in range(len(path) + 1)))

    def ordered(node: Any) -> Any:
        if isinstance(node, list):
            return [ordered(inner) for inner in node]
        if not isinstance(node, dict):
            return node
        made = {name: ordered(inner) for name, inner in node.items()}
        if id(node) in paths and isinstance(node.get("properties"), dict):
            known = _mean_places(places, paths[id(node)])
            last = len(known) + 1.0
            keys = sorted(node["properties"], key=lambda key: known.get(key, last))
            made["properties"] = {key: made["properties"][key] for key in keys}
        return made

    return ordered(schema)


def _paths(schema: Any, known: frozenset[Path]) -> dict[int, set[Path]]:
    """Where in the rows the schemas within a schema apply, by their ``id``. known: the paths of the rows.

    A schema that refers to itself is followed as deep as the rows go.
    """
    found: dict[int, set[Path]] = {}
    waiting: list[tuple[Any, Path]] = [(schema, ())]
    while waiting:
        node, path = waiting.pop()
        if not isinstance(node, dict) or path not in known or path in found.get(id(node), ()):
            continue
        found.setdefault(id(node), set()).add(path)
        if isinstance(node.get("$ref"), str):
            waiting.append((_referred(schema, node["$ref"]), path))
        for name in ("allOf", "anyOf", "oneOf"):
            waiting += [(part, path) for part in _listed(node.get(name))]
        waiting += [(node.get(name), path) for name in ("then", "else")]
        if isinstance(node.get("properties"), dict):
            waiting += [(inner, (*path, name)) for name, inner in node["properties"].items()]
        for name in ("items", "prefixItems"):
            inner = node.get(name)
            waiting += [(part, (*path, "[]")) for part in (_listed(inner) or [inner])]
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _referred(schema: Any, reference: str) -> Any:
    """What a JSON Pointer within the document names; None for any other reference."""
    if not reference.startswith("#"):
        return None
    for step in filter(None, unquote(reference[1:]).split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdigit() and int(name) < len(schema):
            schema = schema[int(name)]
        else:
            schema = schema.get(name) if isinstance(schema, dict) else None
    return schema


def _places(texts: Sequence[str]) -> dict[Path, dict[str, list[int]]]:
    """For each path of an object and each of its keys the places that it has among the keys."""
    found: dict[Path, dict[str, list[int]]] = {}
    for text in texts:
        for path, keys in _objects(_parsed(text)):
            for place, key in enumerate(keys):
                found.setdefault(path, {}).setdefault(key, []).append(place)
    return found


def _mean_places(places: Mapping[Path, Mapping[str, list[int]]], paths: Iterable[Path]) -> dict[str, float]:
    """The mean place of each key over the objects at these paths."""
    together: dict[str, list[int]] = {}
    for path in paths:
        for key, found in places.get(path, {}).items():
            together.setdefault(key, []).extend(found)
    return {key: fmean(found) for key, found in together.items()}


def _objects(value: Any) -> Iterator[tuple[Path, list[str]]]:
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict):
            yield path, list(node)
            waiting += [((*path, key), inner) for key, inner in node.items()]
        elif isinstance(node, list):
            waiting += [((*path, "[]"), inner) for inner in node]


def _parsed(text: str) -> Any:
    try:
        return parse_strict(text)
    except NotStrictJson:
        return None
