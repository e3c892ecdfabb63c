"""All forms that a task declares for its outputs, each ready to check with."""

from dataclasses import dataclass

from tunewise.forms.json_schema import JsonSchema


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What ``output`` of a task file declares, compiled once and shared by all answers; None: not declared.

    In code: ``OutputSpec(json_schema=JsonSchema(schema))``; from a task: ``task.output.spec()``.
    """

    json_schema: JsonSchema | None = None
    choices: tuple[str, ...] | None = None
