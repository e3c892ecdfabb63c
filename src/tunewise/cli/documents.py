"""JSON on standard output, the same for every verb."""

import json
from typing import Any


def json_text(value: Any, indent: int | None = 2) -> str:
    """One JSON document that any stream in UTF-8 takes: half a surrogate pair stands as its escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_json(value: Any, indent: int | None = 2) -> None:
    """One JSON document on standard output."""
    print(json_text(value, indent))
