"""Prompts and answers as ids: markers once, the stop token at the end, for training as for answering."""

import pytest

pytest.importorskip("transformers")

from types import SimpleNamespace

from tunewise.data import Message
from tunewise.errors import SettingError
from tunewise.models.tokens import render, spoken, stop_id, stop_ids

CHAT = (Message("system", "0 1 2"), Message("user", "the cat"))
WITH_BOS = (
    "<s>{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{% else %}"
    "[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn here') }}"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}"
    "{% endfor %}"
)


def test_a_prompt_is_the_template_s_text_up_to_the_answer(make_tokenizer):
    tokenizer = make_tokenizer()
    prompt, answer = render(tokenizer, CHAT)
    assert tokenizer.decode(prompt) == (
        "<|im_start|>system\n0 1 2<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer == []


def test_an_answer_ends_with_the_stop_token(make_tokenizer):
    tokenizer = make_tokenizer()
    prompt, answer = render(tokenizer, CHAT, 'sat on {"a": "mat"}')
    assert prompt == render(tokenizer, CHAT)[0]
    assert answer[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.decode(answer[:-1]) == 'sat on {"a": "mat"}'


def test_prompt_and_answer_together_are_what_the_template_writes(make_tokenizer):
    tokenizer = make_tokenizer()
    prompt, answer = render(tokenizer, CHAT, "sat on a mat")
    turns = [{"role": m.role, "content": m.content} for m in (*CHAT, Message("assistant", "sat on a mat"))]
    whole = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)[
        "input_ids"
    ]
    assert whole[: len(prompt) + len(answer)] == prompt + answer


def test_the_first_marker_is_not_doubled(make_tokenizer):
    tokenizer = make_tokenizer(WITH_BOS, "</s>")
    tokenizer.bos_token = "<s>"
    tokenizer.add_bos_token = True
    prompt, _ = render(tokenizer, CHAT)
    assert prompt.count(tokenizer.bos_token_id) == 1


def test_an_answer_that_would_melt_into_the_prompt_is_read_on_its_own(make_tokenizer):
    tokenizer = make_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}", "</s>")
    prompt, answer = render(tokenizer, (Message("user", "th"),), "e cat")
    assert prompt == tokenizer("th")["input_ids"]
    assert answer[:-1] == tokenizer("e cat")["input_ids"]


def test_the_stop_token_is_the_one_the_template_writes_after_an_answer(make_tokenizer):
    tokenizer = make_tokenizer(stop="</s>")
    assert tokenizer.eos_token == "</s>"
    assert stop_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_without_a_marker_after_answers_the_stop_token_is_the_end_of_sequence(make_tokenizer):
    tokenizer = make_tokenizer(WITH_BOS, "</s>")
    assert stop_id(tokenizer) == tokenizer.eos_token_id


def test_no_stop_token_at_all_is_a_clear_error(make_tokenizer):
    tokenizer = make_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}", None)
    with pytest.raises(SettingError, match="eos_token"):
        render(tokenizer, CHAT, "mat")


@pytest.mark.parametrize(("named", "more"), [(None, set()), (7, {7}), ([7, 8], {7, 8})])
def test_stop_ids_join_template_tokenizer_and_generation_config(make_tokenizer, named, more):
    tokenizer = make_tokenizer(stop="</s>")
    own = {tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "</s>")}
    assert stop_ids(tokenizer, SimpleNamespace(eos_token_id=named)) == own | more
    assert stop_ids(tokenizer) == own


def test_where_the_template_knows_no_system_turn_its_text_opens_the_user_s(make_tokenizer):
    tokenizer = make_tokenizer(NO_SYSTEM, "</s>")
    prompt, _ = render(tokenizer, CHAT)
    assert tokenizer.decode(prompt) == "<s>[INST] 0 1 2\n\nthe cat [/INST]"


def test_a_chat_that_the_template_refuses_is_a_clear_error(make_tokenizer):
    tokenizer = make_tokenizer(NO_SYSTEM, "</s>")
    with pytest.raises(SettingError, match="user, system: no system turn here"):
        render(tokenizer, (Message("user", "a"), Message("system", "b")))


def test_a_tokenizer_without_a_template_is_a_clear_error(make_tokenizer):
    with pytest.raises(SettingError, match=r"chat_template\.jinja"):
        render(make_tokenizer(None), CHAT)


def test_a_chat_that_opens_with_the_assistant_keeps_its_other_turns(make_tokenizer):
    tokenizer = make_tokenizer()
    turns = ("assistant", "user", "assistant", "user")
    chat = [Message(role, f"red {place}") for place, role in enumerate(turns)]
    places, lost = spoken(tokenizer, chat)
    ids = render(tokenizer, chat)[0]
    assert lost == 1  # no template writes what stands before the first turn
    assert [tokenizer.decode(ids[start:end]) for start, end in places] == ["red 2<|im_end|>"]
