"""A task file as facts: what it says, where each fact comes from, and what it leaves unknown."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunewise.advice.facts import NAMES, NO_LIMIT, Domain, Facts, Tuning
from tunewise.advice.warnings import Data
from tunewise.errors import DataError
from tunewise.rungs.names import WEIGHTS
from tunewise.task_facts import declared

if TYPE_CHECKING:
    from tunewise.splits import Parts
    from tunewise.task import Task

CHARACTERS_PER_TOKEN = 4.0  # of common tokenizers on English, about
INSTRUCT = re.compile(r"(?i)instruct|chat|[-_]it\b")
JSON_METRICS = ("json_fields", "json_schema")


@dataclass(frozen=True)
class Known:
    """What a task says: facts, where each comes from, and the rows that its ``advice`` section declares."""

    facts: Facts
    sources: dict[str, str]
    domain: Domain
    tuning: Tuning
    declared_rows: int | None


def facts_of_task(task: "Task", parts: "Parts") -> Known:
    """The facts of a task with its rows read. What the task's ``advice`` section says comes first.

    A task that sets no limit has none; whether a prompt meets the quality is never taken from a task.
    """
    rows = (*parts.train, *parts.selection, *parts.certification)
    found: dict[str, tuple[Any, str]] = {
        "can_be_described_in_prompt": (
            (True, "instruction is given") if task.instruction else (False, "instruction is left out")
        ),
        "dataset_size": (len(rows), "rows of examples"),
        "latency_budget_ms": _limit(task, "latency_ms"),
        "cost_per_query_budget_usd": _limit(task, "cost_per_query"),
    }
    if task.knowledge is not None:
        found["requires_external_knowledge"] = (True, "knowledge.documents is given")
        if task.knowledge.changes is not None:
            found["knowledge_changes"] = (task.knowledge.changes, "knowledge.changes")
    if getattr(task, "style", None) is not None:
        found["requires_specific_style"] = (True, "style is given")
    if form := _form(task, rows):
        found["requires_specific_format"] = form
    if (volume := getattr(getattr(task, "economics", None), "queries_per_day", None)) is not None:
        found["queries_per_day"] = (volume, "economics.queries_per_day")
    said = declared(task.advice)
    for name in (name for name in NAMES if name not in said.facts.unknown()):
        found[name] = (getattr(said.facts, name), f"advice.{name}")
    facts = Facts(**{name: value for name, (value, _) in found.items()})
    return Known(
        facts,
        {name: source for name, (_, source) in found.items()},
        _domain(task, said.domain),
        said.tuning,
        said.facts.dataset_size,
    )


def _domain(task: "Task", said: Domain) -> Domain:
    """What is declared, and where it is not: the size of the documents and the kind of base model."""
    tokens, instruct = said.tokens, said.instruct_model
    if tokens is None and task.knowledge is not None:
        tokens = sum(map(len, documents_of(task))) / CHARACTERS_PER_TOKEN
    spec = task.tune.model if task.tune is not None and task.tune.model is not None else task.model
    if instruct is None and isinstance(spec, str):
        instruct = spec == "embedded" or bool(INSTRUCT.search(spec)) or None
    return replace(said, tokens=tokens, instruct_model=instruct)


def documents_of(task: "Task") -> list[str]:
    """The texts of the task's documents."""
    from tunewise.retrieval.documents import read_documents

    if task.knowledge is None:
        return []
    return [document.text for document in read_documents(task.knowledge.documents).documents]


def _limit(task: "Task", name: str) -> tuple[Any, str]:
    value = getattr(getattr(task, "limits", None), name, None)
    return (NO_LIMIT, "limits sets none") if value is None else (value, f"limits.{name}")


def _form(task: "Task", rows: tuple[Any, ...]) -> tuple[bool, str] | None:
    """Whether a format is asked for, with the source; None where the task does not say."""
    output = task.output
    for key in ("json_schema", "xml_schema", "markdown", "regex"):
        if output is not None and getattr(output, key, None) is not None:
            return True, f"output.{key} is given"
    if task.metric in JSON_METRICS:
        return True, f"metric is {task.metric}"
    if rows and all(isinstance(row.references[0], dict | list) for row in rows):
        return True, "every answer is a JSON object or list"
    if task.metric == "accuracy":
        return False, "the answer is one of a closed set"
    return None


def data_of_task(task: "Task", parts: "Parts", declared_rows: int | None) -> Data:
    """What the rows of a task say beyond their number."""
    rows = (*parts.train, *parts.selection, *parts.certification)
    items = len({parts.units.get(row.key, row.key) for row in parts.certification})
    answers = Counter(json.dumps(row.references[0], sort_keys=True, default=str) for row in rows)
    return Data(
        rows=len(rows),
        certification=items,
        target=task.target,
        provable=_provable(task, items),
        clusters=parts.clusters,
        commonest=answers.most_common(1)[0][1] / len(rows) if rows else None,
        declared_rows=declared_rows,
        retrain_days=getattr(getattr(task, "economics", None), "retrain_days", None),
    )


def _provable(task: "Task", items: int) -> float | None:
    """Smallest true quality that so many items prove with every rung in play; None where nothing can."""
    from tunewise.evidence.judgement import allowance, make_test
    from tunewise.evidence.metrics import METRICS

    try:
        test = make_test(
            METRICS[task.metric].kind,
            target=task.target,
            tolerance=task.zone,
            alpha_meets=allowance(len(WEIGHTS), 1),
            items=items,
        )
    except DataError:
        return None
    return test.provable()
