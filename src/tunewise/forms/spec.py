"""All forms that a task declares for its outputs, each ready to check with."""

from dataclasses import dataclass

from tunewise.forms.json_schema import JsonSchema
from tunewise.forms.markdown import MarkdownForm
from tunewise.forms.patterns import Pattern
from tunewise.forms.sql import SqlForm
from tunewise.forms.xml_schema import XmlForm


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What ``output`` of a task file declares, compiled once and shared by all answers; None: not declared.

    In code: ``OutputSpec(json_schema=JsonSchema(schema))``; from a task: ``task.output.spec()``.
    """

    json_schema: JsonSchema | None = None
    xml_schema: XmlForm | None = None
    markdown: MarkdownForm | None = None
    regex: Pattern | None = None
    sql: SqlForm | None = None
    choices: tuple[str, ...] | None = None
