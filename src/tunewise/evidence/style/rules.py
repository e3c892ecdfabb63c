"""Declared surface rules of a voice: what must or must not stand in a text, whatever the classifier says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewise.evidence.style.masking import words

SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|\n+")
CONTRACTION = re.compile(
    r"\b(?:[a-z]+n['’]t|(?:i|you|he|she|it|we|they|who|that|there|what|where|how|let|here)['’](?:m|re|ve|ll|d|s))\b",
    re.IGNORECASE,
)
GREETING = re.compile(
    r"^\W*(?:hi|hello|hey|dear|howdy|welcome|greetings|good (?:morning|afternoon|evening|day))(?: there)?,?"
    r"\s+(?!there\b|all\b|everyone\b)(?-i:[^\W\d_a-z])[^\W\d_]+",
    re.IGNORECASE,
)
VOWELS = re.compile(r"[aeiouy]+")

Contractions = Literal["always", "never"]


@dataclass(frozen=True, slots=True)
class SurfaceRules:
    """What a voice asks for. Each is None (or empty) where nothing is asked.

    banned: words or phrases, whole, whatever their case. contractions: ``always``: at least one; ``never``:
    none. sentence_words: most words of a sentence, on the mean of the text. greeting_by_name: the text
    opens with a greeting and a name. reading_grade: highest Flesch-Kincaid grade.
    """

    banned: tuple[str, ...] = ()
    contractions: Contractions | None = None
    sentence_words: float | None = None
    greeting_by_name: bool | None = None
    reading_grade: float | None = None

    def broken(self, text: str) -> list[str]:
        """The rules that a text breaks, in words; empty when it keeps them all."""
        found = [f"banned: {phrase!r}" for phrase in self.banned if _stands(phrase, text)]
        contracted = CONTRACTION.search(text)
        if self.contractions == "never" and contracted:
            found.append(f"contractions: {contracted.group()!r}, where none is wanted")
        if self.contractions == "always" and not contracted:
            found.append("contractions: none, where they are wanted")
        length = sentence_words(text)
        if self.sentence_words is not None and length is not None and length > self.sentence_words:
            found.append(f"sentence_words: {length:.1f} on the mean, at most {self.sentence_words:g}")
        if self.greeting_by_name is not None and bool(GREETING.search(text)) != self.greeting_by_name:
            found.append("greeting_by_name: " + ("missing" if self.greeting_by_name else "not wanted"))
        grade = reading_grade(text)
        if self.reading_grade is not None and grade is not None and grade > self.reading_grade:
            found.append(f"reading_grade: {grade:.1f}, at most {self.reading_grade:g}")
        return found

    @property
    def asked(self) -> bool:
        """Whether any rule is declared."""
        return self != SurfaceRules()


def sentences(text: str) -> list[str]:
    """Sentences: split after . ! ? and at line ends; pieces without a word are none."""
    return [piece for piece in SENTENCE_END.split(text) if words(piece)]


def sentence_words(text: str) -> float | None:
    """Mean words of a sentence; None without a word."""
    found = sentences(text)
    return sum(len(words(s)) for s in found) / len(found) if found else None


def reading_grade(text: str) -> float | None:
    """Flesch-Kincaid grade, 0.39 words/sentences + 11.8 syllables/words - 15.59; None without a word.

    Kincaid, Fishburne, Rogers & Chissom, Naval Technical Training report 8-75, 1975. English; syllables
    are counted by groups of vowels.
    """
    found = words(text)
    if not found:
        return None
    count = sum(map(syllables, found))
    return 0.39 * len(found) / len(sentences(text)) + 11.8 * count / len(found) - 15.59


def syllables(word: str) -> int:
    """Groups of vowels, without a silent final e (but of -le); at least 1."""
    bare = word.casefold().replace("'", "")
    count = len(VOWELS.findall(bare))
    if bare.endswith("e") and not bare.endswith(("le", "ee", "ye")) and count > 1:
        count -= 1
    return max(1, count)


def kept_share(rules: SurfaceRules, texts: Sequence[str]) -> float | None:
    """Share of texts that keep all rules; None without texts or rules."""
    if not texts or not rules.asked:
        return None
    return sum(not rules.broken(text) for text in texts) / len(texts)


def _stands(phrase: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None
