"""Well-formed XML, valid against an XSD, with required elements: without entities, documents or network.

Refused unread: a document type declaration (so no entity is ever expanded, no external one read) and a text
over MAX_BYTES. libxml2's own limits (depth 256, names, attributes) stay on.
"""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lxml import etree

from tunewise.errors import SettingError
from tunewise.forms.wording import visible

MAX_BYTES = 10 * 2**20
XS = "{http://www.w3.org/2001/XMLSchema}"
PROLOG = re.compile(r"[\s\ufeff]*+(?:<\?.*?\?>\s*+|<!--.*?-->\s*+)*+", re.DOTALL)


class NotXml(Exception):
    """Why a text is not accepted as XML, in words fit for the report. Never leaves the metric."""


class XmlForm:
    """A compiled XSD and required elements; either may be absent.

    required: paths of elements from the root, as ``order/item`` (namespaces are ignored); each must stand at
    least once. Raises SettingError where the XSD cannot be read or is itself invalid (line and reason), or
    names another document by URL.
    """

    def __init__(self, xsd: str | Path | None = None, required: Sequence[str] = ()) -> None:
        self.required = tuple(required)
        self._schema = None if xsd is None else _compiled(Path(xsd))
        self._lock = threading.Lock()  # a compiled schema keeps its errors on itself

    def parse(self, text: str) -> "etree._Element":
        """The root element. Raises NotXml."""
        if len(text) > MAX_BYTES:  # a character has a byte or more: refused before anything is copied
            raise NotXml(f"longer than {MAX_BYTES:,} bytes")
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError as wrong:
            raise NotXml(f"not XML: a lone surrogate at character {wrong.start}") from None
        if len(raw) > MAX_BYTES:
            raise NotXml(f"longer than {MAX_BYTES:,} bytes")
        prolog = PROLOG.match(text)
        if text[prolog.end() if prolog else 0 :][:9].upper() == "<!DOCTYPE":
            raise NotXml("a document type declaration (<!DOCTYPE) is not accepted")
        try:
            root = etree.fromstring(raw.strip(), _parser())
        except etree.XMLSyntaxError as wrong:
            line, column = wrong.position
            said = visible((wrong.msg or "").removesuffix(f", line {line}, column {column}"), 160)
            raise NotXml(f"not well-formed at line {line}, column {column}: {said}") from None
        document: Any = root.getroottree()
        if document.docinfo.doctype:  # one that the look above has missed
            raise NotXml("a document type declaration (<!DOCTYPE) is not accepted")
        return root

    def why_not(self, root: "etree._Element") -> str | None:
        """None where the document is valid and has the required elements, else where and why not."""
        if self._schema is not None:
            with self._lock:
                if not self._schema.validate(root):
                    log: Any = self._schema.error_log
                    first = log[0]
                    return f"line {first.line}: {visible(first.message, 200)}"
        absent = [path for path in self.required if not _has(root, path.strip("/").split("/"))]
        return f"required element missing: {', '.join(absent)}" if absent else None


def _has(root: "etree._Element", steps: Sequence[str]) -> bool:
    level = [root] if _local(root) == steps[0] else []
    for step in steps[1:]:
        level = [child for element in level for child in element if _local(child) == step]
    return bool(level)


def _local(element: "etree._Element") -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _parser() -> etree.XMLParser:
    """No entity is resolved and nothing is loaded; a text that names another encoding is UTF-8 still."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        encoding="utf-8",
    )


def _compiled(path: Path) -> etree.XMLSchema:
    _refuse_other_hosts(path, set())
    try:
        return etree.XMLSchema(
            etree.parse(str(path), etree.XMLParser(resolve_entities=False, no_network=True))
        )
    except etree.XMLSchemaParseError as wrong:
        first: Any = next(iter(wrong.error_log), None)
        where = f"line {first.line}: {first.message}" if first is not None else str(wrong)
        raise SettingError(f"{path}: not a valid XSD: {where}") from None


def _refuse_other_hosts(path: Path, seen: set[Path]) -> None:
    """Read an XSD and what it includes, all of them files; a URL or a missing file is refused."""
    if path in seen:
        return
    seen.add(path)
    try:
        root = etree.fromstring(path.read_bytes(), etree.XMLParser(resolve_entities=False, no_network=True))
    except OSError as error:
        raise SettingError(f"{path}: the XSD cannot be read: {error.strerror}") from None
    except etree.XMLSyntaxError as wrong:
        line, column = wrong.position
        raise SettingError(f"{path}: line {line}, column {column}: not XML: {wrong.msg}") from None
    document: Any = root.getroottree()
    if document.docinfo.doctype:
        raise SettingError(f"{path}: a document type declaration is not accepted; take it out")
    for name in ("include", "import", "redefine", "override"):
        for element in root.iter(XS + name):
            target = element.get("schemaLocation")
            if target is None:
                continue
            if "://" in target or target.startswith("//"):
                raise SettingError(
                    f"{path}: line {element.sourceline}: {target} is on another host and is never fetched; "
                    "keep a copy beside this file and name that"
                )
            _refuse_other_hosts((path.parent / target).resolve(), seen)
