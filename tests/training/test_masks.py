"""Loss falls on the answer and its stop token, on nothing else, whatever the chat template."""

import pytest

from tunewise.data import Message
from tunewise.errors import DataError
from tunewise.models.tokens import render
from tunewise.training.masks import IGNORED, render_rows

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
)
GEMMA = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "mistral": (MISTRAL, "</s>"),
    "gemma": (GEMMA, "<end_of_turn>"),
}


def layout(example):
    return (Message("system", "name and town"), *example.turns)


@pytest.mark.parametrize("name", TEMPLATES)
def test_loss_tokens_are_exactly_the_answer_and_the_stop_token(name, make_tokenizer, make_example):
    template, stop = TEMPLATES[name]
    tokenizer = make_tokenizer(template, stop)
    examples = [make_example(number) for number in range(12)]
    rendered = render_rows(tokenizer, render, examples, layout, 256)
    for row, example in zip(rendered.rows, examples, strict=True):
        learnt = [token for token, label in zip(row.ids, row.labels, strict=True) if label != IGNORED]
        assert tokenizer.decode(learnt) == example.answer + stop
        assert learnt.count(tokenizer.convert_tokens_to_ids(stop)) == 1
        assert all(label in (IGNORED, token) for token, label in zip(row.ids, row.labels, strict=True))


@pytest.mark.parametrize("name", ["chatml", "mistral"])
def test_prompt_and_answer_read_as_the_template_writes_the_whole_chat(name, make_tokenizer, make_example):
    template, stop = TEMPLATES[name]
    tokenizer = make_tokenizer(template, stop)
    example = make_example(3)
    [row] = render_rows(tokenizer, render, [example], layout, 256).rows
    turns = [{"role": m.role, "content": m.content} for m in layout(example)]
    whole = tokenizer.apply_chat_template(
        [*turns, {"role": "assistant", "content": example.answer}], tokenize=False
    )
    assert tokenizer.decode(row.ids) == whole.rstrip("\n")


def test_rows_beyond_the_window_are_dropped_and_counted_never_cut(make_tokenizer, make_example):
    examples = [make_example(number) for number in range(12)]
    tokenizer = make_tokenizer()
    lengths = [len(row) for row in render_rows(tokenizer, render, examples, layout, None).rows]
    window = sorted(lengths)[5]
    rendered = render_rows(tokenizer, render, examples, layout, window)
    assert [len(row) for row in rendered.rows] == [length for length in lengths if length <= window]
    assert rendered.too_long == sum(length > window for length in lengths)
    assert rendered.longest == max(lengths)
    assert rendered.tokens == sum(length for length in lengths if length <= window)


def test_no_row_that_fits_is_an_error_that_names_the_window(make_tokenizer, make_example):
    with pytest.raises(DataError, match="context window of 5 tokens"):
        render_rows(make_tokenizer(), render, [make_example(1)], layout, 5)


@pytest.mark.model
def test_the_embedded_models_template_trains_answer_and_stop_token(make_example):
    from tunewise.errors import SettingError
    from tunewise.models.embedded import embedded_folder
    from tunewise.models.weights import load_tokenizer

    try:
        tokenizer = load_tokenizer(embedded_folder())
    except SettingError as error:
        pytest.skip(str(error))
    example = make_example(5)
    [row] = render_rows(tokenizer, render, [example], layout, 2048).rows
    assert (
        tokenizer.decode([label for label in row.labels if label != IGNORED]) == example.answer + "<|im_end|>"
    )
