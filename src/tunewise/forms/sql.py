"""SQL that parses in a dialect, by sqlglot (extra ``sql``)."""

import importlib.util
from dataclasses import dataclass

from tunewise.errors import SettingError
from tunewise.forms.bounded import bounded
from tunewise.forms.wording import visible
from tunewise.marked_yaml import nearest

MAX_LENGTH = 20_000  # characters
MAX_DEPTH = 200  # of parentheses
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SqlForm:
    """dialect: a name that sqlglot knows (``postgres``, ``sqlite``, ...); "" is its own tolerant one.

    Raises SettingError where sqlglot is not installed, or does not know the dialect.
    """

    dialect: str = ""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("sqlglot") is None:
            raise SettingError("checking SQL needs sqlglot; run: pip install 'tunewise[sql]'")
        from sqlglot.dialects.dialect import Dialects

        known = [one.value for one in Dialects]
        if self.dialect not in known:
            names = ", ".join(name for name in known if name)
            raise SettingError(
                f"unknown SQL dialect {self.dialect!r}{nearest(self.dialect, known)}; use one of {names}"
            )

    def why_not(self, text: str) -> str | None:
        """None where every statement of the text parses, else where and why not. Raises TookTooLong."""
        if not text.strip():
            return "there is no statement"
        if len(text) > MAX_LENGTH:
            return f"longer than {MAX_LENGTH:,} characters"
        if text.count("(") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
            return f"parentheses nested deeper than {MAX_DEPTH}"
        found = bounded("sql", text, self.dialect, seconds=SECONDS)
        return None if found is None else visible(str(found), 200)


def _depth(text: str) -> int:
    deepest = depth = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        deepest = max(deepest, depth)
    return deepest
