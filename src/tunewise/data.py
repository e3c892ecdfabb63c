"""Reading examples: rows of any accepted format -> one shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data.

    key: 16 hex digits of SHA-256 over turns and references: the row's identity, whatever its place.
    turns: the chat up to the answer; the last turn is the user's, an optional first one the system's.
    references: right answers, JSON values or strings, at least one; the best match counts.
    group: value of ``split.group`` in this row, None without groups.
    passages: ids of the documents or chunks that hold the answer, when the row names them.
    source, line: where the row stands, for messages (1-based).
    """

    key: str
    turns: tuple[Message, ...]
    references: tuple[Any, ...]
    group: str | None = None
    passages: tuple[str, ...] = ()
    source: str = ""
    line: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def input(self) -> str:
        """The last user turn."""
        return self.turns[-1].content

    @property
    def answer(self) -> str:
        """The first reference as the text a model should write (JSON values in the row's key order)."""
        return reference_text(self.references[0])


def reference_text(reference: Any) -> str:
    """A reference as the text a model should write: strings as they are, JSON values serialised."""
    import json

    return reference if isinstance(reference, str) else json.dumps(reference, ensure_ascii=False)
