"""A small OpenAI-compatible server in its own process: for tests, kill-and-resume checks and benchmarks.

    python -m tunewise.models.mock_server --port 0 --latency-ms 500 --script module:attr --log FILE

It binds 127.0.0.1 only, prints its port as its first line, and answers with a script as `models/scripted.py`
has it. The log gets one line per request when it comes in: `request_hash`, a space, the status that is sent.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.data import Message
from tunewise.models.door import Answer
from tunewise.models.scripted import Script, load_script, worded_answer

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class MockSettings:
    """How the mock behaves.

    latency_s: seconds from the request to the reply. fail_rate: share of requests answered with 500, drawn
    from ``seed``. rate_limit: requests per second (bucket of one second's worth), above it 429 with
    ``Retry-After: retry_after_s`` (0: no such header). key: the bearer token to ask for, None: any.
    model: the one name to answer to, None: any.
    """

    latency_s: float = 0.0
    fail_rate: float = 0.0
    rate_limit: float | None = None
    retry_after_s: float = 1.0
    key: str | None = None
    model: str | None = None
    seed: int = 0


def request_hash(model: str, messages: Sequence[Message]) -> str:
    """Identity of a request in the mock's log: 64 hex digits of SHA-256 over model, roles and contents."""
    text = json.dumps([model, [[m.role, m.content] for m in messages]], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def echo(messages: Sequence[Message]) -> str:
    """The script in force when none is named: the last turn again."""
    return messages[-1].content


class MockServer:
    """What all connections share: the script, the log, the draws and the rate limit."""

    def __init__(self, script: Script, settings: MockSettings, log: int | None = None) -> None:
        self.settings = settings
        self._script = script
        self._log = log
        self._draws = random.Random(settings.seed)
        self._bucket = max(1.0, settings.rate_limit or 0.0)
        self._filled_at = time.monotonic()

    def reply(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the reply to one request."""
        if not path.rstrip("/").endswith("/chat/completions"):
            return self._other(path)
        try:
            asked = json.loads(body)
            model = str(asked["model"])
            messages = tuple(Message(m["role"], m["content"]) for m in asked["messages"])
        except (ValueError, KeyError, TypeError) as error:
            return 400, _error(f"no chat completion request: {error!r}")
        status, reply = self._completion(model, messages, asked, headers)
        if self._log is not None:
            os.write(self._log, f"{request_hash(model, messages)} {status}\n".encode("ascii"))
        return status, reply

    def _other(self, path: str) -> tuple[int, dict[str, Any]]:
        if path.endswith("/health"):
            return 200, {"status": "ok"}
        if path.endswith("/models"):
            name = self.settings.model or "mock"
            return 200, {"object": "list", "data": [{"id": name, "object": "model"}]}
        return 404, _error(f"no route {path}")

    def _completion(
        self, model: str, messages: tuple[Message, ...], asked: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        settings = self.settings
        if settings.key is not None and headers.get("authorization") != f"Bearer {settings.key}":
            return 401, _error("the key is wrong")
        if settings.model is not None and model != settings.model:
            return 404, _error(f"there is no model {model!r}")
        if not self._within_rate():
            return 429, _error("too many requests")
        if settings.fail_rate and self._draws.random() < settings.fail_rate:
            return 500, _error("drawn by --fail-rate")
        said = self._script(messages)
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or NO_LIMIT
        answer = said if isinstance(said, Answer) else worded_answer(said, messages, int(limit))
        if answer.status == "errored":
            return 400, _error(answer.error or "the script says so")
        return 200, completion(model, answer)

    def _within_rate(self) -> bool:
        rate = self.settings.rate_limit
        if rate is None:
            return True
        now = time.monotonic()
        self._bucket = min(max(1.0, rate), self._bucket + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._bucket < 1:
            return False
        self._bucket -= 1
        return True


def completion(model: str, answer: Answer) -> dict[str, Any]:
    """An Answer as a chat completion; ``usage`` is left out where the Answer has no tokens."""
    refused = answer.status == "refused"
    message: dict[str, Any] = {"role": "assistant", "content": None if refused else answer.text}
    if refused:
        message["refusal"] = answer.text
    reply: dict[str, Any] = {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish}],
    }
    if answer.tokens_in is not None and answer.tokens_out is not None:
        reply["usage"] = {
            "prompt_tokens": answer.tokens_in,
            "completion_tokens": answer.tokens_out,
            "total_tokens": answer.tokens_in + answer.tokens_out,
            "prompt_tokens_details": {"cached_tokens": answer.cached_in or 0},
        }
    return reply


def events(reply: Mapping[str, Any], usage: bool) -> tuple[str, str]:
    """A chat completion as server-sent events, those up to its first word and the others."""
    choice = reply["choices"][0]
    said = {name: choice["message"].get(name) or "" for name in ("content", "refusal")}
    name = "refusal" if said["refusal"] else "content"
    word, space, others = said[name].partition(" ")

    def event(delta: Mapping[str, Any], reason: str | None = None, **more: Any) -> str:
        body = {"object": "chat.completion.chunk", "model": reply["model"], **more}
        body.setdefault("choices", [{"index": 0, "delta": delta, "finish_reason": reason}])
        return f"data: {json.dumps(body)}\n\n"

    first = event({"role": "assistant", "content": ""}) + event({name: word})
    rest = event({name: space + others}) + event({}, choice["finish_reason"])
    if usage and "usage" in reply:
        rest += event({}, choices=[], usage=reply["usage"])
    return first, rest + "data: [DONE]\n\n"


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "mock_error", "code": None}}


class Connection(asyncio.Protocol):
    """One kept-open HTTP/1.1 connection; requests on it are answered one after the other."""

    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])
            }
            length = int(headers.get("content-length", "0"))
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            path = head[0].split(" ")[1].partition("?")[0]
            status, reply = self._server.reply(path, headers, body)
            if status == 200 and "choices" in reply and (asked := json.loads(body)).get("stream"):
                self._stream(reply, bool((asked.get("stream_options") or {}).get("include_usage")))
            else:
                self._answer(status, reply)

    def _stream(self, reply: dict[str, Any], usage: bool) -> None:
        """The reply as events: the first token after half of the latency, the rest after the whole of it."""
        first, rest = (part.encode("ascii") for part in events(reply, usage))
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        head += f"content-length: {len(first) + len(rest)}\r\n\r\n"
        later, latency_s = asyncio.get_running_loop().call_later, self._server.settings.latency_s
        later(latency_s / 2, self._send, head.encode("ascii") + first)
        later(latency_s, self._send, rest)

    def _answer(self, status: int, reply: dict[str, Any]) -> None:
        body = json.dumps(reply).encode("ascii")
        settings = self._server.settings
        asked_wait = f"retry-after: {settings.retry_after_s:g}\r\n" if settings.retry_after_s else ""
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\ncontent-type: application/json\r\n"
            f"{asked_wait if status == 429 else ''}content-length: {len(body)}\r\n\r\n"
        )
        if status == 200 and settings.latency_s > 0:
            asyncio.get_running_loop().call_later(settings.latency_s, self._send, head.encode() + body)
        else:
            self._send(head.encode() + body)

    def _send(self, reply: bytes) -> None:
        if self._transport is not None:
            self._transport.write(reply)


async def serve(server: MockServer, port: int, *, until_stdin_closes: bool = False) -> None:
    """Serve on 127.0.0.1 until cancelled; prints the port first."""
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    print(listener.sockets[0].getsockname()[1], flush=True)
    async with listener:
        if until_stdin_closes:
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            await reader.read()
        else:
            await listener.serve_forever()


@contextmanager
def running_mock(
    *, script: str | None = None, log: Path | None = None, latency_ms: float = 0, options: Sequence[str] = ()
) -> Iterator[str]:
    """A mock in a process of its own, for the time of a ``with``: gives its address, http://127.0.0.1:PORT.

    It ends when its caller ends, however that comes about. ``options``: further ones of the command line.
    """
    command = [sys.executable, "-m", "tunewise.models.mock_server", "--until-stdin-closes"]
    command += ["--latency-ms", f"{latency_ms:g}", *options]
    command += ["--script", script] if script else []
    command += ["--log", str(log)] if log else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the mock server ended at once with status {process.wait()}")
            yield f"http://127.0.0.1:{int(line)}"
        finally:
            process.terminate()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tunewise.models.mock_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one; it is printed")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--script", help="module:attr of a callable(messages) -> str | Answer; default: echo")
    parser.add_argument("--log", type=Path, help="file that gets one line per request")
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of requests answered with 500")
    parser.add_argument("--rate-limit", type=float, help="requests per second; 429 above it")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds in a 429's header; 0: none")
    parser.add_argument("--key", help="the bearer token to ask for")
    parser.add_argument("--model", help="the one model name to answer to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started it"
    )
    chosen = parser.parse_args(arguments)
    settings = MockSettings(
        latency_s=chosen.latency_ms / 1000,
        fail_rate=chosen.fail_rate,
        rate_limit=chosen.rate_limit,
        retry_after_s=chosen.retry_after,
        key=chosen.key,
        model=chosen.model,
        seed=chosen.seed,
    )
    log = os.open(chosen.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if chosen.log else None
    server = MockServer(load_script(chosen.script) if chosen.script else echo, settings, log)
    try:
        asyncio.run(serve(server, chosen.port, until_stdin_closes=chosen.until_stdin_closes))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
