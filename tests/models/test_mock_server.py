"""The mock keeps what it promises, seen over a real socket with a plain client."""

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from tunewise.data import Message
from tunewise.models.door import Answer
from tunewise.models.mock_server import MockServer, MockSettings, echo, request_hash, running_mock


def body(text: str, model: str = "m") -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


def post(url: str, text: str, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    request = urllib.request.Request(f"{url}/v1/chat/completions", body(text), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply), dict(reply.headers)
    except urllib.error.HTTPError as reply:
        with reply:
            return reply.code, json.load(reply), dict(reply.headers)


def test_it_answers_and_logs_each_request_with_its_hash(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_mock(log=log) as url:
        assert url.startswith("http://127.0.0.1:")
        for text in ("one", "two", "one"):
            status, reply, _ = post(url, text)
            assert (status, reply["choices"][0]["message"]["content"]) == (200, text)
            assert reply["usage"]["prompt_tokens"] == 1
        with urllib.request.urlopen(f"{url}/health", timeout=10) as health:
            assert health.status == 200
    seen = Counter(log.read_text().splitlines())
    one, two = (request_hash("m", [Message("user", text)]) for text in ("one", "two"))
    assert seen == {f"{one} 200": 2, f"{two} 200": 1}


def test_many_are_under_way_at_once() -> None:
    with running_mock(latency_ms=300) as url, ThreadPoolExecutor(32) as pool:
        began = perf_counter()
        statuses = list(pool.map(lambda i: post(url, str(i))[0], range(32)))
        assert perf_counter() - began < 4
    assert statuses == [200] * 32


def test_limits_failures_and_keys_are_played() -> None:
    with running_mock(options=["--rate-limit", "2", "--retry-after", "3"]) as url:
        replies = [post(url, str(i)) for i in range(6)]
    throttled = [headers for status, _, headers in replies if status == 429]
    assert throttled
    assert throttled[0]["retry-after"] == "3"
    with running_mock(options=["--fail-rate", "1", "--key", "right"]) as url:
        assert post(url, "q", Authorization="Bearer wrong")[0] == 401
        assert post(url, "q", Authorization="Bearer right")[0] == 500


def reply(script: Any, **settings: Any) -> tuple[int, dict[str, Any]]:
    return MockServer(script, MockSettings(**settings)).reply("/chat/completions", {}, body("two words"))


def refusing(messages: Sequence[Message]) -> Answer:
    return Answer("I would rather not", status="refused")


def test_a_script_decides_what_is_said() -> None:
    status, said = reply(refusing)
    assert (status, said["choices"][0]["message"]["refusal"]) == (200, "I would rather not")
    assert "usage" not in said
    status, said = reply(lambda messages: Answer("", status="errored", error="too long"))
    assert (status, said["error"]["message"]) == (400, "too long")


def test_what_is_no_request_is_told_so() -> None:
    server = MockServer(echo, MockSettings(model="m"))
    assert server.reply("/v1/chat/completions", {}, b"{")[0] == 400
    assert server.reply("/v1/chat/completions", {}, b'{"model": "m"}')[0] == 400
    assert server.reply("/v1/chat/completions", {}, body("q", model="other"))[0] == 404
    assert server.reply("/v1/embeddings", {}, b"{}")[0] == 404


def test_the_hash_tells_models_roles_and_contents_apart() -> None:
    turns = [Message("system", "a"), Message("user", "b")]
    same = request_hash("m", tuple(turns))
    assert request_hash("m", turns) == same
    assert len(same) == 64
    others = [("n", turns), ("m", turns[:1]), ("m", [Message("user", "a"), Message("user", "b")])]
    assert same not in {request_hash(model, messages) for model, messages in others}


def test_a_script_that_cannot_be_loaded_ends_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="ended at once"), running_mock(script="no_such_module_here:f"):
        pass
    assert "no_such_module_here" in capfd.readouterr().err
