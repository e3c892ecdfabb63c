"""IFEval's checks on answers that follow and answers that do not."""

import json

import pytest

from tunewise.benchmarks.data import items_of
from tunewise.benchmarks.following import ask, following_figures
from tunewise.benchmarks.instructions import CHECKS, followed, followed_loosely, why_not_checkable
from tunewise.benchmarks.kept import KeptAnswers
from tunewise.benchmarks.tasks import ifeval
from tunewise.errors import DataError, DoorError
from tunewise.models.door import Answer

CASES = [
    ("keywords:existence", {"keywords": ["lamp", "sea"]}, "The Lamp by the sea", "The lamp"),
    ("keywords:frequency", {"keyword": "oak", "frequency": 2, "relation": "at least"}, "oak, Oak", "oak"),
    ("keywords:forbidden_words", {"forbidden_words": ["ride"]}, "bride", "a Ride home"),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "qQ", "q"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "two words", "one, a, b"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weeks"}, "One.\n\n\"Weeks, it took",
     "Weeks\n\nOne"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] at [place]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\nP. S. more", "Bye"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p.s later", "p.s. later"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n** b **"),
    ("detectable_format:constrained_response", {}, "I think: My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and * *"),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2},
     "Section 1 a Section 2 b", "Section one"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:title", {}, "<<a title>> text", "<< >> text"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hello."}, "say hello. Hello!", "Hello!"),
    ("startend:end_checker", {"end_phrase": "That is all."}, '"Fine. that is all."', "That is all. Bye"),
    ("startend:quotation", {}, ' "quoted" ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"},
     "A WELL-KNOWN thing", "One NOTE"),
    ("change_case:english_capital", {}, "ALL OF IT", "All"),
    ("change_case:english_lowercase", {}, "all of it", "All"),
    ("punctuation:no_comma", {}, "no", "no, no"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_an_instruction_tells_answers_that_follow_from_those_that_do_not(name, arguments, good, bad):
    assert followed(name, arguments, good)
    assert not followed(name, arguments, bad)


def test_every_check_has_a_case():
    assert {case[0] for case in CASES} == set(CHECKS)


def test_an_empty_answer_follows_nothing():
    assert not followed("punctuation:no_comma", {}, "  ")


def test_loosely_a_first_line_and_asterisks_may_be_left_aside():
    answer = "Sure, here it is:\n*no commas at all*"
    assert not followed("punctuation:no_comma", {}, answer)
    assert followed_loosely("punctuation:no_comma", {}, answer)
    assert followed_loosely("startend:quotation", {}, '**"quoted"**')


def test_what_is_missing_is_said():
    assert "needs a model of its own" in why_not_checkable("language:response_language", {"language": "kn"})
    assert "not complete" in why_not_checkable("startend:end_checker", {"end_phrase": None})
    assert why_not_checkable("punctuation:no_comma", {}) is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("keywords:existence", {"keywords": ["("]}),
        ("length_constraints:number_words", {"num_words": "many", "relation": "at least"}),
        ("length_constraints:number_words", {"num_words": 3, "relation": "around"}),
        ("startend:end_checker", {"end_phrase": 3}),
    ],
)
def test_arguments_that_cannot_be_used_are_told_before_a_model_is_asked(name, arguments):
    assert f"the arguments of {name} cannot be used" in why_not_checkable(name, arguments)


def test_where_no_row_can_be_asked_the_reason_is_said(tmp_path):
    row = {
        "prompt": "x",
        "instruction_id_list": ["language:response_language"],
        "kwargs": [{"language": "kn"}],
    }
    (tmp_path / "ifeval.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="none of 1 rows can be asked, the first since language:response"):
        items_of(ifeval.BENCHMARK, tmp_path)


def test_rows_without_their_arguments_are_left_out():
    names = ["punctuation:no_comma", "startend:end_checker"]
    rows = [
        {"id": "a", "prompt": "x", "instruction_id_list": names, "kwargs": [{}, {"end_phrase": "Bye."}]},
        {"id": "b", "prompt": "x", "instruction_id_list": names, "kwargs": None},
        {"id": "c", "prompt": "x", "instruction_id_list": names, "kwargs": [{}]},
    ]
    assert [prompt.id for prompt in ifeval.read(rows, [])] == ["a"]
    assert [ifeval.missing(row) is None for row in rows] == [True, False, False]


class Scripted:
    """A door that answers by rule."""

    batch_size = 2
    context_window = None

    def answer(self, requests):
        texts = [request.messages[-1].content for request in requests]
        return [Answer("", status="errored") if "fail" in text else Answer(text.upper()) for text in texts]


def test_prompts_are_asked_checked_and_counted():
    capital, comma = ("change_case:english_capital", {}), ("punctuation:no_comma", {})
    prompts = [
        ifeval.Prompt("1", "one", (capital, comma)),
        ifeval.Prompt("2", "a, b", (capital, comma)),
        ifeval.Prompt("3", "fail", (capital,)),
    ]
    outcome = ask(Scripted(), prompts)
    assert [item.strict for item in outcome.items] == [(True, True), (True, False)]
    assert len(outcome.errored) == 1
    figures = following_figures(outcome.items)
    assert figures["prompts_followed"].estimate == 0.5
    assert figures["instructions_followed"].estimate == 0.75


def test_answers_are_kept_batch_by_batch_so_that_what_was_cut_off_goes_on(tmp_path):
    class Dying(Scripted):
        """Stops after so many prompts, and notes what it was asked."""

        def __init__(self, most):
            self.most, self.asked = most, []

        def answer(self, requests):
            if len(self.asked) + len(requests) > self.most:
                raise DoorError("stopped")
            self.asked += [request.messages[-1].content for request in requests]
            return super().answer(requests)

    prompts = [ifeval.Prompt(str(n), text, ()) for n, text in enumerate(["fail", "b", "c", "d", "e"])]
    place = tmp_path / "scores.sqlite"
    with pytest.raises(DoorError):
        ask(Dying(3), prompts, kept=KeptAnswers("model", place))
    second = Dying(9)
    outcome = ask(second, prompts, kept=KeptAnswers("model", place))
    assert second.asked == ["fail", "c", "d", "e"]  # an errored one is asked again
    assert (outcome.found, outcome.errored) == (1, ("0",))
    assert [item.answer.text for item in outcome.items] == ["B", "C", "D", "E"]
    other = Dying(9)
    ask(other, prompts, kept=KeptAnswers("another model", place))
    assert other.asked == ["fail", "b", "c", "d", "e"]
