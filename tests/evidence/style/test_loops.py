"""Loops are seen, and what people repeat on purpose is not taken for one."""

import pytest

from tunewise.evidence.style.loops import loops
from tunewise.evidence.style.masking import words


@pytest.mark.parametrize(
    "text",
    ["No, no, no, no, no, no, no, no, no,", "Well. " + "I am so glad you are here. " * 4, "a b " * 20],
)
def test_a_text_that_repeats_itself_loops(text):
    assert loops(words(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no!",
        "Never, never, never, never, never! Pray you, undo this button. Thank you, sir. Do you see this?",
        "I'll be happy. I'll be happy. What else could I be on a day like this one?",
    ],
)
def test_a_repetition_within_a_text_is_no_loop(text):
    assert not loops(words(text))


def test_a_looping_text_is_in_no_voice(old_voice):
    spoken = "Alas, thou hast not the ladder; 'tis thy fault! "
    assert old_voice.probability([spoken])[0] > 0.5
    assert old_voice.probability([spoken * 5])[0] < 0.01
    assert not old_voice.speaks(spoken * 5)
