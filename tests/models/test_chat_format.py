"""The chat-completions format, against the shapes that OpenAI, vLLM, Mistral and OpenRouter publish."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tunewise.data import Message
from tunewise.errors import DoorError, SettingError
from tunewise.models.chat_format import (
    Dialect,
    chat_body,
    completions_url,
    error_in,
    is_filtered,
    read_answer,
    read_usage,
    retry_after_s,
)
from tunewise.models.door import Answer, Decoding, Price, Request


@pytest.mark.parametrize(
    ("given", "posted_to"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://Host.Example/v1beta/openai/", "https://host.example/v1beta/openai/chat/completions"),
        ("https://api.perplexity.ai/chat/completions", "https://api.perplexity.ai/chat/completions"),
        (
            "https://x.example/openai/v1?api-version=1",
            "https://x.example/openai/v1/chat/completions?api-version=1",
        ),
        ("https://x.example/vault", "https://x.example/vault/v1/chat/completions"),
    ],
)
def test_an_address_with_or_without_its_version_is_one_address(given: str, posted_to: str) -> None:
    assert completions_url(given) == posted_to


@pytest.mark.parametrize("given", ["ftp://host/v1", "host:8000", "http://", "http://host:eighty"])
def test_what_is_no_http_address_is_a_users_mistake(given: str) -> None:
    with pytest.raises(SettingError, match="endpoint"):
        completions_url(given)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingError, match="environment") as caught:
        completions_url("https://user:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)


def test_a_seed_is_sent_only_where_something_is_drawn() -> None:
    turns = (Message("system", "S"), Message("user", "Q"))
    greedy = chat_body("m", Request(turns, Decoding(max_new_tokens=5, seed=3)), Dialect())
    assert greedy == {
        "model": "m",
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
        "temperature": 0.0,
        "max_tokens": 5,
    }
    newer = Dialect("max_completion_tokens", takes_temperature=False)
    drawn = chat_body("m", Request(turns, Decoding(temperature=0.7, seed=3)), newer)
    assert drawn["seed"] == 3
    assert drawn["max_completion_tokens"] == 256
    assert "temperature" not in drawn


def read(
    message: dict[str, Any], finish: str | None = "stop", price: Price | None = None, **more: Any
) -> Answer:
    body = {"choices": [{"message": message, "finish_reason": finish}], **more}
    return read_answer(body, price=price, seconds=1.5, where="http://host")


def test_the_price_of_a_call_charges_cached_tokens_at_their_own_rate() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 800}}
    answer = read({"content": "a"}, price=Price(2.0, 10.0, cached_input=0.5), usage=usage)
    assert (answer.tokens_in, answer.cached_in, answer.tokens_out) == (1000, 800, 50)
    # 200 x 2 + 800 x 0.5 + 50 x 10 = 1,300 USD per million
    assert answer.usd == pytest.approx(0.0013)
    assert read({"content": "a"}, usage=usage).usd is None


def test_what_the_server_does_not_count_is_not_known_and_has_no_price() -> None:
    answer = read({"content": "a"}, price=Price(2.0, 10.0))
    assert (answer.tokens_in, answer.cached_in, answer.tokens_out, answer.usd) == (None, None, None, None)
    assert read_usage({"prompt_tokens": True, "completion_tokens": "7"}) == (None, None, None)
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None}) == (
        5,
        None,
        7,
    )
    impossible = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 6}}
    assert read_usage(impossible) == (5, None, 7)


def test_refusals_and_content_filters_are_refused() -> None:
    refusal = read({"content": None, "refusal": "I cannot help with that."})
    assert (refusal.status, refusal.text) == ("refused", "I cannot help with that.")
    assert read({"content": ""}, finish="content_filter").status == "refused"
    assert read({"content": "fine", "refusal": None}).status == "ok"


def test_the_finish_is_told_apart() -> None:
    assert read({"content": "a"}).finish == "stop"
    assert read({"content": "a"}, finish="length").finish == "length"
    assert read({"content": "a"}, finish="tool_calls").finish == "other"
    assert read({"content": "a"}, finish=None).finish == "other"


def test_a_reasoning_model_that_used_its_tokens_up_said_nothing() -> None:
    assert read({"content": None}, finish="length").text == ""
    assert read({"role": "assistant"}, finish="length").text == ""


def test_content_in_parts_is_joined() -> None:
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "4"},
        {"type": "text", "text": "2"},
    ]
    assert read({"content": parts}).text == "42"


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {},
        {"choices": []},
        {"choices": ["a"]},
        {"choices": [{"text": "an old completion"}]},
        {"choices": [{"message": {"role": "assistant"}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]},
    ],
)
def test_another_shape_is_the_doors_failure_and_shows_what_came(body: object) -> None:
    with pytest.raises(DoorError, match=r"http://host.*it says"):
        read_answer(body, price=None, seconds=0.0, where="http://host")


def test_errors_are_read_from_the_shapes_that_hosts_use() -> None:
    assert error_in({"error": {"message": "no", "type": "t", "code": "c"}}) == (None, "c", "no")
    assert error_in({"error": {"message": "busy", "code": 502}}) == (502, None, "busy")
    assert error_in({"error": "model not found"}) == (None, None, "model not found")
    assert error_in({"detail": "Server is pinned"}) == (None, None, "Server is pinned")
    assert error_in({"detail": [{"msg": "m"}]}) == (None, None, '[{"msg": "m"}]')
    assert error_in({"object": "error", "message": "long", "code": 400}) == (400, None, "long")
    assert error_in({"choices": []}) is None
    assert error_in("text") is None


def test_retry_after_is_a_number_or_a_date() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("7", now) == 7
    assert retry_after_s("0.5", now) == 0.5
    assert retry_after_s("Thu, 01 Jan 2026 12:00:20 GMT", now) == 20
    assert retry_after_s("Thu, 01 Jan 2026 11:00:00 GMT", now) == 0
    assert retry_after_s("soon", now) is None
    assert retry_after_s(None, now) is None


def test_reasoning_that_is_not_counted_as_answer_is_paid_as_answer() -> None:
    assert read_usage({"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 81}) == (21, None, 60)
    assert read_usage({"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 0}) == (21, None, 5)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\nIs it?\n</think>\n\nYes.", "Yes."),
        ("Is it? It is.</think>Yes.", "Yes."),
        ("<think>Is it", "<think>Is it"),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it."),
        ("Yes.", "Yes."),
    ],
)
def test_reasoning_before_an_answer_is_no_part_of_it(text: str, answer: str) -> None:
    assert read({"content": text}).text == answer


def test_an_error_of_another_kind_is_no_filter() -> None:
    assert not is_filtered({"error": {"code": 403, "message": "key", "metadata": {"provider": "x"}}})
    assert not is_filtered({"detail": "no"})
