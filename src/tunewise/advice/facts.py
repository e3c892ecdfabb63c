"""The facts that advice rests on: what each may be, which contradict each other, and the facts file.

A fact that is not known stays ``None`` (``unknown`` in files and in JSON): it is never taken for false.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tunewise.errors import TaskFileError
from tunewise.marked_yaml import Lines, nearest, read_sections

UNKNOWN = "unknown"
NO_LIMIT = math.inf  # a budget that is known not to exist: ``none`` in files
CHANGES = ("never", "yearly", "monthly", "weekly", "daily")  # from slow to fast
STATIC = ("never", "yearly")
FREQUENT = ("monthly", "weekly", "daily")
DAYS_BETWEEN_CHANGES: Mapping[str, float] = {"yearly": 365, "monthly": 30, "weekly": 7, "daily": 1}


@dataclass(frozen=True)
class Facts:
    """What is known of a task before anything is measured; None: not known.

    dataset_size: labelled rows. latency_budget_ms, cost_per_query_budget_usd: the most one answer may
    take, ``NO_LIMIT`` where there is known to be none. knowledge_changes: one of CHANGES.
    """

    can_be_described_in_prompt: bool | None = None
    prompting_meets_quality: bool | None = None
    few_shot_meets_quality: bool | None = None
    requires_external_knowledge: bool | None = None
    knowledge_changes: str | None = None
    dataset_size: int | None = None
    requires_specific_style: bool | None = None
    requires_specific_format: bool | None = None
    latency_budget_ms: float | None = None
    cost_per_query_budget_usd: float | None = None
    queries_per_day: float | None = None

    def unknown(self) -> tuple[str, ...]:
        """Names of the facts that are not known."""
        return tuple(name for name in NAMES if getattr(self, name) is None)

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``unknown`` for None, ``none`` for a budget that does not exist."""
        return {name: shown_value(getattr(self, name)) for name in NAMES}


NAMES: tuple[str, ...] = tuple(f.name for f in fields(Facts))
BOOLEANS = frozenset(
    {
        "can_be_described_in_prompt",
        "prompting_meets_quality",
        "few_shot_meets_quality",
        "requires_external_knowledge",
        "requires_specific_style",
        "requires_specific_format",
    }
)
BUDGETS = frozenset({"latency_budget_ms", "cost_per_query_budget_usd"})


def shown_value(value: Any) -> Any:
    """A fact's value as files and JSON hold it."""
    if value is None:
        return UNKNOWN
    return "none" if value == NO_LIMIT and not isinstance(value, bool) else value


class FactMistake(ValueError):
    """A value that a fact cannot have; the message says what was expected, what came and what to do."""


def read_value(name: str, value: Any) -> Any:
    """One value of a facts file, a task's ``advice`` section or an answer, as ``Facts`` holds it.

    Raises FactMistake for a value of another kind, a negative or infinite number and the like.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() == UNKNOWN):
        return None
    if isinstance(value, list | tuple) and name == "knowledge_changes":
        listed = " and ".join(str(one) for one in value)
        raise FactMistake(
            f"{listed} contradict each other; one of {', '.join(CHANGES)} or unknown is expected"
        )
    if name in BOOLEANS:
        return _boolean(value)
    return _change(value) if name == "knowledge_changes" else _number(name, value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    hint = ""
    if isinstance(value, str) and value.lower() in ("yes", "no", "y", "n", "on", "off"):
        hint = f"; write {'true' if value.lower() in ('yes', 'y', 'on') else 'false'}"
    raise FactMistake(f"true, false or unknown was expected, got {_shown(value)}{hint}")


def _change(value: Any) -> str:
    if isinstance(value, str) and value.strip().lower() in CHANGES:
        return value.strip().lower()
    near = nearest(value, CHANGES) if isinstance(value, str) else ""
    raise FactMistake(f"one of {', '.join(CHANGES)} or unknown was expected, got {_shown(value)}{near}")


def _number(name: str, value: Any) -> float | int:
    if name in BUDGETS and isinstance(value, str) and value.strip().lower() == "none":
        return NO_LIMIT
    kind = "a whole number of rows" if name == "dataset_size" else "a number"
    extra = ", none (no limit)" if name in BUDGETS else ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FactMistake(f"{kind}{extra} or unknown was expected, got {_shown(value)}")
    if value < 0 or (value == 0 and name == "latency_budget_ms"):
        least = "above 0" if name == "latency_budget_ms" else "0 or more"
        raise FactMistake(f"{kind}, {least}, was expected, got {value:g}")
    if name == "dataset_size":
        if value != int(value):
            raise FactMistake(f"{kind} was expected, got {value:g}")
        return int(value)
    return float(value)


def _shown(value: Any) -> str:
    text = (
        f"'{value}'"
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


def contradictions(facts: Facts) -> Iterator[tuple[tuple[str, ...], str]]:
    """Facts that cannot hold together: their names, and one sentence that names them all."""
    if facts.prompting_meets_quality and facts.can_be_described_in_prompt is False:
        yield (
            ("can_be_described_in_prompt", "prompting_meets_quality"),
            "can_be_described_in_prompt: false and prompting_meets_quality: true contradict each other:"
            " what a prompt meets can be said in a prompt; correct one of them",
        )


@dataclass(frozen=True)
class Domain:
    """What is known of the raw text of the domain, for the choice of training stage; None: not known.

    tokens: of raw text. tokens_per_word, perplexity: of the base model on that text; the ``general_`` ones
    on general text, by the same tokenizer and model. instruct_model: the base was tuned to follow
    instructions.
    """

    tokens: float | None = None
    tokens_per_word: float | None = None
    general_tokens_per_word: float | None = None
    perplexity: float | None = None
    general_perplexity: float | None = None
    instruct_model: bool | None = None


@dataclass(frozen=True)
class Tuning:
    """What is known of the training to come, for the choice of method; None: not known.

    quality_ceiling: the last few points of quality matter more than anything else. keep_general: the
    tuned model must stay good at other things. tasks_served: tasks that will share one base model.
    memory_gib: GPU memory at hand. needs_gib: method -> memory that its training takes, in GiB.
    """

    quality_ceiling: bool | None = None
    keep_general: bool | None = None
    tasks_served: float | None = None
    memory_gib: float | None = None
    needs_gib: Mapping[str, float] = field(default_factory=dict)


SECTIONS: Mapping[str, type] = {"domain": Domain, "tuning": Tuning}
_SECTION_BOOLEANS = frozenset({"instruct_model", "quality_ceiling", "keep_general"})
_NOT_IN_FILES = frozenset({"needs_gib"})
# the chapter's attributes that these facts say in one
_SAID_OTHERWISE: Mapping[str, str] = {
    "knowledge_is_static": "write knowledge_changes: never (or yearly)",
    "knowledge_changes_frequently": "write knowledge_changes: monthly, weekly or daily",
    "few_shot_examples_in_prompt_work": "write few_shot_meets_quality",
    "cost_per_query_budget": "write cost_per_query_budget_usd",
}


@dataclass(frozen=True)
class FactsFile:
    """A facts file as read."""

    facts: Facts
    domain: Domain
    tuning: Tuning


def read_facts(path: str | Path) -> FactsFile:
    """Read a facts file (YAML). Raises TaskFileError with every mistake in it, each with line and key."""
    file = Path(path).absolute()
    document, lines, problems = read_sections(file, "facts file")
    found = facts_of(document, lines, problems, ())
    if problems:
        raise TaskFileError(path, in_order(problems), "facts file")
    return found


def in_order(problems: Sequence[tuple[int, str]]) -> list[str]:
    """Mistakes as lines of text, by line, each once."""
    return [f"line {line}: {text}" for line, text in sorted(set(problems))]


def facts_of(
    document: Mapping[str, Any], lines: Lines, problems: list[tuple[int, str]], place: tuple[str, ...]
) -> FactsFile:
    """The facts of a mapping; mistakes go to ``problems``. place: where the mapping stands in its file."""

    def wrong(key: tuple[str, ...], text: str) -> None:
        problems.append((lines.at((*place, *key)), f"{'.'.join((*place, *key))}: {text}"))

    values: dict[str, Any] = {}
    sections: dict[str, Any] = {name: kind() for name, kind in SECTIONS.items()}
    for key, value in document.items():
        if key in SECTIONS:
            sections[key] = _section(key, value, wrong)
        elif key in NAMES:
            try:
                values[key] = read_value(key, value)
            except FactMistake as mistake:
                wrong((key,), str(mistake))
        else:
            known = (*NAMES, *SECTIONS)
            hint = f"; {_SAID_OTHERWISE[key]}" if key in _SAID_OTHERWISE else nearest(key, known)
            wrong((key,), f"unknown fact{hint} (known: {', '.join(known)})")
    facts = Facts(**values)
    for names, text in contradictions(facts):
        at = [lines.at((*place, name)) for name in names]
        problems.append((min(at), f"{text} (lines {', '.join(map(str, sorted(at)))})"))
    return FactsFile(facts, sections["domain"], sections["tuning"])


def _section(name: str, value: Any, wrong: Callable[[tuple[str, ...], str], None]) -> Any:
    kind = SECTIONS[name]
    known = tuple(f.name for f in fields(kind) if f.name not in _NOT_IN_FILES)
    if not isinstance(value, Mapping):
        wrong((name,), f"a section with keys of its own was expected, got {_shown(value)}")
        return kind()
    values: dict[str, Any] = {}
    for key, inner in value.items():
        if key not in known:
            wrong((name, key), f"unknown key{nearest(key, known)} (known here: {', '.join(known)})")
            continue
        if inner is None or inner == UNKNOWN:
            continue
        try:
            values[key] = _boolean(inner) if key in _SECTION_BOOLEANS else _positive(inner)
        except FactMistake as mistake:
            wrong((name, key), str(mistake))
    return kind(**values)


def _positive(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value <= 0:
        raise FactMistake(f"a number above 0 or unknown was expected, got {_shown(value)}")
    return float(value)
