"""Reading keys of rows, with words for what is missing."""

from collections.abc import Sequence
from typing import Any

from tunewise.benchmarks.item import Row
from tunewise.errors import DataError

LETTERS = "ABCDEFGHIJ"


def field(row: Row, name: str, kind: type) -> Any:
    """``row[name]``, which must be of that kind. Raises DataError naming row and key."""
    value = row.get(name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        came = f"{type(value).__name__} {value!r}"[:80] if name in row else f"keys {', '.join(map(str, row))}"
        raise DataError(f"{place(row)}: expected {name!r} as {kind.__name__}, got {came}")
    return value


def number_of(row: Row, name: str) -> int:
    """``row[name]`` as a whole number, which may be written as text ("2", as some published rows have it)."""
    value = row.get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() else int(field(row, name, int))


def place(row: Row) -> str:
    """How a row is named in messages: its file and line where known, else its id."""
    return str(row.get("__place__") or row.get("id") or "a row")


def identifier(row: Row, number: int) -> str:
    """The row's id, else its number."""
    return str(row.get("id", row.get("ind", number)))


def choices_and_gold(row: Row) -> tuple[tuple[str, ...], int]:
    """Choices and the place of the right one, from {choices: [...], answer_index: n} or the hub's ARC form
    {choices: {text, label}, answerKey}. Raises DataError when they do not fit together."""
    if isinstance(row.get("choices"), dict):
        labels, texts = (row["choices"].get(name) for name in ("label", "text"))
        if not isinstance(labels, list | tuple) or not isinstance(texts, list | tuple):
            raise DataError(
                f"{place(row)}: expected choices as {{label: [...], text: [...]}}, got {row['choices']!r}"[
                    :300
                ]
            )
        labels, texts = list(labels), list(texts)
        if row.get("answerKey") not in labels:
            raise DataError(
                f"{place(row)}: answerKey {row.get('answerKey')!r} is none of the labels {labels}"
            )
        return checked(row, texts, labels.index(row["answerKey"]))
    if "answer_index" not in row and "answer" in row:  # the hub's MMLU
        return checked(row, field(row, "choices", list), field(row, "answer", int))
    return checked(row, field(row, "choices", list), field(row, "answer_index", int))


def checked(row: Row, choices: Sequence[Any], gold: int) -> tuple[tuple[str, ...], int]:
    """At least two non-empty texts and a place among them."""
    if len(choices) < 2 or not all(isinstance(choice, str) and choice for choice in choices):
        raise DataError(
            f"{place(row)}: expected two or more non-empty texts as choices, got {choices!r}"[:300]
        )
    if not 0 <= gold < len(choices):
        raise DataError(
            f"{place(row)}: the right answer {gold} is none of the {len(choices)} choices (from 0)"
        )
    return tuple(choices), gold
