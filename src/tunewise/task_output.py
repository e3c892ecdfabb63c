"""``output`` in the task file: the declared forms of an answer.

    output: {json_schema: ticket.schema.json}
    output: {json_schema: {file: ticket.schema.json, assert_format: true}}
    output: {xml_schema: {file: order.xsd, required: [order/item]}}
    output: {markdown: {sections: [Subjective, Objective], tables: [[Drug, Dose]], code: [python]}}
    output: {regex: "[A-Z]{2}-[0-9]{4}", sql: postgres, choices: [billing, sales]}

A form that is itself wrong (an invalid schema, a pattern that does not compile) is a mistake of the file.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tunewise.errors import SettingError
from tunewise.marked_yaml import Lines
from tunewise.task_fields import DataFile, Section, Text, a_text, mistake
from tunewise.task_mistakes import shown

if TYPE_CHECKING:
    from tunewise.forms import OutputSpec

EXAMPLES = {
    "json_schema": "{json_schema: answer.schema.json}",
    "xml_schema": "{xml_schema: answer.xsd}",
    "markdown": "{markdown: {sections: [Findings, Plan]}}",
    "regex": "{regex: '[A-Z]{2}-[0-9]{4}'}",
    "sql": "{sql: postgres}",
    "choices": "{choices: [billing, sales]}",
}
FORM_KEYS = tuple(EXAMPLES)


def _choice(value: object) -> object:
    """A choice as the user wrote it: numbers and true/false are taken as their text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else a_text(value)


def _a_file(value: object) -> object:
    """``json_schema: FILE`` as ``json_schema: {file: FILE}``."""
    return {"file": value} if isinstance(value, str | Path) else value


def _a_heading(value: object) -> object:
    text = str(a_text(value))
    level = len(text) - len(text.lstrip("#"))
    if not 1 <= level <= 6 or not text[level:].strip() or text[level] != " ":
        raise mistake(f"a heading as in '## Findings' was expected, got {shown(text)}")
    return text


Choice = Annotated[str, BeforeValidator(_choice)]


class JsonSchemaFile(Section):
    """The file with the schema. assert_format: whether ``format`` in it is asserted, or a remark."""

    file: DataFile
    assert_format: bool = False


class XmlSchemaFile(Section):
    """An XSD, required elements as paths from the root (``order/item``), or both."""

    file: DataFile | None = None
    required: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _something(self) -> "XmlSchemaFile":
        if self.file is None and not self.required:
            raise mistake("nothing is asked for; name an XSD (file), required elements (required), or both")
        return self


class MarkdownStructure(Section):
    """Headings with their level in order, sections by name, columns of tables, languages of code, lists."""

    headings: tuple[Annotated[str, BeforeValidator(_a_heading)], ...] = ()
    sections: tuple[Text, ...] = ()
    tables: tuple[Annotated[tuple[Text, ...], Field(min_length=1)], ...] = ()
    code: tuple[Text, ...] = ()
    lists: tuple[Literal["bullet", "ordered", "task"], ...] = ()

    @model_validator(mode="after")
    def _something(self) -> "MarkdownStructure":
        if not any((self.headings, self.sections, self.tables, self.code, self.lists)):
            raise mistake("nothing is asked for; name headings, sections, tables, code or lists")
        return self


class Output(Section):
    """What a right answer looks like: forms that it must have, and the closed set it comes from."""

    json_schema: Annotated[JsonSchemaFile, BeforeValidator(_a_file)] | None = None
    xml_schema: Annotated[XmlSchemaFile, BeforeValidator(_a_file)] | None = None
    markdown: MarkdownStructure | None = None
    regex: Text | None = None
    sql: Text | None = None
    choices: Annotated[tuple[Choice, ...], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _differ(self) -> "Output":
        twice = [choice for choice, count in Counter(self.choices or ()).items() if count > 1]
        if twice:
            raise mistake(f"the choice {shown(twice[0])} stands twice; keep one")
        from tunewise.evidence.metrics.normalise import normalise  # the metrics import the task's parts

        known: dict[str, str] = {}
        for choice in self.choices or ():
            if (other := known.setdefault(normalise(choice), choice)) != choice:
                raise mistake(
                    f"the choices {shown(other)} and {shown(choice)} count as the same answer (case, quotes, "
                    "emphasis and closing punctuation do not count); rename one"
                )
        return self

    def spec(self) -> "OutputSpec":
        """The forms, compiled once for equal sections. Raises SettingError where one is itself wrong."""
        return _compiled(self, *(_content(path) for path in self.files()))

    def files(self) -> tuple[Path, ...]:
        """The files that the forms stand in."""
        named = [part.file for part in (self.json_schema, self.xml_schema) if part is not None]
        return tuple(path for path in named if path is not None)

    def settings(self) -> dict[str, Any]:
        """All settings as JSON values; a file stands for its content by SHA-256."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        for key in ("json_schema", "xml_schema"):
            part = getattr(self, key)
            if part is not None and part.file is not None:
                plain[key]["file"] = _content(part.file)
        return plain


def output_mistakes(document: Mapping[str, Any], lines: Lines, folder: Path) -> list[tuple[int, str]]:
    """What is wrong with the forms themselves, and a metric without its form: line and message."""
    given, metric = document.get("output"), document.get("metric")
    found: list[tuple[int, str]] = []
    if metric in FORM_KEYS and not (isinstance(given, dict) and given.get(metric) is not None):
        text = f"metric: {metric} needs its form; add for example 'output: {EXAMPLES[metric]}'"
        found.append((lines.at(("metric",)), text))
    try:
        output = Output.model_validate(given, context={"folder": folder})
    except ValidationError:  # told with the other sections
        return found
    for key in FORM_KEYS:
        try:
            if getattr(output, key) is not None:
                _form(output, key)
        except SettingError as wrong:
            found.append((lines.at(("output", key)), f"output.{key}: {wrong}"))
    return found


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _compiled(output: Output, *contents: str) -> "OutputSpec":
    from tunewise.forms import OutputSpec

    forms = {key: _form(output, key) for key in FORM_KEYS if getattr(output, key) is not None}
    return OutputSpec(**forms)


def _form(output: Output, key: str) -> Any:
    """One compiled form. The checkers are loaded here, so that a task without forms loads none."""
    declared: Any = getattr(output, key)
    if key == "json_schema":
        from tunewise.forms.json_schema import JsonSchema

        return JsonSchema.read(declared.file, assert_format=declared.assert_format)
    if key == "xml_schema":
        from tunewise.forms.xml_schema import XmlForm

        return XmlForm(declared.file, declared.required)
    if key == "markdown":
        return _markdown(declared)
    if key == "regex":
        from tunewise.forms.patterns import pattern

        try:
            pattern(declared, whole=True)
            return pattern(declared)
        except ValueError as wrong:
            raise SettingError(str(wrong)) from None
    if key == "sql":
        from tunewise.forms.sql import SqlForm

        return SqlForm(declared)
    return declared


def _markdown(declared: MarkdownStructure) -> Any:
    from tunewise.forms.markdown import Heading, MarkdownForm

    split = [text.split(" ", 1) for text in declared.headings]
    return MarkdownForm(
        headings=tuple(Heading(len(marks), words.strip()) for marks, words in split),
        sections=declared.sections,
        tables=declared.tables,
        code=declared.code,
        lists=declared.lists,
    )
