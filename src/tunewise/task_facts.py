"""The task file's ``advice`` section: facts that nothing else in the file can say."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from tunewise.advice.facts import FactsFile, facts_of, shown_value
from tunewise.marked_yaml import Lines
from tunewise.task_mistakes import shown

SECTION = ("advice",)


def _checked(value: Any) -> dict[str, Any]:
    """The section as it stands, once every value in it is a fact's."""
    problems: list[tuple[int, str]] = []
    if not isinstance(value, Mapping):
        problems.append((1, f"a section of facts was expected, got {shown(value)}"))
    else:
        facts_of(value, Lines(), problems, ())
    if problems:
        raise PydanticCustomError("mistake", "{text}", {"text": "; ".join(text for _, text in problems)})
    return dict(value)


AdviceSection = Annotated[dict[str, Any], BeforeValidator(_checked)]


def declared(section: Mapping[str, Any] | None) -> FactsFile:
    """The facts of a checked section; all unknown without one."""
    return facts_of(section or {}, Lines(), [], ())


def advice_problems(document: dict[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """Mistakes of the section, and what it says against the rest of the task file, each with its line.

    A section with mistakes is taken out of the document: they are reported here, key by key.
    """
    section = document.get("advice")
    if not isinstance(section, Mapping):
        return []
    problems: list[tuple[int, str]] = []
    facts = facts_of(section, lines, problems, SECTION).facts
    for name, place, said in _said_elsewhere(document):
        value = getattr(facts, name)
        if value is None or value == said:
            continue
        at = lines.at((*SECTION, name)), lines.at(place)
        key, other = f"advice.{name}: {_text(value)}", ".".join(place)
        shown_there = f": {_text(said)}" if place[-1] in ("changes", "latency_ms", "cost_per_query") else ""
        problems.append(
            (
                min(at),
                f"{key} (line {at[0]}) and {other}{shown_there} (line {at[1]}) contradict each other;"
                " correct one of them",
            )
        )
    undescribed = not document.get("instruction") and facts.can_be_described_in_prompt is None
    if facts.prompting_meets_quality and undescribed:
        problems.append(
            (
                lines.at((*SECTION, "prompting_meets_quality")),
                "advice.prompting_meets_quality: true and no instruction contradict each other: what a prompt"
                " meets can be said; give the instruction",
            )
        )
    if problems:
        del document["advice"]
    return problems


def _said_elsewhere(document: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], Any]]:
    """Facts that other sections state: name, place, value."""

    def inside(section: str) -> Mapping[str, Any]:
        value = document.get(section)
        return value if isinstance(value, Mapping) else {}

    found: list[tuple[str, tuple[str, ...], Any]] = []
    knowledge, limits, output = inside("knowledge"), inside("limits"), inside("output")
    if "documents" in knowledge:
        found.append(("requires_external_knowledge", ("knowledge", "documents"), True))
    if isinstance(knowledge.get("changes"), str):
        found.append(("knowledge_changes", ("knowledge", "changes"), knowledge["changes"]))
    for name, key in (("latency_budget_ms", "latency_ms"), ("cost_per_query_budget_usd", "cost_per_query")):
        if isinstance(limits.get(key), int | float):
            found.append((name, ("limits", key), limits[key]))
    if "style" in document:
        found.append(("requires_specific_style", ("style",), True))
    for key in ("json_schema", "xml_schema", "markdown", "regex"):
        if key in output:
            found.append(("requires_specific_format", ("output", key), True))
    return found


def _text(value: Any) -> str:
    shown_as = shown_value(value)
    return str(shown_as).lower() if isinstance(shown_as, bool) else str(shown_as)
