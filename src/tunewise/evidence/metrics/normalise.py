"""When two short texts count as the same."""

import unicodedata

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
