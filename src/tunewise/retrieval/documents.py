"""Reading documents: a folder of Markdown, text, HTML, PDF and JSONL files, or one such file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

from tunewise.errors import DataError
from tunewise.formats import refuse_half_pair
from tunewise.retrieval.pdf import pdf_to_markdown

MARKDOWN = (".md", ".markdown")
TEXT = (".txt", ".text", ".rst")
HTML = (".html", ".htm")
PDF = ".pdf"
READABLE = (*MARKDOWN, *TEXT, *HTML, PDF, ".jsonl")

DocumentKind = Literal["markdown", "text", "row"]


@dataclass(frozen=True, slots=True)
class Document:
    """One text to be cut into chunks.

    id: path below the documents folder (with /), or a row's own id. kind: how it is cut; HTML and PDF become
    ``markdown``. head: a row's other fields as "key: value" pairs, empty for files.
    """

    id: str
    text: str
    kind: DocumentKind
    head: str = ""


@dataclass(frozen=True, slots=True)
class ReadDocuments:
    """documents: in order of path and line. ignored: files of kinds that are not read, for a note."""

    documents: tuple[Document, ...]
    ignored: tuple[str, ...]


def read_documents(path: Path) -> ReadDocuments:
    """All documents at ``path``, a folder (searched through, hidden names left out) or one file.

    Raises DataError for a missing path, a folder without text, a PDF that is broken, locked or scanned, a
    wrong encoding, a broken row, and two documents with one id.
    """
    if not path.exists():
        raise DataError(f"{path}: expected a folder of documents or one file, but it does not exist")
    files = [path] if path.is_file() else _files_below(path)
    base = path.parent if path.is_file() else path
    documents: list[Document] = []
    ignored: list[str] = []
    for file in files:
        name = file.relative_to(base).as_posix()
        if file.suffix.lower() not in READABLE:
            ignored.append(name)
            continue
        documents.extend(_read_file(file, name))
    documents = [document for document in documents if document.text.strip()]
    if not documents:
        raise DataError(
            f"{path}: no documents with text in it; expected files ending in {', '.join(READABLE)}"
            + (f" (found only {', '.join(ignored[:5])})" if ignored else "")
        )
    _refuse_double_ids(path, documents)
    return ReadDocuments(tuple(documents), tuple(ignored))


def _files_below(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    visible = (f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    return sorted(visible, key=lambda file: file.relative_to(folder).as_posix())


def _refuse_double_ids(path: Path, documents: list[Document]) -> None:
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise DataError(f"{path}: two documents have the id {document.id!r}; give each row its own id")
        seen.add(document.id)


def _read_file(file: Path, name: str) -> Iterator[Document]:
    suffix = file.suffix.lower()
    if suffix == PDF:
        yield Document(name, pdf_to_markdown(file), "markdown")
        return
    text = _decoded(file)
    if suffix == ".jsonl":
        yield from _rows(file, text)
    elif suffix in HTML:
        yield Document(name, html_to_markdown(text), "markdown")
    else:
        yield Document(name, text, "markdown" if suffix in MARKDOWN else "text")


def _decoded(file: Path) -> str:
    raw = file.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}: expected UTF-8, but byte 0x{raw[error.start]:02x} in line {line} is none; "
            "save the file as UTF-8"
        ) from error


def _rows(file: Path, text: str) -> Iterator[Document]:
    # not splitlines(): it would also cut at U+2028 and the like inside JSON strings
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}:{number}: not a line of JSON ({error}); mend or remove it") from error
        yield _row_document(file, number, row)


def _row_document(file: Path, number: int, row: Any) -> Document:
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(f'{file}:{number}: expected {{"id": ..., "text": "...", ...}}, but "text" is missing')
    id_key = next((key for key in ("id", "doc_id") if key in row), None)
    if id_key is None or not isinstance(row[id_key], str | int):
        raise DataError(f'{file}:{number}: expected an "id" (or "doc_id"), a string or a whole number')
    refuse_half_pair(json.dumps(row, ensure_ascii=False), f"{file}:{number}")
    others = {key: value for key, value in row.items() if key not in (id_key, "text")}
    head = "; ".join(
        f"{key}: {_said(value)}" for key, value in others.items() if value not in (None, "", [], {})
    )
    return Document(str(row[id_key]), row["text"], "row", head)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def html_to_markdown(html: str) -> str:
    """The words of a page with its headings as Markdown headings; scripts, styles and menus left out."""
    reader = _PageReader()
    reader.feed(html)
    reader.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(reader.pieces)).strip() + "\n"


class _PageReader(HTMLParser):
    """Collects text; block elements become paragraphs, h1 to h6 become # to ######."""

    SILENT = frozenset({"script", "style", "nav", "template", "noscript", "svg", "title"})
    BLOCKS = frozenset(
        {
            *("p", "div", "section", "article", "header", "footer", "main", "figure", "form", "pre"),
            *("table", "tr", "ul", "ol", "dl", "dt", "dd", "blockquote"),
        }
    )
    HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.SILENT:
            self._silent += 1
        elif tag in self.HEADINGS:
            self.pieces.append("\n\n" + "#" * int(tag[1]) + " ")
        elif tag in self.BLOCKS:
            self.pieces.append("\n\n")
        elif tag == "li":
            self.pieces.append("\n- ")
        elif tag == "br":
            self.pieces.append("\n")
        elif tag in ("td", "th"):
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in self.HEADINGS or tag in self.BLOCKS:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        words = re.sub(r"\s+", " ", data)
        if words == " " and (not self.pieces or self.pieces[-1].endswith(("\n", " "))):
            return
        self.pieces.append(words.lstrip() if self.pieces and self.pieces[-1].endswith("\n") else words)
