"""``exact`` and the normalisation it rests on."""

import pytest

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.metrics.normalise import normalise


def value(answer: str, *references: object) -> float | None:
    return METRICS["exact"].score(answer, references, MetricContext()).value


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "  paris. ",
        '"Paris"',
        "**Paris**",
        "“Paris”.",
        "PARIS!",
        "\uff30aris",
        "'Paris'\n",
        "`paris`",
    ],
)
def test_case_quotes_width_and_closing_marks_do_not_matter(answer: str) -> None:
    assert value(answer, "Paris") == 1


@pytest.mark.parametrize(
    ("answer", "reference"), [("5", "-5"), ("C", "C++"), ("5", ".5"), ("a b", "ab"), ("", "x")]
)
def test_signs_that_carry_meaning_matter(answer: str, reference: str) -> None:
    assert value(answer, reference) == 0


def test_white_space_collapses_and_the_best_reference_counts() -> None:
    assert value("New   York\tCity", "LA", "new york city") == 1


def test_references_may_be_json_values() -> None:
    assert value("true", True) == 1
    assert value("3", 3) == 1
    assert value("None", None) == 0


def test_a_text_of_marks_only_stays_whole() -> None:
    assert normalise("?!") == "?!"
    assert normalise("...") != normalise("?")


def test_folding_is_stable() -> None:
    assert normalise("\u1e9eTRASSE") == normalise("ßtrasse") == "sstrasse"
