"""Regular expressions in bounded time: whatever the pattern and the text, an answer or a refusal comes."""

import re
import warnings
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from tunewise.forms.bounded import bounded

LEADING_FLAGS = re.compile(r"\(\?[aimsux]+\)")


class Pattern:
    """A compiled regular expression, searched for anywhere in a text; ``whole``: matched from end to end.

    A pattern that the Rust engine of pydantic reads (all but look-around, back-references and a few
    spellings) runs in time linear in the text. The others run on Python's ``re`` in a helper process with a
    time limit. Lone surrogates in a text count as U+FFFD. Raises ValueError, saying what is wrong,
    where neither engine reads it.
    """

    def __init__(self, source: str, *, whole: bool = False) -> None:
        self.source = source
        flags = LEADING_FLAGS.match(source)
        head, rest = (flags.group(), source[flags.end() :]) if flags else ("", source)
        rest += "\n" if "x" in head else ""  # a remark at its end would swallow what follows
        linear = rf"{head}\A(?:{rest})\z" if whole else source
        self._python = rf"{head}\A(?:{rest})\Z" if whole else source
        self._linear = None if _reads_otherwise(source) else _linear(linear)
        if self._linear is None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # spellings that may change
                    re.compile(self._python)
            except (re.error, RecursionError, OverflowError) as wrong:
                raise ValueError(f"not a regular expression: {wrong}") from None

    @property
    def in_linear_time(self) -> bool:
        """Whether it runs on the engine that never backtracks."""
        return self._linear is not None

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches. Raises TookTooLong."""
        if self._linear is not None:
            return self._linear.isinstance_python(_encodable(text))
        return bool(bounded("search", self._python, text))


@lru_cache(maxsize=4096)
def pattern(source: str, whole: bool = False) -> Pattern:
    """The compiled pattern; the same source is compiled once. Raises ValueError."""
    return Pattern(source, whole=whole)


def _linear(source: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=source, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _reads_otherwise(source: str) -> bool:
    """Whether Rust would read a character class as set arithmetic where others read plain characters."""
    inside = escaped = False
    for place, sign in enumerate(source):
        if escaped:
            escaped = False
        elif sign == "\\":
            escaped = True
        elif inside and (sign == "[" or source[place : place + 2] in ("&&", "--", "~~")):
            return True
        elif sign == "[":
            inside = True
        elif sign == "]":
            inside = False
    return "(?x" in source


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text
