"""Surface rules: each finds what it names and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise.evidence.style.rules import SurfaceRules, kept_share, reading_grade, sentence_words, syllables


@pytest.mark.parametrize(
    ("rules", "kept", "broken"),
    [
        (SurfaceRules(banned=("cheap", "no problem")), "A cheaper one.", "That is no  Problem, and CHEAP."),
        (SurfaceRules(contractions="never"), "We will see the dog's bowl.", "We'll see."),
        (SurfaceRules(contractions="always"), "It’s fine.", "It is fine."),
        (SurfaceRules(sentence_words=5), "One two three. Four five.", "One two three four five six."),
        (SurfaceRules(greeting_by_name=True), "Hi Anna,\nthanks.", "Hi there, thanks."),
        (SurfaceRules(greeting_by_name=True), "Good morning, Mr Lee!", "Thanks, Anna."),
        (SurfaceRules(greeting_by_name=False), "Hello everyone.", "Dear Anna, thanks."),
        (
            SurfaceRules(reading_grade=5),
            "The cat sat on the mat.",
            "Institutional considerations predominate.",
        ),
    ],
)
def test_a_rule_is_kept_by_one_text_and_broken_by_another(rules, kept, broken):
    assert rules.broken(kept) == []
    assert len(rules.broken(broken)) == 1 or (rules.banned and len(rules.broken(broken)) >= 1)


def test_reading_grade_is_the_formula_on_counts_by_hand():
    # 10 words, 2 sentences, syllables 1 1 1 1 1 1, then 2 (table is ta-ble) 1 3 (beautiful) 1
    text = "The cat sat on the mat. Table was beautiful now."
    assert [syllables(w) for w in ("table", "beautiful", "the", "wave")] == [2, 3, 1, 1]
    assert reading_grade(text) == pytest.approx(0.39 * 10 / 2 + 11.8 * 13 / 10 - 15.59)
    assert sentence_words(text) == 5


def test_texts_without_words_have_no_length_and_no_grade():
    assert sentence_words("...") is None
    assert reading_grade("") is None
    assert kept_share(SurfaceRules(banned=("x",)), []) is None
    assert kept_share(SurfaceRules(banned=("x",)), ["a", "x"]) == 0.5


@given(st.text())
def test_any_text_can_be_checked(text):
    rules = SurfaceRules(("a b",), "always", 3, True, 4)
    assert isinstance(rules.broken(text), list)
