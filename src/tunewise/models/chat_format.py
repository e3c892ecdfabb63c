"""The chat-completions format: what is sent to an endpoint, what its reply says. Pure: no network here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from tunewise.errors import DoorError, SettingError
from tunewise.models.door import Answer, Finish, Price, Request, without_thoughts

ROUTE = "/chat/completions"
VERSION = re.compile(r"/v\d+[a-z0-9]*(/|$)")
FINISHES: Mapping[str, Finish] = {"stop": "stop", "length": "length"}


def completions_url(endpoint: str) -> str:
    """The URL that requests are posted to.

    The rule: an address that ends in ``/chat/completions`` is used as it is. Otherwise a path without a
    version (``/v1``, ``/v1beta``) gets ``/v1``, and then ``/chat/completions``. So ``http://host:8000``,
    ``http://host:8000/`` and ``http://host:8000/v1/`` are one address. A query stays.

    Raises SettingError when the address is not http(s), names no host, or carries a user or a password.
    """
    parts = _split(endpoint)
    path = parts.path.rstrip("/")
    if not path.endswith(ROUTE):
        path = (path if VERSION.search(path) else f"{path}/v1") + ROUTE
    netloc = parts.netloc.lower()
    return urlunsplit((parts.scheme.lower(), netloc, path, parts.query, ""))


def _split(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SettingError(f"endpoint: {error}; give an address such as http://127.0.0.1:8000/v1") from None
    if "@" in parts.netloc:
        raise SettingError(
            "endpoint: the address carries a user or a password; leave it out and put the key into the "
            "environment (TUNEWISE_API_KEY, or the variable that `api_key_env` names)"
        )
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise SettingError(
            f"endpoint: an http:// or https:// address was expected, got {shortened(endpoint)!r}; "
            "give an address such as http://127.0.0.1:8000/v1"
        )
    return parts


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a host takes: the name of the limit of an answer's tokens, and whether a temperature."""

    limit_key: str = "max_tokens"
    takes_temperature: bool = True


def chat_body(model: str, request: Request, dialect: Dialect) -> dict[str, Any]:
    """The JSON body of one request. A seed is sent only where something is drawn (temperature above 0)."""
    decoding = request.decoding
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        dialect.limit_key: decoding.max_new_tokens,
    }
    if dialect.takes_temperature:
        body["temperature"] = decoding.temperature
    if decoding.temperature > 0:
        body["seed"] = decoding.seed
    if request.grammar is not None and request.grammar.kind == "json_schema":
        named = {"name": "answer", "schema": json.loads(request.grammar.source), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def dialect_asked_for(said: str, dialect: Dialect) -> Dialect | None:
    """What a host that turned a request down wants instead (reasoning models do); None where it says nothing.

    "Unsupported parameter: 'max_tokens' ... Use 'max_completion_tokens' instead"; "Unsupported value:
    'temperature' does not support 0 with this model. Only the default (1) value is supported".
    """
    if dialect.limit_key == "max_tokens" and "max_completion_tokens" in said:
        return replace(dialect, limit_key="max_completion_tokens")
    if dialect.takes_temperature and "temperature" in said and "support" in said.lower():
        return replace(dialect, takes_temperature=False)
    return None


def is_filtered(body: object) -> bool:
    """Whether an error says that a content filter turned the request down.

    Azure: code ``content_filter``; OpenAI: ``content_policy_violation``; OpenRouter: 403 with the flagged
    input or the reasons under ``metadata``.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return False
    metadata = error.get("metadata")
    flagged = isinstance(metadata, Mapping) and bool(metadata.keys() & {"flagged_input", "reasons"})
    return flagged or error.get("code") in ("content_filter", "content_policy_violation")


def read_answer(body: object, *, price: Price | None, seconds: float, where: str) -> Answer:
    """The answer in a reply's JSON. ``where`` names the endpoint in messages.

    A refusal or a content filter gives status ``refused``. Tokens are None where the server counts none;
    ``usd`` is None without a price or without both counts. Raises DoorError when the JSON has not the
    shape of a chat completion.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if (
        not isinstance(body, Mapping)
        or not isinstance(choices, list)
        or not choices
        or not isinstance(choices[0], Mapping)
    ):
        raise _other_shape(where, "no `choices`", body)
    choice = choices[0]
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise _other_shape(where, "no `choices[0].message`", body)
    reason = choice.get("finish_reason")
    refusal = message.get("refusal")
    refused = reason == "content_filter" or bool(refusal)
    content = message.get("content")
    text = _text(content)
    may_be_silent = "content" in message or reason == "length" or refused
    if text is None and (content is not None or not may_be_silent):
        raise _other_shape(where, "no text in `choices[0].message.content`", body)
    tokens_in, cached_in, tokens_out = read_usage(body.get("usage"))
    usd = None
    if price is not None and tokens_in is not None and tokens_out is not None:
        usd = price.of(tokens_in, tokens_out, cached_in or 0)
    return Answer(
        text=without_thoughts(text or "") or (str(refusal) if refusal else ""),
        status="refused" if refused else "ok",
        finish=FINISHES.get(reason, "other") if isinstance(reason, str) else "other",
        tokens_in=tokens_in,
        cached_in=cached_in,
        tokens_out=tokens_out,
        seconds=seconds,
        usd=usd,
    )


def read_usage(usage: object) -> tuple[int | None, int | None, int | None]:
    """Prompt, cached and answer tokens of a ``usage`` object; None for each that is absent or no count.

    Some hosts leave a model's reasoning out of ``completion_tokens`` and charge for it: where the total says
    more, what is not the prompt counts as answer.
    """
    if not isinstance(usage, Mapping):
        return None, None, None
    tokens_in = _count(usage.get("prompt_tokens"))
    details = usage.get("prompt_tokens_details")
    cached_in = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    if cached_in is not None and (tokens_in is None or cached_in > tokens_in):
        cached_in = None
    tokens_out, total = _count(usage.get("completion_tokens")), _count(usage.get("total_tokens"))
    if tokens_in is not None and tokens_out is not None and total is not None:
        tokens_out = max(tokens_out, total - tokens_in)
    return tokens_in, cached_in, tokens_out


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(content: object) -> str | None:
    """The text of ``content``: a string, or a list of parts of which those of type ``text`` count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else None
    return None


def _other_shape(where: str, what: str, body: object) -> DoorError:
    came = shortened(json.dumps(body, ensure_ascii=False))
    return DoorError(
        f"{where}: a chat completion was expected, but the reply has {what}; it says {came}. "
        "Is this the address of an OpenAI-compatible server?"
    )


def error_in(body: object) -> tuple[int | None, str | None, str] | None:
    """HTTP-like status, error code and message of the error that a reply's JSON reports; None without one.

    Read are ``error`` (OpenAI, llama.cpp, Ollama), ``detail`` (FastAPI: `transformers serve`) and a reply
    that is an error itself (older vLLM). Routers (OpenRouter) send the error of the host behind them with
    status 200 and the status in ``code``, or in the choice that it ended.
    """
    if not isinstance(body, Mapping):
        return None
    error = (
        failed_choice(body)
        or body.get("error")
        or body.get("detail")
        or (body if body.get("object") == "error" else None)
    )
    if not error:
        return None
    if not isinstance(error, Mapping):
        return None, None, error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    code = error.get("code")
    kind = code if isinstance(code, str) else error.get("type")
    message = error.get("message")
    return (
        code if isinstance(code, int) and 400 <= code <= 599 else None,
        kind if isinstance(kind, str) else None,
        message if isinstance(message, str) else json.dumps(error, ensure_ascii=False),
    )


def failed_choice(body: object) -> object:
    """The error that ended the first choice of a reply, whatever had been written by then; None without."""
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        return None
    if choice.get("error"):
        return choice["error"]
    return "the host ended the answer with an error" if choice.get("finish_reason") == "error" else None


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: a number or an HTTP date (RFC 9110, section 10.2.3).

    None without a header or when it is neither; a date in the past gives 0.
    """
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def shortened(text: str, most: int = 240) -> str:
    """``text`` on one line, cut to ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
