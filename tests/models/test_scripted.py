"""The scripted door: what it makes of a callable, and where it finds one."""

import math
from collections.abc import Sequence

import pytest

from tunewise.data import Message
from tunewise.errors import DoorError, SettingError
from tunewise.models.door import Answer, Decoding, Price, Request
from tunewise.models.scripted import ScriptedDoor, load_script


def upper(messages: Sequence[Message]) -> str:
    return messages[-1].content.upper()


def ask(door: ScriptedDoor, text: str, limit: int = 256) -> Answer:
    return door.answer([Request((Message("user", text),), Decoding(max_new_tokens=limit))])[0]


def test_a_string_becomes_an_answer_with_words_as_tokens() -> None:
    answer = ask(ScriptedDoor(upper, price=Price(1.0, 2.0), seconds=0.25), "three small words")
    assert answer == Answer("THREE SMALL WORDS", tokens_in=3, tokens_out=3, seconds=0.25, usd=9e-6)


def test_an_answer_passes_as_it_is() -> None:
    refusal = Answer("no", status="refused")
    assert ask(ScriptedDoor(lambda messages: refusal, price=Price(1.0, 1.0)), "q") == refusal


def test_the_token_limit_cuts_and_says_so() -> None:
    answer = ask(ScriptedDoor(upper), "one  two\nthree", limit=2)
    assert (answer.text, answer.finish, answer.tokens_out) == ("ONE  TWO", "length", 2)


def test_a_callable_is_found_by_its_place_and_fingerprinted_by_it() -> None:
    assert load_script("math:sqrt") is math.sqrt
    place = "tunewise.models.mock_server:echo"
    assert ScriptedDoor(place).fingerprint == ScriptedDoor(load_script(place)).fingerprint
    assert ScriptedDoor(place).fingerprint != ScriptedDoor(upper).fingerprint


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("no_colon", "module:attr"),
        ("no_such_module_here:f", "no_such_module_here"),
        ("math:no_such_function", "no_such_function"),
        ("math:pi", "callable"),
    ],
)
def test_a_script_that_is_not_there_is_a_users_mistake(place: str, names: str) -> None:
    with pytest.raises(SettingError, match=names):
        ScriptedDoor(place)


def test_a_script_that_says_something_else_breaks_the_door() -> None:
    with pytest.raises(DoorError, match="dict"):
        ask(ScriptedDoor(lambda messages: {}), "q")  # type: ignore[arg-type,return-value]


def test_what_a_script_raises_is_told_with_its_place() -> None:
    def broken(messages: Sequence[Message]) -> str:
        raise KeyError("price list")

    with pytest.raises(DoorError, match=r"KeyError: 'price list' \(.*test_scripted\.py:\d+\)"):
        ask(ScriptedDoor(broken), "q")
