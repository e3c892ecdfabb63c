"""Documents as rows: nothing lost, nothing twice, nothing held out that is trained on."""

import math

import pytest

pytest.importorskip("trl")

from tunewise.errors import DataError
from tunewise.retrieval.documents import Document
from tunewise.training.corpus import corpus_of, loss_tokens, marks, perplexity, pieces


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer()


def papers(count, words=30):
    names = ["Norwich", "Ely", "pub", "food", "cheap", "town", "high", "low"]
    return [
        Document(f"d{n}", " ".join(names[(n * 3 + i * i) % 8] + str(n) for i in range(words)), "text")
        for n in range(count)
    ]


def test_the_rows_of_a_document_are_its_tokens_in_order_closed_once(tokenizer):
    text = papers(1, words=50)[0].text
    first, end = marks(tokenizer)
    rows, rest = pieces("d", text, tokenizer, length=16)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [end]
    read = [token for row in rows for token in row.answer]
    assert read == ids[: len(ids) - rest]
    assert all(row.prompt == (first,) and len(row) <= 16 for row in rows)
    assert sum(row.answer.count(end) for row in rows) == (0 if rest else 1)
    assert rest < 8


def test_every_token_of_every_document_is_trained_held_out_or_left_over(tokenizer):
    corpus = corpus_of(papers(80), tokenizer, length=32)
    whole = sum(len(tokenizer(d.text, add_special_tokens=False)["input_ids"]) + 1 for d in papers(80))
    assert corpus.tokens + corpus.left_over == whole
    assert corpus.tokens == loss_tokens(corpus.train) + loss_tokens(corpus.held_out)
    assert corpus.words == 80 * 30
    assert corpus.tokens_per_word == pytest.approx(corpus.tokens / 2400)


def test_no_document_is_trained_on_and_held_out_and_more_documents_move_none(tokenizer):
    def names(rows):
        return {row.key.split("#")[0] for row in rows}

    few, many = (corpus_of(papers(count), tokenizer, length=32) for count in (120, 200))
    assert names(few.held_out)
    assert not names(few.held_out) & names(few.train)
    assert names(few.held_out) <= names(many.held_out)
    assert names(few.train) <= names(many.train)


def test_of_few_documents_a_whole_one_is_held_out_and_of_a_single_one_its_last_piece(tokenizer):
    for count in (2, 3, 10):
        corpus = corpus_of(papers(count, words=60), tokenizer, length=32)
        away, read = ({row.key.split("#")[0] for row in rows} for rows in (corpus.held_out, corpus.train))
        assert corpus.apart
        assert (len(away), len(read)) == (1, count - 1)
        assert not away & read
    large, small = papers(2, words=200)[1], papers(1, words=20)[0]
    for order in ((large, small), (small, large)):
        corpus = corpus_of(order, tokenizer, length=32)
        assert {row.key.split("#")[0] for row in corpus.held_out} == {
            small.id
        }  # reading is not left without text
    corpus = corpus_of(papers(1, words=60), tokenizer, length=32)
    whole, _ = pieces("d0", papers(1, words=60)[0].text, tokenizer, length=32)
    assert [row.answer for row in (*corpus.train, *corpus.held_out)] == [row.answer for row in whole]
    assert len(corpus.held_out) == 1
    assert corpus.facts()["held_out_apart"] is False
    short = corpus_of(papers(1, words=10), tokenizer, length=512)
    assert (len(short.train), len(short.held_out)) == (1, 0)


def test_documents_that_would_all_be_held_out_leave_one_to_read(tokenizer, monkeypatch):
    monkeypatch.setattr("tunewise.training.corpus.HELD_OUT_SHARE", 1.0)
    corpus = corpus_of(papers(3, words=60), tokenizer, length=32)
    assert len({row.key.split("#")[0] for row in corpus.train}) == 1
    assert len({row.key.split("#")[0] for row in corpus.held_out}) == 2


def test_the_same_text_twice_is_read_once_and_the_token_cap_ends_the_reading(tokenizer):
    once, twice = papers(60), [*papers(60), *papers(60)]
    assert corpus_of(twice, tokenizer, length=32).tokens == corpus_of(once, tokenizer, length=32).tokens
    capped = corpus_of(once, tokenizer, length=32, most_tokens=500)
    assert 500 <= loss_tokens(capped.train) < 500 + max(map(len, (r.answer for r in capped.train))) * 20
    assert capped.documents < 60


def test_too_little_text_is_refused(tokenizer):
    with pytest.raises(DataError, match="give no row"):
        corpus_of([Document("d", "Ely", "text")], tokenizer, length=32)


def test_perplexity_is_the_exponential_of_a_loss_and_unknown_without_one():
    assert perplexity(2.0) == math.exp(2)
    assert perplexity(None) is perplexity(float("inf")) is perplexity(float("nan")) is None
