"""Items are cut into tokens as lm-evaluation-harness cuts them."""

import pytest

from tunewise.benchmarks.encode import encode
from tunewise.benchmarks.item import Item
from tunewise.errors import DataError


class Melting:
    """One id per character, but "on" is one token: an ending with n melts into a context with o."""

    bos_token_id, eos_token_id, name_or_path = None, 0, "melting"

    def ids(self, text):
        found, place = [], 0
        while place < len(text):
            pair = text[place : place + 2] == "on"
            found.append(1 if pair else ord(text[place]))
            place += 2 if pair else 1
        return found

    def encode(self, text, **_):
        return self.ids(text)

    def __call__(self, texts, **_):
        if isinstance(texts, str):
            return {"input_ids": self.ids(texts)}
        return {"input_ids": [self.ids(text) for text in texts]}

    def decode(self, ids):
        return "\0" if ids == [0] else "?"


def harness_pair(tokenizer, context, ending):
    """``_encode_pair`` of lm_eval 0.4.13 on this tokenizer."""
    model = pytest.importorskip("lm_eval.api.model")

    class Peer(model.TemplateLM):
        backend = "causal"
        eot_token_id = prefix_token_id = 0

        def tok_encode(self, string, add_special_tokens=None, **_):
            return tokenizer.encode(string)

        def _loglikelihood_tokens(self, requests, **_):
            return []

        def loglikelihood_rolling(self, requests, **_):
            return []

        def generate_until(self, requests, **_):
            return []

    return Peer()._encode_pair(context, ending)


@pytest.mark.parametrize(
    ("context", "ending"),
    [("the cat", " sat"), ("hello", "next day"), ("spaces  ", "here"), ("lo", "nx"), ("a b c", " on it")],
)
def test_melting_and_spaces_at_the_boundary_are_handled_as_the_peer_does(context, ending):
    tokenizer = Melting()
    before, after = harness_pair(tokenizer, context, ending)
    question = encode(tokenizer, [Item("1", context, (ending,))], None).questions[0]
    assert question.sequences == ((*before, *after),)
    assert question.firsts == (len(before),)


def test_an_ending_that_melts_away_is_refused_by_name():
    with pytest.raises(DataError, match="item 7: this tokenizer melts an ending"):
        encode(Melting(), [Item("7", "hello", ("n",))], None)


def test_what_does_not_fit_is_cut_at_the_left_and_said():
    encoded = encode(Melting(), [Item("a", "x" * 50, (" yes", " no")), Item("b", "x", (" y",))], 20)
    assert encoded.cut == ("a",)
    yes, no = encoded.questions[0].sequences
    assert len(yes) == len(no) == 21  # the last token is never read
    assert encoded.questions[0].firsts == (21 - 4, 21 - 3)


def test_a_text_without_context_is_read_in_windows_after_the_start_token():
    utils = pytest.importorskip("lm_eval.utils")
    text = "abcdefghijklmnopqrstuvwxyz"
    question = encode(Melting(), [Item("t", "", (text,))], 10).questions[0]
    ids = Melting().ids(text)
    windows = [utils.make_disjoint_window(pair) for pair in utils.get_rolling_token_windows(ids, 0, 10, 1)]
    scored = [s[first:] for s, first in zip(question.sequences, question.firsts, strict=True)]
    assert [list(s) for s in scored] == [list(after) for _, after in windows]
    assert sum(scored, ()) == tuple(ids)
