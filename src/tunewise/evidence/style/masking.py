"""Content words masked, so that a voice is told by how it speaks and not by what it speaks of.

After Stamatatos, "Authorship Attribution Using Text Distortion", EACL 2017, section 3 (view DV-MA): words
outside a list of frequent ones become asterisks. Here the list is the closed classes of a language, a masked
word keeps its capitals and its inflection, and its length in three classes, since those are style as well.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tunewise.evidence.style.function_words import FUNCTION_WORDS

WORD = re.compile(r"'?[^\W\d_]+(?:['’][^\W\d_]+)*")
NUMBER = re.compile(r"\d+")
ENDINGS = ("ing", "eth", "est", "ly", "ed", "'s", "s", "in'")
ENGLISH_SHARE = 0.30  # of all words; running English has 0.45 to 0.60 of them in its closed classes
COMMON_SHARE = 0.10  # of the texts of each side: a word so common on both is grammar, whatever the language
MOST_COMMON = 150


def words(text: str) -> list[str]:
    """The words of a text in lower case, contractions whole; digits and marks are none."""
    return [match.replace("’", "'") for match in WORD.findall(text.casefold())]


def kept_words(reference: Sequence[str], base: Sequence[str]) -> tuple[frozenset[str], str]:
    """The words that are not masked, and in words where they come from.

    The closed classes of English where they make up at least 30 % of the words of both sides; else the
    words, at most 150, that stand in at least 10 % of the texts of both sides. A word of one side alone
    would be topic as likely as voice.
    """
    shares = [_share(side, FUNCTION_WORDS) for side in (reference, base)]
    if min(shares) >= ENGLISH_SHARE:
        return FUNCTION_WORDS, "the closed classes of English"
    left, right = _document_shares(reference), _document_shares(base)
    both = {word: min(share, right[word]) for word, share in left.items() if word in right}
    ranked = sorted((w for w, share in both.items() if share >= COMMON_SHARE), key=lambda w: (-both[w], w))
    return frozenset(ranked[:MOST_COMMON]), "words common on both sides (the texts are not English)"


def mask(text: str, kept: frozenset[str]) -> str:
    """The text with every other word as asterisks and every number as ``0``; spaces in one kind.

    With ``the`` and ``were`` kept, "The merry Pirates were singing 12 songs!" becomes
    "The *** ^****s were ***ing 0 ***s!": ``^`` is a capital, the asterisks are 2, 3 to 5 or more letters.
    """
    text = NUMBER.sub("0", text.replace("’", "'"))
    return " ".join(WORD.sub(lambda match: _masked(match.group(), kept), text).split())


def _masked(word: str, kept: frozenset[str]) -> str:
    lower = word.casefold()
    if lower in kept:
        return word
    ending = next((e for e in ENDINGS if lower.endswith(e) and len(lower) > len(e) + 2), "")
    stem = len(lower) - len(ending)
    stars = "**" if stem <= 2 else "***" if stem <= 5 else "****"
    first = "^" if word[:1].isupper() else ""
    return ("^^" if len(word) > 1 and word.isupper() else first) + stars + ending


def _share(texts: Iterable[str], known: frozenset[str]) -> float:
    counted = Counter(word for text in texts for word in words(text))
    total = counted.total()
    return sum(count for word, count in counted.items() if word in known) / total if total else 0.0


def _document_shares(texts: Sequence[str]) -> dict[str, float]:
    counted = Counter(word for text in texts for word in set(words(text)))
    return {word: count / len(texts) for word, count in counted.items()}
