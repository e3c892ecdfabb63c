"""Patterns match as they do elsewhere, and in bounded time."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score
from tunewise.forms import OutputSpec
from tunewise.forms.patterns import Pattern

SOURCES = [
    r"^a+b",
    r"[A-Z]{2}-\d+",
    r"(ab|c)*$",
    r"\bcat\b",
    r"^$",
    r"[^ab]",
    r"(?i)abc",
    r"(?=a)ab",
    r"(a)\1",
]


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40, deadline=None)
@given(text=st.text("abcC-AZ1 ", max_size=12))
def test_both_engines_agree_with_pythons(source, text):
    assert Pattern(source).found_in(text) == bool(re.search(source, text))
    assert Pattern(source, whole=True).found_in(text) == bool(re.fullmatch(source, text))


def test_only_patterns_that_need_it_leave_the_linear_engine():
    assert [Pattern(source).in_linear_time for source in SOURCES] == [True] * 7 + [False] * 2
    assert not Pattern("[a&&b]").in_linear_time  # set arithmetic there, plain characters elsewhere
    with pytest.raises(ValueError, match="not a regular expression"):
        Pattern("(a")


def score(answer: str, source: str) -> Score:
    return METRICS["regex"].score(answer, [], MetricContext(output=OutputSpec(regex=Pattern(source))))


def test_the_answer_matches_as_a_whole_and_a_match_within_is_a_repair():
    assert score(" AB-1\n", r"[A-Z]{2}-\d+").value == 1
    found = score("It is AB-1.", r"[A-Z]{2}-\d+")
    assert (found.value, found.detail["repaired_value"]) == (0, 1)
    assert found.detail["why"] == "does not match [A-Z]{2}-\\d+: 'It is AB-1.'"


def test_a_catastrophic_pattern_is_linear_or_cut_off():
    started = time.perf_counter()
    assert score("a" * 100_000 + "!", r"(a+)+").value == 0
    cut = score("a" * 40 + "!", r"(?=a)(a+)+")
    assert (cut.status, cut.value) == ("errored", None)
    assert "took more than 2 s" in cut.detail["why"]
    assert score("aa", r"(?=a)(a+)+").value == 1  # a fresh helper serves the next answer
    assert time.perf_counter() - started < 60


def test_a_pattern_that_ends_in_a_remark_is_matched_as_a_whole():
    form = Pattern("(?x) [a-z]+  # a word", whole=True)
    assert form.found_in("abc")
    assert not form.found_in("abc1")
