"""When two short texts count as the same."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

QUOTES_AND_MARKS = "\"'`‘’‚‛“”„‟«»‹›*_"
ENDINGS = QUOTES_AND_MARKS + ".,;:!?…。，！？；："
BEGINNINGS = QUOTES_AND_MARKS + "¿¡"


def normalise(text: str) -> str:
    """NFKC, case folded, white space collapsed, quotes, emphasis and closing punctuation cut off both ends.

    Signs that carry meaning stay ("-5", "C++", ".5", "f(x)"); a text of nothing but such marks stays whole.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    return words.rstrip(ENDINGS + " ").lstrip(BEGINNINGS + " ") or words


def shown(text: str, length: int = 60) -> str:
    """The beginning of an answer for a message, with control characters made visible."""
    cut = text if len(text) <= length else text[:length] + "…"
    return ascii(cut) if any(0xD800 <= ord(ch) <= 0xDFFF for ch in cut) else repr(cut)


ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise_by(steps: Sequence[str], text: str) -> str:
    """The text after the declared steps, in their order; see ``task_metric.ExactOptions``."""
    if tuple(steps) == DEFAULT_STEPS:
        return normalise(text)
    for step in steps:
        text = STEPS[step](text)
    return text


def _without(category: str, text: str) -> str:
    return "".join(ch for ch in text if not unicodedata.category(ch).startswith(category))


def _without_accents(text: str) -> str:
    return unicodedata.normalize("NFC", _without("Mn", unicodedata.normalize("NFD", text)))


def _without_marks(text: str) -> str:
    return text.rstrip(ENDINGS + " ").lstrip(BEGINNINGS + " ") or text


DEFAULT_STEPS = ("unicode", "case", "spaces", "marks")
STEPS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "unicode": partial(unicodedata.normalize, "NFKC"),
        "case": str.casefold,
        "spaces": lambda text: " ".join(text.split()),
        "marks": _without_marks,
        "punctuation": partial(_without, "P"),
        "articles": partial(ARTICLES.sub, " "),
        "accents": _without_accents,
    }
)
