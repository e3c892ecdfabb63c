"""``accuracy``: a choice from a closed set."""

import pytest

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.records import Score

QUEUES = MetricContext(choices=("billing", "billing dispute", "tech support"))


def score(answer: str, reference: str = "billing") -> Score:
    return METRICS["accuracy"].score(answer, [reference], QUEUES)


def test_the_right_choice_is_1_and_another_choice_is_0() -> None:
    assert score(" Billing.").value == 1
    wrong = score("tech  support")
    assert (wrong.status, wrong.value, wrong.detail["repaired_value"]) == ("scored", 0.0, 0.0)
    assert wrong.detail["why"] == "'billing' was expected, got 'tech support'"


def test_an_answer_outside_the_set_is_unparseable_with_the_reason() -> None:
    found = score("no idea")
    assert (found.status, found.value) == ("unparseable", 0)
    assert found.detail["why"] == "not one of the 3 choices: 'no idea'"


@pytest.mark.parametrize(
    ("answer", "repaired"),
    [
        ("The queue is: billing", 1),
        ("Answer: **Billing** (because of the invoice)", 1),
        ("billing or tech support", 0),
        ("a billing dispute, clearly", 0),
        ("rebilling", 0),
        ("tech support it is", 0),
    ],
)
def test_repair_finds_the_one_choice_that_the_prose_names(answer: str, repaired: float) -> None:
    found = score(answer)
    assert found.status == "unparseable"
    assert found.detail["repaired_value"] == repaired


def test_the_longer_of_two_nested_choices_is_the_one_named() -> None:
    assert score("a billing dispute, clearly", "billing dispute").detail["repaired_value"] == 1
