"""``token_f1``: overlap of words, as in SQuAD."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score

ARTICLES = re.compile(r"\b(a|an|the)\b")


def token_f1(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """F1 of the bags of words of answer and reference: 2 * common / (words in answer + words in reference).

    Words as in the SQuAD evaluation script (Rajpurkar et al. 2016, EMNLP, section 6.1): lower case,
    punctuation dropped, English articles dropped; here after NFKC, and with the punctuation of all
    scripts. Two texts without any word have F1 1 (as in SQuAD 2.0), one without has 0.
    """
    said = Counter(words(answer))
    return Score(
        "scored", max((_f1(said, Counter(words(reference_text(r)))) for r in references), default=0.0)
    )


class _Bare(dict[int, int | None]):
    """What becomes of each character: punctuation is dropped. Filled as characters are met."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        dropped = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = None if dropped else code
        return self[code]


BARE = _Bare()


def words(text: str) -> list[str]:
    """The words of a text: folded, without punctuation and articles."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return ARTICLES.sub(" ", folded.translate(BARE)).split()


def _f1(said: Counter[str], right: Counter[str]) -> float:
    total = said.total() + right.total()
    return 2 * (said & right).total() / total if total else 1.0
