"""YAML with the line of every key, so that a mistake can be shown where it stands.

Scalars are read by the YAML 1.2 core rules, not PyYAML's 1.1: ``yes``, ``no``, ``on`` and ``off`` are
texts (a choice may be called "no"), ``2e-4`` is a number, ``012`` is twelve and ``2024-01-01`` is a text.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tunewise.errors import TaskFileError

Place = tuple[str | int, ...]  # keys and list positions from the top


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the YAML 1.2 core schema for plain scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _construct_int(loader: _CoreLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass
class Lines:
    """The 1-based line of every key and list item, by its place; ``scalars``: plain values as written."""

    of: dict[Place, int] = field(default_factory=dict)
    scalars: dict[Place, str] = field(default_factory=dict)

    def at(self, place: Place) -> int:
        """The line of this place, or of the nearest section around it that the file has."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.of:
                return self.of[place[:length]]
        return 1


Problems = list[tuple[int, str]]  # line, message


_WRITE_ONE = {"task file": "; write one with: tunewise init DATA"}


def read_sections(file: Path, kind: str = "task file") -> tuple[dict[str, Any], Lines, Problems]:
    """The mapping that a YAML file holds, the lines of its keys, and the keys that stand twice.

    kind: what the file is called in messages. Raises TaskFileError where the file cannot be read, is not
    UTF-8, not YAML, or holds no mapping.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = f"the file does not exist{_WRITE_ONE.get(kind, '')}"
        raise TaskFileError(file, [problem], kind) from None
    except IsADirectoryError:
        problem = "this is a folder; name the task file in it (task.yaml)"
        raise TaskFileError(file, [problem], kind) from None
    except OSError as error:
        raise TaskFileError(file, [f"the file cannot be read: {error.strerror}"], kind) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        wrong = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise TaskFileError(file, [f"line {line}: {wrong}"], kind) from None
    try:
        document, lines, problems = _compose(text)
    except (yaml.YAMLError, ValueError) as error:
        raise TaskFileError(file, [_syntax(error)], kind) from None
    if not isinstance(document, dict):
        got = "nothing" if document is None else f"a {type(document).__name__}"
        expected = "lines of the form 'key: value' were expected"
        raise TaskFileError(file, [f"line 1: {expected}, got {got}"], kind)
    return _keys_as_text(document), lines, problems


def _compose(text: str) -> tuple[Any, Lines, Problems]:
    loader = _CoreLoader(text)
    lines, twice = Lines(), Problems()
    try:
        node = loader.get_single_node()
        if node is None:
            return None, lines, twice
        _mark(node, (), lines, twice, frozenset())
        return loader.construct_document(node), lines, twice
    finally:
        loader.dispose()


def _syntax(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    words = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}this is not YAML: {words}; check indentation, colons and quotes there"


def _mark(node: yaml.Node, place: Place, lines: Lines, twice: Problems, above: frozenset[int]) -> None:
    """Note the line of everything below this node; ``above`` holds the nodes around it."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an alias holds itself", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines.of:
                name = ".".join(map(str, inner))
                both = _both(lines.scalars.get(inner), value)
                first = f"first in line {lines.of[inner]}"
                twice.append((line, f"{name}: stands twice ({first}{both}); keep one"))
            lines.of[inner] = line
            if isinstance(value, yaml.ScalarNode):
                lines.scalars[inner] = value.value
            _mark(value, inner, lines, twice, above | {id(node)})
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            inner = (*place, position)
            lines.of[inner] = value.start_mark.line + 1
            _mark(value, inner, lines, twice, above | {id(node)})


def _both(first: str | None, second: yaml.Node) -> str:
    """``: never, then daily`` where a key that stands twice has two plain values that differ."""
    if first is None or not isinstance(second, yaml.ScalarNode) or first == second.value:
        return ""
    return f": {first[:40]}, here {second.value[:40]}"


def _keys_as_text(value: Any) -> Any:
    """Every mapping key as text, so that ``1: x`` is an unknown key and no crash."""
    if isinstance(value, Mapping):
        return {str(key): _keys_as_text(inner) for key, inner in value.items()}
    return [_keys_as_text(inner) for inner in value] if isinstance(value, list) else value


def nearest(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'metric'?`` where a known word is near, else nothing."""
    from difflib import get_close_matches  # only where there is a mistake to explain

    near = get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""
