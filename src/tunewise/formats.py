"""The row formats that are understood: which one a file has, and what a row of it says.

    input/output        {"input", "output"} or {"input", "references": [...]}
    messages            OpenAI chat: {"messages": [{"role", "content"}, ...]}, the last one the answer
    prompt/completion   {"prompt", "completion"}, each a text or a list of messages
    Alpaca              {"instruction", "input", "output"}; instruction and input form one user turn
    ShareGPT            {"conversations": [{"from", "value"}, ...]}, the last one the answer

In every format ``references: [...]`` adds further right answers.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunewise.errors import DataError

Role = Literal["system", "user", "assistant"]

# The key by which each format is recognised, the more telling first.
TELLING_KEY = {
    "messages": "messages",
    "conversations": "ShareGPT",
    "prompt": "prompt/completion",
    "instruction": "Alpaca",
    "input": "input/output",
}
ANSWER_KEY = {"prompt/completion": "completion", "Alpaca": "output", "input/output": "output"}
PASSAGE_KEYS = ("passage", "passages", "doc_id", "doc_ids")
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
Turn = tuple[Role, str]  # role, content


@dataclass(frozen=True, slots=True)
class Read:
    """What one row says: the chat up to the answer, and the right answers (none in a row to be answered)."""

    turns: tuple[Turn, ...]
    references: tuple[Any, ...]


def recognise(rows: Sequence[Mapping[str, Any]]) -> str:
    """The format that most rows have. Raises DataError where no row has a key that tells."""
    votes = Counter(fmt for row in rows if (fmt := _format_of(row)) is not None)
    if votes:
        return votes.most_common(1)[0][0]
    keys = ", ".join(sorted({str(key) for row in rows[:20] for key in row}))
    raise DataError(
        "the rows have none of the accepted formats: input/output, messages, prompt/completion, instruction/"
        f"input/output (Alpaca), conversations (ShareGPT); their keys are: {keys}; rename two of them to "
        "'input' and 'output'"
    )


def _format_of(row: Mapping[str, Any]) -> str | None:
    told = [name for key, name in TELLING_KEY.items() if key in row]
    answered = [name for name in told if name not in ANSWER_KEY or ANSWER_KEY[name] in row]
    return next(iter(answered or told), None)


def read_row(row: Mapping[str, Any], name: str, *, answered: bool = True) -> Read:
    """One row of the named format. Raises DataError (without file and line) where it says too little.

    answered: the row must hold its answer; else an answer is read where there is one.
    """
    if name in ("messages", "ShareGPT"):
        key = "messages" if name == "messages" else "conversations"
        turns = _chat(row.get(key), key)
        if name == "ShareGPT" and is_filled(row.get("system")):
            turns = (("system", _text(row["system"], "system")), *turns)
        answers: tuple[Any, ...] = ()
        if turns[-1][0] == "assistant":
            turns, answers = turns[:-1], (turns[-1][1],)
    else:
        turns = _alpaca(row) if name == "Alpaca" else _question(row, name)
        answers = _answer(row, ANSWER_KEY[name])
    _check_turns(turns)
    references = _distinct((*answers, *_references(row)))
    for reference in references:
        _text(reference, "the output")
    if answered and not references:
        in_key = f"'{ANSWER_KEY[name]}' or 'references'" if name in ANSWER_KEY else None
        wanted = in_key or "an assistant turn at the end, with text,"
        raise DataError(f"the row has no output: {wanted} was expected; add it or take the row out")
    return Read(turns, references)


def _question(row: Mapping[str, Any], name: str) -> tuple[Turn, ...]:
    key = "prompt" if name == "prompt/completion" else "input"
    value = row.get(key)
    if _is_chat(value):
        return _chat(value, key)
    if not is_filled(value):
        raise DataError(f"'{key}' is {'empty' if key in row else 'missing'}; a text was expected")
    return (("user", _text(value, key)),)


def _alpaca(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    """Alpaca with the optional ``system`` and ``history`` ([[question, answer], ...]) of its descendants."""
    asked = [_text(row[key], key) for key in ("instruction", "input") if is_filled(row.get(key))]
    if not asked:
        raise DataError("'instruction' and 'input' are empty; a text was expected in one of them")
    turns: list[Turn] = []
    if is_filled(row.get("system")):
        turns.append(("system", _text(row["system"], "system")))
    for pair in row.get("history") or ():
        if not (
            isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        ):
            raise DataError(f"'history' must hold pairs [question, answer], got {_short(pair)}")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    return (*turns, ("user", "\n\n".join(asked)))


def _answer(row: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    value = row.get(key)
    if _is_reply(value):
        turns = _chat(value, key)
        if len(turns) != 1 or turns[0][0] != "assistant":
            raise DataError(f"'{key}' must be one assistant message, got {_short(value)}")
        value = turns[0][1]
    return (value,) if is_filled(value) else ()


def _references(row: Mapping[str, Any]) -> tuple[Any, ...]:
    value = row.get("references")
    if isinstance(value, str) and value.lstrip().startswith("["):  # a CSV cell
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"'references' is a broken JSON list: {error.msg}") from None
    if not is_filled(value):
        return ()
    if not isinstance(value, list) or not all(is_filled(one) for one in value):
        raise DataError(f"'references' must be a list of right answers, got {_short(value)}")
    return tuple(value)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each value once, in order; 1 and true and 1.0 are different answers."""
    return tuple({json.dumps(value, sort_keys=True, default=str): value for value in values}.values())


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)
    )


def _is_reply(value: Any) -> bool:
    """An answer as messages; objects that only have a ``role`` (a person's post in a company) are data."""
    said = {"content", "tool_calls", "function_call"}
    return _is_chat(value) and all(isinstance(m["role"], str) and m.keys() & said for m in value)


def _chat(value: Any, key: str) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"'{key}' must be a list of messages, got {_short(value)}")
    turns: list[Turn] = []
    for number, message in enumerate(value, start=1):
        where = f"'{key}', message {number}"
        if not isinstance(message, Mapping):
            raise DataError(f"{where}: an object with role and content was expected, got {_short(message)}")
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or role not in _ROLES:
            raise DataError(f"{where}: the role {_short(role)} is not system, user or assistant; {_TOOLS}")
        if message.get("tool_calls") or message.get("function_call"):
            raise DataError(f"{where}: it holds a tool call; {_TOOLS}")
        last_answer = number == len(value) and _ROLES[role] == "assistant"
        if last_answer and not is_filled(content):
            return tuple(turns)
        turns.append((_ROLES[role], _parts(content, where)))
    return tuple(turns)


_TOOLS = "tool calls cannot be learned or measured here; take such rows out"


def _parts(content: Any, where: str) -> str:
    """The text of a message; OpenAI's content parts are joined when all of them are text."""
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        if texts and all(isinstance(text, str) for text in texts):
            return "".join(text for text in texts if text is not None)
        raise DataError(f"{where}: only text can be read, got {_short(content)}")
    return _text(content, where)


def _check_turns(turns: tuple[Turn, ...]) -> None:
    if not turns or turns[-1][0] != "user":
        raise DataError("the turn before the answer must be the user's")
    if any(role == "system" for role, _ in turns[1:]):
        raise DataError("a system turn may only stand first")
    if not turns[-1][1].strip():
        raise DataError("the last user turn is empty; a text was expected")


def is_filled(value: Any) -> bool:
    """False for null, for a blank text, and for what a table of numbers has where nothing is known (NaN)."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return not missing and not (isinstance(value, str) and not value.strip())


def _text(value: Any, what: str) -> str:
    """A value as text; JSON values other than texts are serialised."""
    if value is None:
        raise DataError(f"{what}: a text was expected, got null")
    if isinstance(value, bytes):
        raise DataError(f"{what}: a text was expected, got bytes that are no UTF-8")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    refuse_half_pair(text, what)
    return text


def refuse_half_pair(text: str, what: str) -> None:
    """Raises DataError for half of a surrogate pair (an emoji cut in two), which no encoding can write."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError(f"{what}: the text holds half of a surrogate pair; repair or remove that character")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def passages_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of documents or chunks that a row names, each once, in order."""
    found: list[str] = []
    for key in PASSAGE_KEYS:
        value = row.get(key)
        values = value if isinstance(value, list) else [value]
        found += [str(one) for one in values if is_filled(one)]
    return tuple(dict.fromkeys(found))


def group_of(row: Mapping[str, Any], field: str) -> str:
    """The row's value of the group field as text, JSON values with sorted keys. Raises DataError without."""
    value = row.get(field)
    if not is_filled(value):
        raise DataError(f"the group field '{field}' is {'empty' if field in row else 'missing'} in this row")
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
