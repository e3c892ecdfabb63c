"""Advice and evidence: agreement, disagreement, and neither."""

import pytest

from tunewise.advice.disagreement import meet

SHORT, OPEN, MEETS = "falls_short", "not_proved", "meets"


@pytest.mark.parametrize(
    ("approach", "choice", "verdicts", "agrees", "words"),
    [
        ("rag", "rag", [("zero-shot", SHORT), ("rag", MEETS)], True, "the evidence agrees"),
        ("fine-tuning", "few-shot", [("few-shot", MEETS), ("lora", None)], False, "the lighter few-shot"),
        ("prompting", "lora", [("zero-shot", SHORT), ("lora", MEETS)], False, "falls short, and only lora"),
        ("rag", "lora", [("rag", None), ("lora", MEETS)], False, "no rung of that kind"),
        ("rag", None, [("zero-shot", SHORT), ("rag", SHORT)], False, "no other rung meets"),
        ("rag", None, [("zero-shot", SHORT), ("rag", OPEN)], None, "does not settle it"),
        ("rag+fine-tuning", None, [("zero-shot", SHORT)], None, "no rung of that kind was measured"),
    ],
)
def test_one_sentence_says_whether_the_evidence_bears_it_out(approach, choice, verdicts, agrees, words):
    found = meet(approach, "some_rule", choice, verdicts)
    assert found["agrees"] is agrees
    assert words in found["says"]
    assert found["says"].startswith(f"On paper the facts pointed to {approach} (some_rule)")
