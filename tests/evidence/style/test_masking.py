"""Masking keeps the words that say how, hides those that say what, and never raises."""

from hypothesis import given
from hypothesis import strategies as st

from tunewise.evidence.style.function_words import FUNCTION_WORDS
from tunewise.evidence.style.masking import kept_words, mask, words


def test_content_words_leave_their_capitals_endings_and_length_class():
    kept = frozenset({"the", "were"})
    assert mask("The merry Pirates were singing 12 songs!", kept) == "The *** ^****s were ***ing 0 ***s!"
    assert mask("NASA’s go", kept) == "^***'s **"


def test_words_that_differ_in_topic_alone_look_the_same():
    one = mask("I'd prefer the copper kettle, wouldn't you?", FUNCTION_WORDS)
    assert one == mask("I'd assume the marble statue, wouldn't you?", FUNCTION_WORDS)
    assert one != mask("Thou wouldst assume the marble statue?", FUNCTION_WORDS)


def test_contractions_are_one_word_with_either_apostrophe():
    assert words("Don’t say 'tis o'er") == ["don't", "say", "'tis", "o'er"]


def test_the_closed_classes_are_kept_for_english_and_common_words_of_both_sides_else():
    english = ["I think that you should have told me about it before we left."] * 5
    assert kept_words(english, english)[0] is FUNCTION_WORDS
    german = [f"Ich glaube nicht, dass der {noun} heute kommt." for noun in ("Zug", "Bus", "Wagen")] * 5
    kept, why = kept_words(german, [*german, "Apfel"])
    assert {"ich", "nicht", "dass", "der"} <= kept
    assert "apfel" not in kept
    assert "not English" in why


@given(st.text())
def test_any_text_can_be_masked(text):
    assert isinstance(mask(text, FUNCTION_WORDS), str)
