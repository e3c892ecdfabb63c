"""The endpoint door against servers of every temper, played by httpx's own mock transport."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tunewise.data import Message
from tunewise.errors import DoorError, SettingError
from tunewise.models.door import Decoding, Request
from tunewise.models.endpoint import EndpointDoor, Patience
from tunewise.task import EndpointSpec, PriceSpec

Reply = httpx.Response | Exception
KEY = "sk-test-4711-secret"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNEWISE_API_KEY", "OPENAI_API_KEY", "HOUSE_KEY"):
        monkeypatch.delenv(name, raising=False)


def good(text: str = "fine") -> httpx.Response:
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def bad(status: int, message: str = "no", **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message}}, headers=headers)


class Server:
    """Plays one reply after the other (the last one for ever) and keeps what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.asked]


Opener = Callable[..., tuple[EndpointDoor, list[float]]]


@pytest.fixture
def open_to() -> Iterator[Opener]:
    """Opens a door to a played server; gives it with the list of waits that it made."""
    doors: list[EndpointDoor] = []

    def opener(
        server: Callable[[httpx.Request], httpx.Response], **spec: Any
    ) -> tuple[EndpointDoor, list[float]]:
        waits: list[float] = []
        spec.setdefault("endpoint", "http://host.example/v1")
        patience = spec.pop("patience", None)
        door = EndpointDoor(
            EndpointSpec(name="m", **spec),
            patience=patience,
            transport=httpx.MockTransport(server),
            sleep=waits.append,
        )
        doors.append(door)
        return door, waits

    yield opener
    for door in doors:
        door.close()


def question(text: str = "q", **decoding: Any) -> Request:
    return Request((Message("user", text),), Decoding(**decoding))


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_passing_troubles_are_tried_again(status: int, open_to: Opener) -> None:
    server = Server(bad(status), bad(status), good())
    door, waits = open_to(server)
    assert door.answer([question()])[0].text == "fine"
    assert len(server.asked) == 3
    assert len(waits) == 2


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("cut")]
)
def test_a_broken_connection_is_tried_again(error: Exception, open_to: Opener) -> None:
    door, _ = open_to(Server(error, good()))
    assert door.answer([question()])[0].text == "fine"


def test_waits_grow_with_jitter_and_stay_bounded(open_to: Opener) -> None:
    door, waits = open_to(Server(good(), bad(500)))
    assert [a.status for a in door.answer([question("a"), question("b")])] == ["ok", "errored"]
    assert len(waits) == 7
    for number, waited in enumerate(waits):
        assert 0 <= waited - min(30.0, 0.5 * 2**number) <= 0.5
    assert len(set(waits)) == len(waits)


def test_retry_after_is_honoured(open_to: Opener) -> None:
    door, waits = open_to(Server(bad(503, **{"retry-after": "11"}), good()))
    assert door.answer([question()])[0].text == "fine"
    assert waits == [11.0]


def test_a_host_that_asks_for_an_hour_is_not_waited_for(open_to: Opener) -> None:
    server = Server(bad(503, "maintenance", **{"retry-after": "3600"}))
    door, waits = open_to(server)
    with pytest.raises(DoorError, match="maintenance"):
        door.answer([question()])
    assert waits == []


def test_too_many_requests_are_waited_out_by_time_not_by_attempts(open_to: Opener) -> None:
    server = Server(*[bad(429)] * 10, good())
    door, waits = open_to(server)
    assert door.answer([question()])[0].text == "fine"
    assert len(waits) == 10
    door, waits = open_to(Server(bad(429, "slow down")))
    with pytest.raises(DoorError, match="slow down"):
        door.answer([question()])
    assert sum(waits) <= 300


def test_no_endpoint_at_the_address_stops_soon_and_says_how_to_go_on(open_to: Opener) -> None:
    server = Server(httpx.ConnectError("[Errno 111] Connection refused"))
    door, waits = open_to(server)
    with pytest.raises(DoorError, match=r"http://host.example/v1/chat/completions: cannot be reached"):
        door.answer([question()])
    assert len(server.asked) == 4
    assert sum(waits) < 6


def test_an_endpoint_that_answered_before_gets_more_patience(open_to: Opener) -> None:
    server = Server(good(), httpx.ConnectError("refused"))
    door, _ = open_to(server)
    door.answer([question()])
    with pytest.raises(DoorError, match="the same command again"):
        door.answer([question("second")])
    assert len(server.asked) == 1 + 8


def test_a_timeout_that_stays_is_this_requests_failure(open_to: Opener) -> None:
    server = Server(good(), httpx.ReadTimeout("slow"))
    door, _ = open_to(server, timeout_s=7)
    _, answer = door.answer([question("a"), question("b")])
    assert (answer.status, answer.error) == ("errored", "no answer within 7 s (model.timeout_s)")
    assert len(server.asked) == 1 + 3
    assert answer.unanswered == door.lost_replies == 2


@pytest.mark.parametrize(
    ("failure", "asked", "says"),
    [
        (httpx.ReadTimeout("slow"), 2, r"no answer within 7 s \(model\.timeout_s\)"),
        (httpx.ReadError("cut"), 4, "the connection broke"),
        (bad(500), 2 * 4, "the last 2 requests failed"),
        (httpx.Response(200, json={"error": {"message": "loading"}}), 2 * 4, "loading"),
    ],
)
def test_a_door_that_never_answered_is_given_up_soon(
    failure: Any, asked: int, says: str, open_to: Opener
) -> None:
    server = Server(failure)
    door, waits = open_to(server, timeout_s=7)
    with pytest.raises(DoorError, match=says):
        door.answer([question(str(n)) for n in range(16)])
    assert len(server.asked) == asked
    assert sum(waits) < 10


def test_requests_that_were_turned_down_at_first_do_not_end_the_door(open_to: Opener) -> None:
    door, _ = open_to(Server(*[bad(400)] * 5, good()))
    statuses = [answer.status for answer in door.answer([question(str(n)) for n in range(6)])]
    assert statuses == ["errored"] * 5 + ["ok"]
    alive, _ = open_to(Server(bad(400), *[bad(500)] * 8, good()))
    assert [a.status for a in alive.answer([question(str(n)) for n in range(3)])] == [
        "errored",
        "errored",
        "ok",
    ]


def test_a_priced_door_that_breaks_off_says_what_it_may_charge_for(open_to: Opener) -> None:
    prices = PriceSpec(input=1.0, output=2.0)
    door, _ = open_to(Server(httpx.ReadTimeout("slow")), usd_per_million=prices)
    assert door.answer([question("a")])[0].unanswered == 1
    with pytest.raises(DoorError, match="the last 2 requests failed") as ended:
        door.answer([question("b")])
    assert ended.value.unanswered == 2  # both attempts: no answer stands for the second one's cost


def test_what_was_turned_down_costs_nothing_and_what_broke_off_is_not_known(open_to: Opener) -> None:
    prices = PriceSpec(input=1.0, output=2.0)
    door, _ = open_to(Server(good(), bad(400), httpx.ReadTimeout("slow")), usd_per_million=prices)
    _, rejected, lost = door.answer([question(name) for name in "abc"])
    assert (rejected.usd, rejected.unanswered) == (0.0, 0)
    assert (lost.usd, lost.unanswered) == (None, 2)


def test_what_is_waited_for_is_told_and_not_for_every_attempt(open_to: Opener) -> None:
    told: list[str] = []
    door, _ = open_to(Server(bad(503), bad(503), bad(503), good()))
    door.tell = lambda text: told.append(text)
    assert door.answer([question()])[0].text == "fine"
    [line] = told
    assert re.match(r"http://host\.example/v1/chat/completions: HTTP 503.*; attempt 2 of 8 in \d s$", line)


def test_too_many_requests_for_too_long_say_what_to_lower(open_to: Opener) -> None:
    door, waits = open_to(Server(bad(429)), concurrency=5)
    with pytest.raises(DoorError, match=r"429.*too many requests: lower model\.concurrency, now 5"):
        door.answer([question()])
    assert 200 < sum(waits) <= 300


def test_who_gives_up_waits_for_no_further_attempt() -> None:
    server = Server(good(), bad(503))
    spec = EndpointSpec(name="m", endpoint="http://host.example/v1")
    door = EndpointDoor(
        spec, transport=httpx.MockTransport(server), patience=Patience(first_s=60, longest_s=90)
    )
    door.answer([question("a")])
    threading.Timer(0.2, door.give_up).start()
    [answer] = door.answer([question("b")])
    assert (answer.status, answer.error) == (
        "errored",
        "given up while it waited for its turn or for another attempt",
    )
    assert len(server.asked) == 2  # nothing is sent again
    door.close()


def test_attempts_that_were_sent_and_never_answered_are_told(open_to: Opener) -> None:
    prices = PriceSpec(input=1.0, output=2.0)
    server = Server(httpx.ReadTimeout("slow"), bad(503), httpx.ReadError("cut"), good())
    door, _ = open_to(server)
    assert door.answer([question()])[0].unanswered == 2  # a 503 is a reply
    priced, _ = open_to(Server(httpx.ReadError("cut")), usd_per_million=prices)
    assert priced.answer([question()])[0].unanswered == priced.lost_replies == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (bad(401), "key was refused"),
        (bad(403, "region"), "key was refused .*region"),
        (bad(404, "no model m"), "no model m.*Check the address and the model name 'm'"),
        (bad(402, "pay"), "no credit"),
        (httpx.Response(429, json={"error": {"message": "x", "code": "insufficient_quota"}}), "no credit"),
        (
            httpx.Response(307, headers={"location": "https://other.example/v1?key=1"}),
            "https://other.example/v1'",
        ),
        (httpx.Response(200, html="<html>Welcome</html>"), "text/html.*Welcome"),
        (httpx.Response(200, json={"answer": "x"}), "no `choices`"),
    ],
)
def test_a_fault_of_the_whole_door_raises_at_once(reply: httpx.Response, says: str, open_to: Opener) -> None:
    server = Server(reply)
    door, waits = open_to(server)
    with pytest.raises(DoorError, match=says):
        door.answer([question()])
    assert (len(server.asked), waits) == (1, [])


def test_a_rejected_request_is_errored_with_the_servers_words_shortened(open_to: Opener) -> None:
    server = Server(bad(400, "too long " * 100), good())
    door, waits = open_to(server)
    first, second = door.answer([question("long"), question("short")])
    assert first.status == "errored"
    assert first.error is not None
    assert first.error.startswith("HTTP 400: too long")
    assert len(first.error) < 300
    assert (second.status, waits) == ("ok", [])


def test_an_error_inside_a_good_status_counts_by_its_code(open_to: Opener) -> None:
    routed = httpx.Response(200, json={"error": {"message": "upstream", "code": 502}})
    door, _ = open_to(Server(routed, good()))
    assert door.answer([question()])[0].text == "fine"


def test_eight_failures_in_a_row_are_the_doors_and_one_success_starts_anew(open_to: Opener) -> None:
    door, _ = open_to(Server(*[bad(400)] * 7, good(), *[bad(400, "context")] * 8))
    statuses = [door.answer([question(str(i))])[0].status for i in range(15)]
    assert statuses == ["errored"] * 7 + ["ok"] + ["errored"] * 7
    with pytest.raises(DoorError, match=r"last 8 requests failed.*context"):
        door.answer([question("last")])


def test_the_newer_name_of_the_token_limit_is_learned_once(open_to: Opener) -> None:
    wants = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server = Server(bad(400, wants), good(), good())
    door, _ = open_to(server)
    answers = door.answer([question("a", max_new_tokens=9), question("b", max_new_tokens=9)])
    assert [answer.status for answer in answers] == ["ok", "ok"]
    limits = [{k: v for k, v in body.items() if k.startswith("max_")} for body in server.bodies()]
    assert limits == [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}]


def header_of(open_to: Opener, **spec: Any) -> str | None:
    server = Server(good())
    door, _ = open_to(server, **spec)
    door.answer([question()])
    return server.asked[0].headers.get("authorization")


def test_the_key_comes_from_the_named_variable_then_ours_then_openais_own(
    monkeypatch: pytest.MonkeyPatch, open_to: Opener
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    assert header_of(open_to) is None
    assert header_of(open_to, endpoint="https://openai.com.evil.example/v1") is None
    assert header_of(open_to, endpoint="http://api.openai.com/v1") is None
    assert header_of(open_to, endpoint="https://api.openai.com/v1") == "Bearer openai"
    monkeypatch.setenv("TUNEWISE_API_KEY", "ours")
    assert header_of(open_to, endpoint="https://api.openai.com/v1") == "Bearer ours"
    monkeypatch.setenv("HOUSE_KEY", " house\n")
    assert header_of(open_to, api_key_env="HOUSE_KEY") == "Bearer house"


def test_a_named_variable_that_is_not_set_is_a_users_mistake(
    monkeypatch: pytest.MonkeyPatch, open_to: Opener
) -> None:
    monkeypatch.setenv("TUNEWISE_API_KEY", "ours")
    with pytest.raises(SettingError, match="HOUSE_KEY"):
        open_to(Server(good()), api_key_env="HOUSE_KEY")


@pytest.mark.parametrize("value", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_carries_is_refused_unseen(
    value: str, monkeypatch: pytest.MonkeyPatch, open_to: Opener
) -> None:
    monkeypatch.setenv("TUNEWISE_API_KEY", value)
    with pytest.raises(SettingError, match="TUNEWISE_API_KEY") as caught:
        open_to(Server(good()))
    assert value not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 402, 429, 500, 503])
def test_the_key_is_in_no_message_even_when_the_server_repeats_it(
    status: int, monkeypatch: pytest.MonkeyPatch, open_to: Opener
) -> None:
    monkeypatch.setenv("TUNEWISE_API_KEY", KEY)
    door, _ = open_to(Server(bad(status, f"bad key {KEY}, that is sk-te**********ret")))
    try:
        said = str(door.answer([question()])[0])
    except DoorError as error:
        said = f"{error} {error!r} {error.__cause__}"
    assert not re.search(r"4711|sk-te", said)
    assert KEY not in repr(door) + door.name + door.fingerprint + str(door.host)
    assert KEY not in str(vars(door))


def test_the_fingerprint_follows_the_address_and_the_model_only(
    monkeypatch: pytest.MonkeyPatch, open_to: Opener
) -> None:
    base = open_to(Server(good()))[0].fingerprint
    assert open_to(Server(good()), endpoint="http://host.example/")[0].fingerprint == base
    monkeypatch.setenv("TUNEWISE_API_KEY", KEY)
    prices = {"input": 1.0, "output": 2.0}
    assert open_to(Server(good()), usd_per_million=prices, concurrency=2)[0].fingerprint == base
    assert open_to(Server(good()), endpoint="http://other.example/")[0].fingerprint != base


def test_price_host_and_limits_follow_the_task(open_to: Opener) -> None:
    door, _ = open_to(
        Server(good()), endpoint="https://h.example:8443/v1", usd_per_million={"input": 2, "output": 4}
    )
    assert door.answer([question()])[0].usd == pytest.approx((3 * 2 + 1 * 4) / 1e6)
    assert (door.host, door.batch_size, door.concurrency) == ("h.example:8443", 1, 8)
    assert door.count_tokens([Message("user", "q")]) is None
    assert door.context_window is None


def test_429s_lower_the_number_of_requests_under_way(open_to: Opener) -> None:
    replies = Server(*[bad(429)] * 2, good())
    door, _ = open_to(replies, concurrency=8, patience=Patience(first_s=0.01))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: door.answer([question(str(i))])[0].text, range(4)))
    assert answers == ["fine"] * 4
    assert door._limit.limit < 8


def test_a_host_that_takes_no_temperature_is_asked_without_and_that_is_told_once(open_to: Opener) -> None:
    asked: list[dict[str, Any]] = []

    def newer(request: httpx.Request) -> httpx.Response:
        asked.append(body := json.loads(request.content))
        if "max_tokens" in body:
            return bad(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return bad(400, "Unsupported value: 'temperature' does not support 0 with this model.")
        return good()

    told: list[str] = []
    door, _ = open_to(newer)
    door.tell = lambda text: told.append(text)
    assert [answer.text for answer in door.answer([question("a"), question("b")])] == ["fine", "fine"]
    assert len(asked) == 3 + 1
    [line] = told
    assert "takes no temperature, so answers are drawn" in line


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(400, json={"error": {"code": "content_filter", "message": "filtered"}}),
        httpx.Response(
            403, json={"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"]}}}
        ),
    ],
)
def test_what_a_content_filter_turns_down_is_refused_and_ends_nothing(reply: Any, open_to: Opener) -> None:
    door, _ = open_to(Server(good(), reply, reply, good()), usd_per_million=PriceSpec(input=1.0, output=2.0))
    answers = door.answer([question(name) for name in "abcd"])
    assert [answer.status for answer in answers] == ["ok", "refused", "refused", "ok"]
    assert answers[1].usd == 0.0


def test_an_answer_that_the_host_ended_with_an_error_is_tried_again(open_to: Opener) -> None:
    choice = {"message": {"content": "half an ans"}, "finish_reason": "error", "error": {"message": "gone"}}
    door, _ = open_to(Server(httpx.Response(200, json={"choices": [choice]}), good()))
    assert door.answer([question()])[0].text == "fine"


def test_requests_that_wait_for_their_turn_end_when_the_door_is_given_up() -> None:
    server = Server(good(), bad(429, **{"retry-after": "3600"}))
    spec = EndpointSpec(name="m", endpoint="http://host.example/v1", concurrency=4)
    door = EndpointDoor(spec, transport=httpx.MockTransport(server))
    door.answer([question("first")])
    with pytest.raises(DoorError, match="429"):
        door.answer([question("a")])
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(door.answer, [question(name)]) for name in "bc"]
        door.give_up()
        assert [f.result(timeout=5)[0].status for f in waiting] == ["errored"] * 2
    door.close()


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(SettingError, match="the proxy that the environment names"):
        EndpointDoor(EndpointSpec(name="m", endpoint="https://host.example/v1"))
