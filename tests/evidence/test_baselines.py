"""What no model would score, against hand counts."""

from tunewise.data import Example, Message
from tunewise.evidence.baselines import baselines, nearest_rows
from tunewise.evidence.records import Score


def example(text: str, answer: str) -> Example:
    return Example(key=text, turns=(Message("user", text),), references=(answer,))


def same(example: Example, text: str) -> Score:
    return Score("scored", float(text in example.references))


TRAIN = [
    example("my card was stolen", "card"),
    example("the app does not open", "app"),
    example("the card is lost", "card"),
]


def test_the_majority_answer_is_the_most_frequent_one() -> None:
    asked = [example("stolen card", "card"), example("app crashes", "app"), example("hello", "other")]
    found = baselines(TRAIN, asked, same)
    assert found["majority"] == {"quality": 1 / 3, "n": 3, "answer": "card"}


def test_the_nearest_row_answers_for_it() -> None:
    asked = [example("was it stolen?", "card"), example("App will not OPEN", "app")]
    assert baselines(TRAIN, asked, same)["nearest"] == {"quality": 1.0, "n": 2}


def test_nearness_is_cosine_of_tf_idf_with_ties_and_unknown_words_to_the_first() -> None:
    texts = ["red green", "red blue", "blue green", "red green"]
    assert nearest_rows(texts, ["blue red", "green red", "purple", ""]) == [1, 0, 0, 0]


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    texts = ["the cat", "the dog", "the bird", "the the cow"]
    assert nearest_rows(texts, ["the cow"]) == [3]
    assert nearest_rows(texts, ["the the the bird"]) == [2]


def test_without_rows_the_baselines_are_absent_with_the_reason() -> None:
    found = baselines([], TRAIN, same)
    assert found["majority"] == {"quality": None, "n": 0, "why": "no train rows"}
    assert baselines(TRAIN, [], same)["nearest"]["why"] == "no certification items"


def test_answers_that_cannot_be_scored_are_left_out() -> None:
    found = baselines(TRAIN, TRAIN, lambda example, text: Score("errored", None))
    assert found["nearest"]["quality"] is None
    assert found["nearest"]["why"] == "no answer could be scored"
