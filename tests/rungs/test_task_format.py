"""When an answer to another prompt counts as one in the tuned task's format."""

from types import SimpleNamespace
from typing import Any

import pytest

from tunewise.rungs.guard_symptoms import task_format


def bench(answers: list[str]) -> Any:
    return SimpleNamespace(
        parts=SimpleNamespace(train=[SimpleNamespace(answer=answer) for answer in answers])
    )


INTENTS = ["card_arrival", "card_linking", "exchange_rate", "refund"] * 5


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("card_linking", True),
        (" refund\n", True),
        ("paper_not_working", True),  # made up, but built as the task's answers are
        ("Event: Event_A_to_Event_B", False),
        ("learning french", False),
        ("Santorana", False),
        ("well-known", False),  # joined otherwise
        ("_", False),
        ("", False),
    ],
)
def test_names_built_like_the_tasks_are_in_its_format_and_other_words_are_not(text, has):
    is_in_format = task_format(bench(INTENTS))
    assert is_in_format is not None
    assert is_in_format(text) == has


@pytest.mark.parametrize("answers", [["BIL", "FIX", "LOG", "e_mail"] * 5, ["not at all_", "so so_so"] * 5])
def test_answers_that_are_mostly_plain_words_or_texts_count_letter_by_letter(answers):
    is_in_format = task_format(bench(answers))
    assert is_in_format is not None
    assert is_in_format(answers[0])
    assert not is_in_format("paper_not_working")


def test_objects_are_told_and_free_texts_have_no_format():
    objects = task_format(bench(['{"a": 1}', '{"a": 2}']))
    assert objects is not None
    assert (objects('{"b": []}'), objects("{b}"), objects("[1]")) == (True, False, False)
    assert task_format(bench([f"text {n}" for n in range(40)])) is None
    assert task_format(bench([])) is None
