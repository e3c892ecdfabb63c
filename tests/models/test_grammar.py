"""Answers are held to a grammar by both generation loops, row by row, and only where it is asked for."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from tunewise.data import Message
from tunewise.errors import SettingError
from tunewise.forms.json_schema import JsonSchema
from tunewise.models.chat_format import Dialect, chat_body
from tunewise.models.door import Decoding, Grammar, Request
from tunewise.models.grammar import compiled
from tunewise.models.local import LocalDoor
from tunewise.models.plain_generation import PlainGenerator
from tunewise.store_rows import request_json, request_of

SCHEMA = {
    "type": "object",
    "properties": {"b": {"enum": ["on", "off"]}, "a": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["b", "a"],
    "additionalProperties": False,
}
JSON = Grammar("json_schema", json.dumps(SCHEMA), (", ", ": "))
CHOICES = Grammar("choices", json.dumps(["a.b", "c (d)", "é"]))
PATTERN = Grammar("regex", "[A-Z]{2}-[0-9]{4}")
TEXTS = ["the cat", "the cat sat on a mat", "0 1 2", "noon"]


def requests(grammar: Grammar | None, temperature: float = 0.0) -> list[Request]:
    decoding = Decoding(40, temperature, seed=7)
    return [Request((Message("user", text),), decoding, grammar=grammar) for text in TEXTS]


@pytest.fixture(scope="module")
def door(tiny_folder) -> LocalDoor:
    return LocalDoor(tiny_folder)


@pytest.fixture(params=["shared prefix", "transformers"])
def either_loop(request, door, make_model, monkeypatch):
    if request.param == "transformers":
        held = door._load()
        monkeypatch.setattr(held, "generator", PlainGenerator(make_model(), held.generator.stops))
    return door


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_random_model_writes_what_the_schema_asks_in_its_order(either_loop, temperature):
    for answer in either_loop.answer(requests(JSON, temperature)):
        value = json.loads(answer.text)
        assert answer.finish == "stop"
        assert JsonSchema(SCHEMA).meets(value)
        assert answer.text == json.dumps(value)
        assert list(value) == ["b", "a"]


def test_choices_and_patterns_hold_to_the_letter(either_loop):
    assert {a.text for a in either_loop.answer(requests(CHOICES))} <= {"a.b", "c (d)", "é"}
    for answer in either_loop.answer(requests(PATTERN, 1.0)):
        assert len(answer.text) == 7
        assert answer.text[2] == "-"


@pytest.mark.parametrize("grammar", [JSON, CHOICES, PATTERN])
def test_asking_for_one_token_says_what_asking_for_all_says(door, grammar):
    width = len(door.tokenizer)
    tokens, starts = door._grammar_tokens(), []
    for answer in door.answer(requests(grammar)):
        ids = door.tokenizer(answer.text, add_special_tokens=False).input_ids
        starts += [ids[:end] for end in range(len(ids) + 1)]
    for start in starts:
        mask = tokens.limit(grammar).allowed(start, width)
        one_by_one = tokens.limit(grammar)
        assert [one_by_one.allows(start, token) for token in range(width)] == mask.tolist()


def test_greedy_answers_are_those_of_masking_every_step(door, monkeypatch):
    quick = [answer.text for answer in door.answer(requests(JSON))]
    monkeypatch.setattr("tunewise.models.grammar._Matcher.allows", lambda *_: False)
    assert [answer.text for answer in door.answer(requests(JSON))] == quick


def test_rows_without_a_grammar_are_answered_as_before_beside_others(door):
    alone = [a.text for a in door.answer(requests(None))]
    mixed = [r for pair in zip(requests(None), requests(JSON), strict=True) for r in pair]
    assert [a.text for a in door.answer(mixed)][::2] == alone


def test_the_grammar_is_part_of_a_requests_identity_and_of_its_row():
    (bare, *_), (held, *_) = requests(None), requests(JSON)
    assert bare.key("f") != held.key("f") != requests(PATTERN)[0].key("f")
    assert request_of(request_json(held)) == held
    assert "grammar" not in request_json(bare)


def test_an_endpoint_is_sent_the_schema_with_its_order():
    body = chat_body("m", requests(JSON)[0], Dialect())
    sent = body["response_format"]["json_schema"]
    assert list(sent["schema"]["properties"]) == ["b", "a"]
    assert body["response_format"]["type"] == "json_schema"
    assert "response_format" not in chat_body("m", requests(None)[0], Dialect())


def test_what_no_grammar_enforces_is_said_and_what_none_can_be_made_of_is_refused():
    unique = Grammar("json_schema", json.dumps({"type": "array", "uniqueItems": True}))
    assert compiled(unique)[1] == ('Unimplemented keys: ["uniqueItems"]',)
    with pytest.raises(SettingError, match="no grammar can be made of it"):
        compiled(Grammar("regex", "a(?=b)"))
