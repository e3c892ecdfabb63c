"""What every door promises, tested once for every implementation.

A new door adds an opener to OPENERS; it gets pytest's request fixture, and may skip or add finalizers.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tunewise.data import Message
from tunewise.models.door import Answer, Decoding, Door, Price, Request
from tunewise.models.mock_server import echo, running_mock
from tunewise.models.scripted import ScriptedDoor

Opener = Callable[[ExitStack, pytest.FixtureRequest], Door]


def scripted(stack: ExitStack, request: pytest.FixtureRequest) -> Door:
    return ScriptedDoor(echo, price=Price(1.0, 2.0), concurrency=4, batch_size=3)


def endpoint(stack: ExitStack, request: pytest.FixtureRequest) -> Door:
    from tunewise.models.endpoint import EndpointDoor
    from tunewise.task import EndpointSpec, PriceSpec

    url = stack.enter_context(running_mock(latency_ms=5))
    price = PriceSpec(input=1.0, output=2.0)
    return EndpointDoor(EndpointSpec(endpoint=url, name="mock", usd_per_million=price, concurrency=4))


def local(stack: ExitStack, request: pytest.FixtureRequest) -> Door:
    """The local door, opened by a fixture ``tiny_local_door`` (conftest), where torch is there."""
    pytest.importorskip("torch", reason="local weights need the extra `local`", exc_type=ImportError)
    try:
        opened: Door = request.getfixturevalue("tiny_local_door")
    except pytest.FixtureLookupError:
        pytest.skip("no fixture tiny_local_door")
    return opened


OPENERS: tuple[Opener, ...] = (scripted, endpoint, local)


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__, scope="module")
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def door(opener: Opener, request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    with ExitStack() as stack:
        opened = opener(stack, request)
        stack.callback(opened.close)
        yield opened


def asked(count: int, limit: int = 6) -> list[Request]:
    decoding = Decoding(max_new_tokens=limit)
    return [Request((Message("user", f"Say number {i}, please."),), decoding) for i in range(count)]


def texts(answers: list[Answer]) -> list[str]:
    return [answer.text for answer in answers]


def test_it_has_the_shape_of_a_door(door: Door) -> None:
    assert isinstance(door, Door)
    assert door.name
    assert door.batch_size >= 1
    assert door.concurrency >= 1


def test_one_answer_per_request_in_order(door: Door) -> None:
    requests = asked(door.batch_size + 1)[: door.batch_size]
    together = door.answer(requests)
    assert len(together) == len(requests)
    assert texts(together) == [door.answer([request])[0].text for request in requests]
    assert door.answer([]) == []


def test_answers_are_whole_and_unknown_is_none(door: Door) -> None:
    for answer in door.answer(asked(1)):
        assert answer.status == "ok"
        assert answer.error is None
        assert answer.seconds >= 0
        assert answer.tokens_out is None or 0 <= answer.tokens_out <= 6
        assert answer.cached_in is None or answer.tokens_in is None or answer.cached_in <= answer.tokens_in
        assert door.price is not None or answer.usd is None or answer.usd >= 0
        if door.price and answer.tokens_in is not None and answer.tokens_out is not None:
            expected = door.price.of(answer.tokens_in, answer.tokens_out, answer.cached_in or 0)
            assert answer.usd == pytest.approx(expected)


def test_the_token_limit_holds_and_is_reported(door: Door) -> None:
    request = Request((Message("user", "a b c d e f g h"),), Decoding(max_new_tokens=2))
    answer = door.answer([request])[0]
    assert answer.tokens_out is None or answer.tokens_out <= 2
    assert answer.finish in ("length", "stop")


def test_greedy_answers_repeat(door: Door) -> None:
    requests = asked(2)
    assert [door.answer([r])[0].text for r in requests] == [door.answer([r])[0].text for r in requests]


def test_it_may_be_called_from_as_many_threads_as_it_says(door: Door) -> None:
    requests = asked(2 * door.concurrency)
    alone = [door.answer([request])[0].text for request in requests]
    with ThreadPoolExecutor(door.concurrency) as pool:
        assert [a[0].text for a in pool.map(lambda r: door.answer([r]), requests)] == alone


def test_the_fingerprint_stays_and_keys_differ_by_request(door: Door) -> None:
    fingerprint = door.fingerprint
    door.answer(asked(1))
    assert door.fingerprint == fingerprint
    assert len({request.key(fingerprint) for request in asked(3)}) == 3


def test_tokens_are_counted_or_said_to_be_unknown(door: Door) -> None:
    short = door.count_tokens([Message("user", "one")])
    long = door.count_tokens([Message("user", "one two three four five six")])
    assert (short is None) == (long is None)
    assert short is None or long is None or 0 < short < long


def test_closing_twice_does_no_harm(door: Door) -> None:
    before = door.fingerprint
    door.close()
    door.close()
    assert door.fingerprint == before
