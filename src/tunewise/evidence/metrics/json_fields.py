"""``json_fields``: F1 over the key-value pairs of a JSON answer, so that invented keys cost."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tunewise.evidence.metrics.json_text import NotStrictJson, cut_json, parse_strict
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import shown
from tunewise.evidence.records import Score

Path = tuple[str | int, ...]
Pair = tuple[Path, tuple[str, Any]]
SHOWN = 3  # fields that differ, in words
ITEM = 0  # stands in a path for "some element of this array"; keys are texts, so none equals it


def json_fields(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """F1 of the pairs (path, leaf) of answer and reference: 2 * common / (pairs in answer + in reference).

    The raw answer must be JSON and nothing but JSON (``json_text.parse_strict`` says what that is), else
    it is ``unparseable`` with value 0 and ``why`` in the detail. detail: ``field_recall`` = common / pairs
    in reference and ``field_precision`` = common / pairs in answer, for the best reference; and
    ``repaired_value``: the value after cutting the JSON out of prose or a code fence.

    Pairs: objects are walked by key, arrays without regard to order (all elements share one path), as in
    the field-level F1 of Kim et al. (2022), ECCV, "OCR-free Document Understanding Transformer", section 4;
    an empty object or array is a leaf. Leaves are compared with their type: 1 equals 1.0, but
    neither "1" nor true; texts are equal up to outer white space and Unicode composition (NFC). Keys
    must be equal. A reference that is a text is parsed where it is JSON.
    """
    right = [_reference_pairs(reference) for reference in references]
    try:
        said = pairs(parse_strict(answer))
    except NotStrictJson as mistake:
        repaired = _value_of(_repaired(answer, references), right)
        detail = {
            "field_recall": 0.0,
            "field_precision": 0.0,
            "repaired_value": repaired,
            "why": str(mistake),
        }
        return Score("unparseable", 0.0, detail)
    value = _value_of(said, right)
    recall, precision = _recall_and_precision(said, right)
    detail = {"field_recall": recall, "field_precision": precision, "repaired_value": value}
    return Score("scored", value, detail if value == 1 or not right else {**detail, "why": _why(said, right)})


def field_figures(said: Any, references: Sequence[Any]) -> tuple[float, float, float]:
    """F1, recall and precision of a JSON value's pairs against the best reference (``json_fields``)."""
    right, counted = [_reference_pairs(reference) for reference in references], pairs(said)
    return (_value_of(counted, right), *_recall_and_precision(counted, right))


def pairs(value: Any) -> Counter[Pair]:
    """The multiset of (path, leaf) pairs of a JSON value."""
    found: Counter[Pair] = Counter()
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict) and node:
            waiting += [((*path, key), child) for key, child in node.items()]
        elif isinstance(node, list) and node:
            waiting += [((*path, ITEM), child) for child in node]
        else:
            found[path, _leaf(node)] += 1
    return found


def _leaf(node: Any) -> tuple[str, Any]:
    """A leaf with its type, so that 1 and True, equal in Python, differ."""
    if isinstance(node, bool):
        return "truth", node
    if isinstance(node, int | float):
        return "number", node
    if isinstance(node, str):
        return "text", unicodedata.normalize("NFC", node).strip()
    return ("nothing", None) if node is None else ("empty", type(node).__name__)


def _reference_pairs(reference: Any) -> Counter[Pair]:
    return pairs(reference_value(reference))


def reference_value(reference: Any) -> Any:
    """The JSON value that a reference stands for: a text is parsed where it is JSON, else it is itself."""
    return _parsed(reference) if isinstance(reference, str) else reference


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    try:
        return parse_strict(text)
    except NotStrictJson:
        return text


def _repaired(answer: str, references: Sequence[Any]) -> Counter[Pair] | None:
    """Pairs of the first JSON value within the answer of the kind that the references are."""
    openings: dict[type, str] = {dict: "{", list: "["}
    wanted = {openings[t] for r in references if (t := type(reference_value(r))) in openings}
    found = cut_json(answer, "".join(sorted(wanted)))
    return None if found is None else pairs(found.value)


def _value_of(said: Counter[Pair] | None, right: Sequence[Counter[Pair]]) -> float:
    if said is None:
        return 0.0
    return max((2 * (said & r).total() / (said.total() + r.total()) for r in right), default=0.0)


def _why(said: Counter[Pair], right: Sequence[Counter[Pair]]) -> str:
    """Which fields differ from the best reference: at most SHOWN of them."""
    best = max(right, key=lambda r: (said & r).total() / (said.total() + r.total()))
    missing, extra = best - said, said - best
    got = dict(iter(extra))
    wanted = dict(iter(missing))
    lines = [
        f"{_place(path)}: {_seen(leaf)} was expected"
        + (f", got {_seen(got[path])}" if path in got else ", but it is missing")
        for path, leaf in sorted(wanted.items(), key=lambda pair: _place(pair[0]))
    ]
    lines += [f"{_place(path)}: not asked for" for path in got if path not in wanted]
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more


def _place(path: Path) -> str:
    return shown(".".join("[]" if part == ITEM else str(part) for part in path), 80)[1:-1] or "the value"


def _seen(leaf: tuple[str, Any]) -> str:
    kind, value = leaf
    if kind == "empty":
        return "{}" if value == "dict" else "[]"
    return shown(value, 40) if isinstance(value, str) else json.dumps(value)


def _recall_and_precision(said: Counter[Pair], right: Sequence[Counter[Pair]]) -> tuple[float, float]:
    """Of the reference with the best F1, the first where several have it."""
    if not right:
        return 0.0, 0.0
    best = max(right, key=lambda r: (said & r).total() / (said.total() + r.total()))
    common = (said & best).total()
    return common / best.total(), common / said.total()
