"""The process in which a metric of the user's own runs: one JSON line in, one out. See ``own_metric``.

    python -P own_worker.py FOLDER MODULE FUNCTION

It imports nothing of tunewise, so that it starts at once.
The first line out says whether the function was found. It ends when its input closes, even while the
function hangs. What the function prints goes to standard error.
"""

import decimal
import importlib
import inspect
import json
import numbers
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO


def main() -> None:
    """Serve one function until the input closes."""
    folder, module, name = sys.argv[1:4]
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(_load, folder, module, name)
        failure = loading.exception()
        _reply(replies, {"ready": True} if failure is None else {"cannot": _in_words(failure)})
        while failure is None:
            call = json.loads(requests.get())
            answer = pool.submit(_value_of, loading.result(), call)
            error = answer.exception()
            _reply(replies, answer.result() if error is None else {"error": _in_words(error)})


def _read(requests: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


def _load(folder: str, module: str, name: str) -> Callable[..., Any]:
    sys.path.insert(0, folder)
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    if not callable(found):
        raise TypeError(f"{module}:{name} is no function but {type(found).__name__}")
    return found


def _value_of(function: Callable[..., Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """What the function says of one answer. It takes (output, references) or (output, references, input)."""
    given = [call["output"], call["references"], call["input"]]
    takes = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    said = function(*given[: min(len(takes), 3)])
    detail = {str(key): _plain(value) for key, value in said.items()} if isinstance(said, Mapping) else {}
    value = detail.pop("value", None) if isinstance(said, Mapping) else _plain(said)
    return {"value": value, "detail": detail}


def _plain(value: Any) -> Any:
    """A number as a double (numpy's, torch's and decimal ones too), a text as it is; else its type's name."""
    if not isinstance(value, numbers.Real) and callable(getattr(value, "item", None)):
        try:
            value = value.item()  # an array of one element
        except (TypeError, ValueError, RuntimeError):
            return {"type": type(value).__name__}
    if isinstance(value, numbers.Real | decimal.Decimal):
        return float(value)
    return value if value is None or isinstance(value, str) else {"type": type(value).__name__}


def _in_words(error: BaseException) -> str:
    """The error and the line of the user's own file where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (line {frames[-1].lineno} of {os.path.basename(frames[-1].filename)})" if frames else ""
    return f"{type(error).__name__}: {error}"[:500] + where


def _reply(replies: TextIO, reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
