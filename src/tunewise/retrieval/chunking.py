"""Cutting documents where their own structure cuts them: headings first, then paragraphs."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tunewise.retrieval.documents import Document

MAX_CHARS = 1000  # about 220 tokens of English: five such chunks still leave room in a small window
MAX_ROW_CHARS = 2000  # a row was cut by its maker; it is only cut again when it is long

_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-{3,})\s*$")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage that can be found and shown.

    id: ``document#heading-slug``, with ``/2``, ``/3`` for later pieces of a long section.
    head: where it stands (titles from the outside in, or the row's fields); may be empty.
    """

    id: str
    document: str
    head: str
    text: str

    @property
    def shown(self) -> str:
        """The passage as a prompt shows it."""
        return f"{self.head}\n{self.text}" if self.head else self.text

    @property
    def searched(self) -> str:
        """The passage as the index reads it: its id is searched too, since paths and names carry meaning."""
        return f"{self.id}\n{self.shown}"

    def is_of(self, passage: str) -> bool:
        """Whether a row that names ``passage`` means this chunk: by its id, its section or its document."""
        return passage in (self.id, self.document) or self.id.startswith((f"{passage}/", f"{passage}#"))


def chunk_document(document: Document) -> list[Chunk]:
    """The chunks of one document, in order; none is longer than the limit, none is empty."""
    if document.kind == "row" and len(document.text) <= MAX_ROW_CHARS:
        return [Chunk(document.id, document.id, document.head, document.text.strip())]
    if document.kind == "text":
        return _pieces(document.id, document.id, document.head, document.text)
    chunks: list[Chunk] = []
    slugs: dict[str, int] = {}
    for titles, body in _sections(document.text):
        if not body.strip():
            continue
        name = f"{document.id}#{_unused(slugs, slug_of(titles[-1]))}" if titles else document.id
        head = " > ".join(([document.head] if document.head else []) + titles)
        chunks.extend(_pieces(name, document.id, head, body))
    return chunks


def slug_of(title: str) -> str:
    """A heading as it stands in links: lower case, punctuation dropped, spaces as hyphens (GitHub's rule)."""
    words = unicodedata.normalize("NFKC", title).lower().strip()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", words))


def _unused(slugs: dict[str, int], slug: str) -> str:
    """``slug`` the first time, then ``slug-1``, ``slug-2``."""
    times = slugs.get(slug, 0)
    slugs[slug] = times + 1
    return slug if times == 0 else f"{slug}-{times}"


def _sections(text: str) -> Iterator[tuple[list[str], str]]:
    """(titles from the outside in, body) of every section; text before the first heading has no titles."""
    titles: list[tuple[int, str]] = []
    body: list[str] = []
    fence = ""
    for line in _without_front_matter(text).splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence else _heading(line, body)
        if heading is None:
            body.append(line)
            continue
        level, title, underlined = heading
        yield [t for _, t in titles], "\n".join(body[:-1] if underlined else body)
        titles = [(lv, t) for lv, t in titles if lv < level] + [(level, title)]
        body = []
    yield [t for _, t in titles], "\n".join(body)


def _heading(line: str, body: list[str]) -> tuple[int, str, bool] | None:
    """(level, title, whether the title is the line before) when this line makes a heading."""
    if match := _HEADING.match(line):
        return len(match[1]), match[2], False
    above = body[-1].strip() if body else ""
    alone = above and (len(body) == 1 or not body[-2].strip())
    if alone and (match := _UNDERLINE.match(line)) and not above.startswith(("-", "|", ">")):
        return (1 if match[1].startswith("=") else 2), above, True
    return None


def _without_front_matter(text: str) -> str:
    if not text.startswith("---\n"):
        return text
    end = text.find("\n---\n", 3)
    return text if end < 0 else text[end + 5 :]


def _pieces(name: str, document: str, head: str, body: str) -> list[Chunk]:
    """A section as one chunk, or as several, cut between paragraphs, then sentences, then anywhere."""
    packed = _packed(re.split(r"\n\s*\n", body.strip()), "\n\n")
    return [
        Chunk(name if number == 1 else f"{name}/{number}", document, head, text)
        for number, text in enumerate(packed, start=1)
    ]


def _packed(parts: list[str], joint: str) -> list[str]:
    """Parts joined in order as long as the limit allows; a part that is too long alone is cut further."""
    packed: list[str] = []
    for part in (p.strip() for p in parts):
        if not part:
            continue
        for piece in [part] if len(part) <= MAX_CHARS else _cut(part):
            if packed and len(packed[-1]) + len(joint) + len(piece) <= MAX_CHARS:
                packed[-1] += joint + piece
            else:
                packed.append(piece)
    return packed


def _cut(paragraph: str) -> list[str]:
    lines = paragraph.split("\n")
    if len(lines) > 1:
        return _packed(lines, "\n")
    sentences = _SENTENCE_END.split(paragraph)
    if len(sentences) > 1:
        return _packed(sentences, " ")
    return [paragraph[start : start + MAX_CHARS] for start in range(0, len(paragraph), MAX_CHARS)]
