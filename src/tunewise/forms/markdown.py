"""The declared structure of a Markdown text, checked on markdown-it-py's tree (CommonMark and tables)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.common.utils import unescapeAll
from markdown_it.token import Token

from tunewise.forms.wording import visible

MAX_LENGTH = 200_000  # characters; a longer text is refused, since some texts take quadratic time
MAX_INLINE = 1_000  # characters of a heading or cell whose emphasis is read; a longer one stays as written
LIST_KINDS = ("bullet", "ordered", "task")


@dataclass(frozen=True, slots=True)
class Heading:
    """level: 1 to 6. text: without emphasis. filled: whether anything but headings stands below it."""

    level: int
    text: str
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Structure:
    """What stands in a Markdown text, in order: headings, columns of tables, languages of code, lists."""

    headings: tuple[Heading, ...] = ()
    tables: tuple[tuple[str, ...], ...] = ()
    code: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkdownForm:
    """What is asked of a text. Comparisons ignore case, outer white space, emphasis and a closing colon.

    headings: level and text, in this order (others may stand between). sections: texts of headings of any
    level, in this order, each with something below it. tables: the columns of tables that must be there.
    code: languages of fenced code that must be there. lists: ``bullet``, ``ordered``, ``task``.
    """

    headings: tuple[Heading, ...] = ()
    sections: tuple[str, ...] = ()
    tables: tuple[tuple[str, ...], ...] = ()
    code: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    def wanting(self, text: str) -> list[str]:
        """What is missing, in words, empty where the text has all that is asked of it."""
        if len(text) > MAX_LENGTH:
            return [f"longer than {MAX_LENGTH:,} characters"]
        there = structure(text)
        lines, _ = _in_order(
            [f"{'#' * h.level} {_folded(h.text)}" for h in self.headings],
            [f"{'#' * h.level} {_folded(h.text)}" for h in there.headings],
            "heading",
        )
        texts = [_folded(h.text) for h in there.headings]
        more, places = _in_order([_folded(s) for s in self.sections], texts, "section")
        lines += more
        lines += [
            f"section '{section}' is empty"
            for section, place in zip(self.sections, places, strict=True)
            if place is not None and not there.headings[place].filled
        ]
        columns = [tuple(map(_folded, table)) for table in there.tables]
        for table in self.tables:
            if tuple(map(_folded, table)) not in columns:
                seen = "; there is one with " + ", ".join(map(visible, there.tables[0])) if columns else ""
                lines.append(f"no table with the columns {', '.join(table)}{seen}")
        languages = [_folded(language) for language in there.code]
        for language in self.code:
            if _folded(language) not in languages:
                seen = f"; the code is in {', '.join(visible(c or '(none named)') for c in there.code[:3])}"
                lines.append(f"no fenced code in {language}{seen if languages else ''}")
        return lines + [f"no {kind} list" for kind in self.lists if kind not in there.lists]

    def asked(self) -> int:
        """How many things are asked for."""
        return sum(len(part) for part in (self.headings, self.sections, self.tables, self.code, self.lists))


def structure(text: str) -> Structure:
    """The structure of a text. Inline marks are read only where headings and cells need it."""
    found = _Found()
    tokens = _parser().parse(text)
    for place, token in enumerate(tokens):
        found.take(token, tokens, place)
    ends = [*(at for _, _, at in found.headings[1:]), len(tokens)]
    headings = tuple(
        Heading(level, words, _filled(tokens, at, until))
        for (level, words, at), until in zip(found.headings, ends, strict=False)
    )
    return Structure(
        _with_filled_below(headings), tuple(map(tuple, found.tables)), tuple(found.code), tuple(found.lists)
    )


@dataclass
class _Found:
    """What was met while walking the tokens."""

    headings: list[tuple[int, str, int]] = field(default_factory=list)
    tables: list[list[str]] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)

    def take(self, token: Token, tokens: Sequence[Token], place: int) -> None:
        if token.type == "heading_open":
            self.headings.append((int(token.tag[1]), _plain(tokens[place + 1].content), place))
        elif token.type == "table_open":
            self.tables.append([])
        elif token.type == "th_open":
            self.tables[-1].append(_plain(tokens[place + 1].content))
        elif token.type == "fence":
            self.code.append((unescapeAll(token.info).split() or [""])[0])
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            self.lists.append(token.type.removesuffix("_list_open"))
        elif token.type == "list_item_open" and tokens[place + 2].content[:4].lower() in ("[ ] ", "[x] "):
            self.lists.append("task")  # as GitHub writes them: a paragraph that begins with a box


def _filled(tokens: Sequence[Token], at: int, until: int) -> bool:
    """Whether anything is said between a heading and the next one."""
    return any(t.content.strip() or t.type == "hr" for t in tokens[at + 3 : until])


def _with_filled_below(headings: tuple[Heading, ...]) -> tuple[Heading, ...]:
    """A heading is filled too where one of a deeper level below it is."""
    done: list[Heading] = []
    for heading in reversed(headings):
        below = done[-1] if done else None
        inherits = below is not None and below.level > heading.level and below.filled
        done.append(Heading(heading.level, heading.text, heading.filled or inherits))
    return tuple(reversed(done))


def _in_order(wanted: Sequence[str], there: Sequence[str], kind: str) -> tuple[list[str], list[int | None]]:
    """Which of ``wanted`` are missing from ``there`` or stand before the one wanted before them, in words;
    and where each stands, None where it does not.

    Others may stand between, the same ones again included: each is looked for behind the one before it.
    """
    lines: list[str] = []
    places: list[int | None] = []
    end, before = 0, ""
    for text in wanted:
        if text in there[end:]:
            end, before = there.index(text, end) + 1, text
            places.append(end - 1)
            continue
        elsewhere = [place for place, found in enumerate(there) if found == text and place not in places]
        lines.append(f"{kind} '{text}' " + (f"stands before '{before}'" if elsewhere else "is missing"))
        places.append(elsewhere[0] if elsewhere else None)
    return lines, places


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(": ")


def _plain(content: str) -> str:
    """Inline content without its marks."""
    if len(content) > MAX_INLINE:
        return content
    found = _inline().parseInline(content)
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for token in found
        for child in token.children or ()
        if child.type != "html_inline"
    ).strip()


@cache
def _inline() -> MarkdownIt:
    return MarkdownIt("commonmark")


@cache
def _parser() -> MarkdownIt:
    """CommonMark with tables; block structure only, inline content is read on demand."""
    made = MarkdownIt("commonmark").enable("table")
    made.core.ruler.enableOnly(["normalize", "block"])
    return made
