"""Whether a text gives away examples: their question and answer both stand in it word for word."""

from collections.abc import Iterable

from tunewise.data import Example, reference_text
from tunewise.words import BARE_WORD

FEWEST_WORDS = 5  # a shorter question stands in texts by chance


def plain(text: str) -> str:
    """Words in one case with single spaces between and around them, so that only whole words are found.

    Of scripts written without spaces each character is a word.
    """
    return f" {' '.join(BARE_WORD.findall(text.casefold()))} "


class Said:
    """Questions and answers to look for; questions of fewer than 5 words are not looked for."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._pairs = [
            (question, tuple(plain(reference_text(reference)) for reference in example.references))
            for example in examples
            if len((question := plain(example.input)).split()) >= FEWEST_WORDS
        ]

    def stands_in(self, text: str) -> bool:
        """True when the text holds a question and one of its answers, case and punctuation apart."""
        words = plain(text)
        return any(
            question in words and any(answer in words for answer in answers)
            for question, answers in self._pairs
        )
