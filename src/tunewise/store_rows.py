"""How a store's rows look: columns, the values that lie in them, and the hash of their content."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

from tunewise.data import Message
from tunewise.evidence.records import Outcome, Status
from tunewise.models.door import Answer, AnswerStatus, Decoding, Finish, Grammar, Request

# Columns of each table in the order in which they are hashed; `seq` and `hash` themselves are not among them.
_PLACE = ("session", "at")
_ANSWER = (
    "text",
    "status",
    "finish",
    "tokens_in",
    "cached_in",
    "tokens_out",
    "seconds",
    "usd",
    "upper_usd",
    "error",
)
_OUTCOME = ("text", "tokens_in", "tokens_out", "seconds", "usd", "detail", "error")
COLUMNS: dict[str, tuple[str, ...]] = {
    "meta": ("name", "value"),
    "sessions": ("started", "pid", "host", "version"),
    "calls": (*_PLACE, "key", "door", "purpose", "rung", "request", *_ANSWER),
    "failures": (*_PLACE, "key", "door", "purpose", "rung", "request", *_ANSWER),
    "outcomes": (*_PLACE, "rung", "position", "example", "call", "status", "value", *_OUTCOME),
    "costs": (*_PLACE, "rung", "what", "usd"),
    "frozen": (*_PLACE, "name", "value"),
    "events": (*_PLACE, "event", "facts"),
}


def as_json(value: Any) -> str:
    """Compact ASCII JSON; what JSON does not know (paths) as its text."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str)


def plain(value: Any) -> Any:
    """``value`` as it comes back from JSON: tuples are lists, keys are strings."""
    return json.loads(as_json(value))


def content_hash(table: str, values: Sequence[Any]) -> str:
    """SHA-256 of a row: of the table's name and the values of COLUMNS, as JSON."""
    return "sha256:" + hashlib.sha256(as_json([table, *values]).encode("ascii")).hexdigest()


def request_json(request: Request) -> str:
    """A request as it lies in a row, its tag included."""
    decoding, grammar = request.decoding, request.grammar
    body = {
        "messages": [[message.role, message.content] for message in request.messages],
        "decoding": [decoding.max_new_tokens, decoding.temperature, decoding.seed],
        "tag": dict(request.tag),
    }
    if grammar is not None:
        body["grammar"] = [grammar.kind, grammar.source, grammar.separators]
    return as_json(body)


def request_of(text: str) -> Request:
    """The request that lies in a row."""
    body = json.loads(text)
    messages = tuple(Message(role, content) for role, content in body["messages"])
    grammar = None
    if "grammar" in body:
        kind, source, separators = body["grammar"]
        grammar = Grammar(kind, source, None if separators is None else tuple(separators))
    return Request(messages, Decoding(*body["decoding"]), body["tag"], grammar)


def encodable(text: str) -> str:
    """``text`` with halves of surrogate pairs joined, or replaced by U+FFFD where one stands alone.

    UTF-8 cannot hold the halves, and a server may send them.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def storable(answer: Answer) -> Answer:
    """``answer`` with exactly the types that the store gives back."""
    return Answer(
        text=encodable(answer.text),
        status=answer.status,
        finish=answer.finish,
        tokens_in=answer.tokens_in,
        cached_in=answer.cached_in,
        tokens_out=answer.tokens_out,
        seconds=float(answer.seconds),
        usd=None if answer.usd is None else float(answer.usd),
        error=None if answer.error is None else encodable(answer.error),
    )


ANSWER_NAMES = tuple(name for name in _ANSWER if name != "upper_usd")  # the fields of Answer
ANSWER_COLUMNS = ", ".join(ANSWER_NAMES)


def answer_of(row: Sequence[Any]) -> Answer:
    """The answer that lies in ANSWER_COLUMNS of a row."""
    values = dict(zip(ANSWER_NAMES, row, strict=True))
    return Answer(
        **{
            **values,
            "status": cast(AnswerStatus, values["status"]),
            "finish": cast(Finish, values["finish"]),
        }
    )


def outcome_row(rung: str, outcome: Outcome, call: str | None) -> dict[str, Any]:
    """The columns of ``outcomes`` that say what was measured."""
    return {
        "rung": rung,
        "position": outcome.position,
        "example": outcome.example,
        "call": call,
        "status": outcome.status,
        "value": None if outcome.value is None else float(outcome.value),
        "text": encodable(outcome.text),
        "tokens_in": outcome.tokens_in,
        "tokens_out": outcome.tokens_out,
        "seconds": float(outcome.seconds),
        "usd": None if outcome.usd is None else float(outcome.usd),
        "detail": as_json(dict(outcome.detail)),
        "error": None if outcome.error is None else encodable(outcome.error),
    }


def outcome_of(row: dict[str, Any]) -> Outcome:
    """The outcome that lies in these columns."""
    return Outcome(**{**row, "status": cast(Status, row["status"]), "detail": json.loads(row["detail"])})
