"""A probe's calls ask an endpoint for a stream: the same answer, and when its first token was there."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tunewise.data import Message
from tunewise.errors import DoorError
from tunewise.evidence.probe import timed_answer
from tunewise.models.door import Answer, Decoding, Request
from tunewise.models.endpoint import EndpointDoor, Patience
from tunewise.models.mock_server import completion, events, running_mock
from tunewise.task import EndpointSpec, PriceSpec

REQUEST = Request((Message("user", "one two three"),), Decoding(8))
SAID = Answer("one two three", tokens_in=5, tokens_out=3, cached_in=2)
PRICE = PriceSpec(input=1, output=2)


def door_to(server: Callable[[httpx.Request], httpx.Response]) -> EndpointDoor:
    spec = EndpointSpec(name="m", endpoint="http://host.example/v1", usd_per_million=PRICE)
    patience = Patience(attempts=2, timeouts=2, first_s=0.0)
    transport = httpx.MockTransport(server)
    return EndpointDoor(spec, patience=patience, transport=transport, sleep=lambda seconds: None)


def streamed(text: str) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text=text)


def playing(*replies: httpx.Response) -> tuple[EndpointDoor, list[dict[str, Any]]]:
    """A door to a server that plays these replies, and the bodies it was sent."""
    left, bodies = list(replies), []

    def serve(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        reply = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    return door_to(serve), bodies


def test_a_stream_gives_the_answer_that_one_piece_gives_and_the_time_of_its_first_token():
    with running_mock(latency_ms=400) as url:
        door = EndpointDoor(EndpointSpec(name="m", endpoint=url, usd_per_million=PRICE))
        whole, (streaming, seconds) = door.answer([REQUEST])[0], timed_answer(door, REQUEST)
        door.close()
    assert whole.first_token_s is None
    assert streaming.first_token_s is not None
    assert 0.2 <= streaming.first_token_s < 0.4 <= seconds
    for name in ("text", "status", "finish", "tokens_in", "cached_in", "tokens_out", "usd"):
        assert getattr(streaming, name) == getattr(whole, name)


def test_a_refusal_and_comments_and_empty_events_are_read():
    first, rest = events(completion("m", Answer("I cannot", status="refused", finish="stop")), usage=True)
    door, _ = playing(streamed(": still there\n\n" + first + "event: x\ndata: no json\n\ndata: 1\n\n" + rest))
    answer = door.answer_timed(REQUEST)
    assert (answer.status, answer.text) == ("refused", "I cannot")
    assert answer.first_token_s is not None


def test_a_server_that_knows_no_stream_is_asked_as_ever():
    plain = httpx.Response(200, json=completion("m", SAID))
    for refusal in (httpx.Response(400, json={"error": {"message": "unknown field: stream_options"}}), plain):
        door, bodies = playing(refusal, plain)
        answers = [door.answer_timed(REQUEST) for _ in range(2)]
        assert [(a.text, a.first_token_s, a.tokens_out) for a in answers] == [(SAID.text, None, 3)] * 2
        assert bodies[0]["stream"]
        if refusal is not plain:
            assert [body.get("stream") for body in bodies] == [True, None, None]


def test_a_stream_without_counted_tokens_is_not_asked_for_again():
    door, bodies = playing(
        streamed("".join(events(completion("m", SAID), usage=False))),
        httpx.Response(200, json=completion("m", SAID)),
    )
    first, second = door.answer_timed(REQUEST), door.answer_timed(REQUEST)
    assert (first.text, first.tokens_out, first.usd) == (SAID.text, None, None)
    assert (second.tokens_out, second.usd is not None) == (3, True)
    assert [body.get("stream") for body in bodies] == [True, None]


def test_a_stream_that_breaks_off_is_sent_again_and_counted_as_unanswered():
    first, rest = events(completion("m", SAID), usage=True)
    door, _ = playing(streamed(first), streamed(first + rest))
    answer = door.answer_timed(REQUEST)
    assert (answer.text, answer.unanswered) == (SAID.text, 1)


def test_an_error_within_a_stream_is_an_error():
    door, _ = playing(streamed('data: {"error": {"message": "out of memory", "code": 400}}\n\n'))
    assert "out of memory" in (door.answer_timed(REQUEST).error or "")
    door, _ = playing(streamed('data: {"error": {"message": "bad key", "code": 401}}\n\n'))
    with pytest.raises(DoorError, match="the key was refused"):
        door.answer_timed(REQUEST)
