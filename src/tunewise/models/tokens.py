"""Chats as token ids, the same in training and in answering.

A model is only as good as the agreement between what it was trained on and what it is asked: both go through
``render``, so that the ids agree, the stop token included.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from jinja2 import TemplateError

from tunewise.data import Message
from tunewise.errors import SettingError

PROBE = "tunewise-probe"
NO_THOUGHT = re.compile(r"<think>\s*</think>\s*$")


def render(
    tokenizer: Any, messages: Sequence[Message], answer: str | None = None
) -> tuple[list[int], list[int]]:
    """The ids of a prompt, up to where the model writes, and of the answer with its stop token.

    tokenizer: a transformers tokenizer with a chat template. messages: the chat, the last turn the user's.
    answer: None gives no answer ids. The template writes the markers; none is added twice.
    Raises SettingError when there is no template, when it refuses these roles, or when no token ends an
    answer.
    """
    text = prompt_text(tokenizer, messages)
    prompt = encode(tokenizer, text)
    if answer is None:
        return prompt, []
    # Read together with the prompt, an answer is cut into tokens as the model would go on writing. Where it
    # would melt into the prompt's last token, which no answering model can do, it is read on its own.
    whole = encode(tokenizer, text + answer)
    written = whole[len(prompt) :] if whole[: len(prompt)] == prompt else encode(tokenizer, answer)
    return prompt, [*written, stop_id(tokenizer)]


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The chat as the model reads it, up to where it writes."""
    need_template(tokenizer)
    turns = [{"role": message.role, "content": message.content} for message in messages]
    refusals: list[Exception] = []
    for layout in layouts(turns):
        try:
            text: str = tokenizer.apply_chat_template(layout, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError) as refusal:  # ValueError: transformers' own, for an empty chat
            refusals.append(refusal)
        else:
            return text
    roles = ", ".join(turn["role"] for turn in turns)
    raise SettingError(
        f"The model's chat template refuses a chat with the turns {roles}: {refusals[0]}. Expected turns "
        "that alternate between user and assistant, after at most one system turn."
    ) from refusals[0]


def template_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The ids of a prompt as other servers make them: the template's own call, which also cuts into tokens.

    Shares nothing with ``render`` but the template and the order of layouts, so the two can be compared.
    Empty where the template refuses every layout, which ``render`` tells of.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    for layout in layouts(turns):
        with suppress(TemplateError, ValueError):
            ids: list[int] = tokenizer.apply_chat_template(
                layout, tokenize=True, add_generation_prompt=True, return_dict=False
            )
            return ids
    return []


def layouts(turns: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """The chat as it is; then, for templates that know no system turn, with that text opening the user's."""
    yield turns
    if [turn["role"] for turn in turns[:2]] == ["system", "user"]:
        joined = f"{turns[0]['content']}\n\n{turns[1]['content']}"
        yield [{"role": "user", "content": joined}, *turns[2:]]


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text, with no marker added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def spoken(tokenizer: Any, messages: Sequence[Message]) -> tuple[list[tuple[int, int]], int]:
    """Where in a prompt's ids the assistant's earlier turns stand: their words, each with its stop token.

    Returns places (start, end) in order, and how many turns have none: the template writes them otherwise
    once the chat goes on (reasoning is dropped, for instance), or no stop token follows. A space that a
    template puts before the words is part of their first token in many tokenizers; one behind them is left
    out.
    """
    turns = [number for number, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        return [], 0
    if not tokenizer.is_fast:
        return [], len(turns)  # only fast tokenizers say where in the text a token stands
    text = prompt_text(tokenizer, messages)
    read = tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    places: list[tuple[int, int]] = []
    lost = 0
    for number in turns:
        try:
            before = prompt_text(tokenizer, messages[:number])
        except SettingError:  # a chat that opens with the assistant: no template writes what stands before
            lost += 1
            continue
        words = messages[number].content.strip()
        # a template that opens answers with an empty thought (Qwen3) leaves it out of earlier ones
        found = _words_in(text, before, words) or _words_in(text, NO_THOUGHT.sub("", before), words)
        own = [] if found is None else _tokens_of(read, found, stop_id(tokenizer))
        places += own
        lost += not own
    return places, lost


def _words_in(text: str, before: str, words: str) -> tuple[int, int] | None:
    """Where ``words`` stand right behind ``before`` in a text, spaces apart; None when they do not."""
    start = text.find(words, len(before)) if text.startswith(before) and words else -1
    return None if start < 0 or text[len(before) : start].strip() else (start, start + len(words))


def _tokens_of(read: Any, place: tuple[int, int], stop: int) -> list[tuple[int, int]]:
    """The tokens of the characters at ``place`` and the stop token behind them; none without the latter."""
    ids, offsets = read["input_ids"], read["offset_mapping"]
    own = [i for i, (start, end) in enumerate(offsets) if start < place[1] and end > place[0]]
    behind = next((i for i in range(own[-1] + 1, min(own[-1] + 3, len(ids))) if ids[i] == stop), None)
    if behind is None:
        return []
    if behind == own[-1] + 1:
        return [(own[0], behind + 1)]
    return [(own[0], own[-1] + 1), (behind, behind + 1)]


def stop_id(tokenizer: Any) -> int:
    """The token that ends an answer: the one the template writes after it, else the end-of-sequence token."""
    need_template(tokenizer)
    turns = [{"role": "user", "content": PROBE}, {"role": "assistant", "content": PROBE}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    after = encode(tokenizer, text[text.rindex(PROBE) + len(PROBE) :].lstrip()) if PROBE in text else []
    if after and after[0] in special_ids(tokenizer):
        return after[0]
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    raise SettingError(
        f"The tokenizer of {tokenizer.name_or_path} names no end-of-sequence token and its chat template "
        'writes none after an answer. Add "eos_token" to its tokenizer_config.json.'
    )


def stop_ids(tokenizer: Any, generation_config: Any = None) -> frozenset[int]:
    """All tokens that end an answer: the template's, the tokenizer's, and those of the generation config."""
    named = getattr(generation_config, "eos_token_id", None)
    listed = [] if named is None else [named] if isinstance(named, int) else list(named)
    own = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return frozenset([stop_id(tokenizer), *own, *listed])


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that stand for markers, not for text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def need_template(tokenizer: Any) -> None:
    """Raise SettingError where the tokenizer has no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        raise SettingError(
            f"The model {tokenizer.name_or_path} has no chat template, so it is not known how it reads a "
            "chat: it may be a base model. Put its template as chat_template.jinja into the model's folder, "
            "or use the instruction-tuned version of the model."
        )
