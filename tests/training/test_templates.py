"""On ten chat templates the tokens under loss are exactly the assistant's words and the stop token."""

import pytest

from tunewise.data import Example, Message
from tunewise.models.tokens import render, template_ids
from tunewise.training.masks import IGNORED, render_rows

# name: (template, the token that ends an answer). Written after the published formats, without their options.
TEMPLATES = {
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "llama-2": (
        "{% if messages[0].role == 'system' %}{% set sys = messages[0].content %}"
        "{% set turns = messages[1:] %}"
        "{% else %}{% set sys = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m.role == 'user' %}<s>[INST] {% if loop.first and sys %}"
        "<<SYS>>\n{{ sys }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]"
        "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}",
        "</s>",
    ),
    "llama-3": (
        "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{{ m.content }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|>",
    ),
    "mistral": (
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>"
        "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}",
        "</s>",
    ),
    "gemma": (
        "<bos>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}"
        "{% endif %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
    ),
    "phi": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "<|end|>",
    ),
    "qwen": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "zephyr": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "</s>",
    ),
    "deepseek": (
        "<｜begin▁of▁sentence｜>{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
        "{% elif m.role == 'user' %}<｜User｜>{{ m.content }}"
        "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}",
        "<｜end▁of▁sentence｜>",
    ),
    "alpaca": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
        "{% elif m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n"
        "{% else %}### Response:\n{{ m.content }}</s>\n\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}### Response:\n{% endif %}",
        "</s>",
    ),
}
MARKERS = [
    *("<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<start_of_turn>"),
    *(
        "<end_of_turn>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|end|>",
    ),
    *("<|system|>", "<|user|>", "<|assistant|>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    "<｜end▁of▁sentence｜>",
]
CHAT = (
    Message("system", "Be brief."),
    Message("user", "Who is in Ely?"),
    Message("assistant", "The Red Lion, cheap: a pub."),
    Message("user", "And in Norwich?"),
    Message("assistant", "Blue Bell.\nIt is café-like, too."),
    Message("user", "The Red Lion, cheap: a pub. Is it so?"),
)
ANSWER = 'Yes {"town": "Norwich"}'


@pytest.fixture(scope="module")
def tokenizers(make_tokenizer):
    def make(name):
        template, stop = TEMPLATES[name]
        tokenizer = make_tokenizer(template, stop)
        tokenizer.add_special_tokens({"additional_special_tokens": MARKERS})
        return tokenizer, stop

    return make


def learnt(row, tokenizer):
    """The runs of tokens under loss, as text."""
    runs, before = [], False
    for token, label in zip(row.ids, row.labels, strict=True):
        if label == IGNORED:
            before = False
            continue
        assert label == token
        if not before:
            runs.append([])
        runs[-1].append(token)
        before = True
    return [tokenizer.decode(run, clean_up_tokenization_spaces=False) for run in runs]


@pytest.mark.parametrize("name", TEMPLATES)
def test_loss_falls_on_every_answer_of_a_chat_and_on_the_stop_tokens_only(name, tokenizers):
    tokenizer, stop = tokenizers(name)
    example = Example("k", CHAT, (ANSWER,))
    rendered = render_rows(tokenizer, render, [example], lambda e: e.turns, None)
    [row] = rendered.rows
    assert rendered.earlier_lost == 0
    said = "".join(learnt(row, tokenizer))
    wanted = [CHAT[2].content, CHAT[4].content, ANSWER]
    # a space that the template puts before an answer belongs to the answer's first token in byte-level BPE
    pieces = [piece.strip() for piece in said.split(stop)]
    assert pieces == [*wanted, ""]
    stops = [token for token, label in zip(row.ids, row.labels, strict=True) if label != IGNORED]
    assert stops.count(tokenizer.convert_tokens_to_ids(stop)) == 3


@pytest.mark.parametrize("name", TEMPLATES)
def test_one_turn_trains_exactly_answer_and_stop_token_after_the_prompt_of_serving(name, tokenizers):
    tokenizer, stop = tokenizers(name)
    example = Example("k", CHAT[:2], (ANSWER,))
    [row] = render_rows(tokenizer, render, [example], lambda e: e.turns, None).rows
    assert learnt(row, tokenizer) == [ANSWER + stop]
    assert list(row.prompt) == render(tokenizer, CHAT[:2])[0] == template_ids(tokenizer, CHAT[:2])


def test_a_turn_that_the_template_writes_otherwise_later_on_carries_no_loss_and_is_counted(tokenizers):
    tokenizer, stop = tokenizers("deepseek")
    chat = (CHAT[1], Message("assistant", "I wonder.</think>Nobody."), CHAT[3])
    rendered = render_rows(tokenizer, render, [Example("k", chat, (ANSWER,))], lambda e: e.turns, None)
    assert rendered.earlier_lost == 1
    assert learnt(rendered.rows[0], tokenizer) == [ANSWER + stop]


def test_a_prompt_cut_from_the_left_keeps_the_whole_answer(tokenizers):
    tokenizer, stop = tokenizers("chatml")
    example = Example("k", CHAT, (ANSWER,))
    [whole] = render_rows(tokenizer, render, [example], lambda e: e.turns, None).rows
    window = len(whole) - len(whole) // 2
    cut = render_rows(tokenizer, render, [example], lambda e: e.turns, window, "truncate_left")
    [row] = cut.rows
    assert (len(row), cut.truncated, cut.too_long) == (window, 1, 0)
    assert row.ids == whole.ids[-window:]
    assert learnt(row, tokenizer)[-1] == ANSWER + stop


def test_an_answer_that_truncation_would_cut_is_refused_with_its_place_and_length(tokenizers):
    from tunewise.errors import DataError

    tokenizer, _ = tokenizers("chatml")
    example = Example("k", CHAT[:2], ("Norwich " * 50,), source="rows.jsonl", line=7)
    with pytest.raises(DataError, match=r"1 answers alone pass the window of 40 tokens.*\n.*rows\.jsonl:7"):
        render_rows(tokenizer, render, [example], lambda e: e.turns, 40, "truncate_left")
    with pytest.raises(DataError, match=r"1 rows pass the window.*\n.*rows\.jsonl:7"):
        render_rows(tokenizer, render, [example], lambda e: e.turns, 40, "refuse")
