"""What users call: advice from a task file, from a facts file, or from facts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.advice.advice import Advice, advise_on
from tunewise.advice.estimates import needs_gib, of_forecast, of_model
from tunewise.advice.facts import NAMES, Domain, Facts, FactsFile, contradictions, facts_of, read_facts
from tunewise.advice.framework import DEFAULT, Thresholds
from tunewise.errors import SettingError, WorldError
from tunewise.marked_yaml import Lines
from tunewise.rungs.names import WEIGHTS

if TYPE_CHECKING:
    from tunewise.forecast import Forecast
    from tunewise.splits import Parts
    from tunewise.task import Task

AVAILABLE = tuple(sorted(WEIGHTS, key=WEIGHTS.__getitem__))


def advise(
    task: "str | Path | Task | None" = None,
    *,
    facts: "str | Path | Mapping[str, Any] | Facts | None" = None,
    model: str | None = None,
    thresholds: Thresholds = DEFAULT,
    measure: bool = False,
) -> Advice:
    """Which way the facts point, before anything is measured. Calls no model,
    unless told to ``measure``.

    task: a task file or a Task, whose rows are read and split. facts: instead of a task, a facts file, a
    mapping of the same keys, or Facts. model: with facts, the model whose tuning is estimated.
    measure: with a task, read its documents (or inputs) with the model that would be tuned: tokens per word
    and perplexity against general text. Raises TaskFileError, DataError or SettingError for all that the
    user can mend.
    """
    if (task is None) == (facts is None):
        raise SettingError("advise: either a task or facts were expected, not both and not neither")
    if task is not None:
        return _of_task(task, thresholds, measure)
    if measure:
        raise SettingError("measuring needs the texts of a task; facts alone have none")
    file = _facts_given(facts)
    sources = {name: "facts" for name in NAMES if name not in file.facts.unknown()}
    needs = {} if model is None else needs_gib(model)
    given = advise_on(
        file.facts,
        available=AVAILABLE,
        domain=file.domain,
        tuning=replace(file.tuning, needs_gib=needs),
        sources=sources,
        thresholds=thresholds,
    )
    if model is None:
        return given
    return replace(given, estimates=of_model(model, file.facts, given.rungs))


def _facts_given(facts: "str | Path | Mapping[str, Any] | Facts | None") -> FactsFile:
    if isinstance(facts, str | Path):
        return read_facts(facts)
    problems: list[tuple[int, str]] = []
    if isinstance(facts, Mapping):
        file = facts_of(facts, Lines(), problems, ())
    else:
        file = facts_of({}, Lines(), problems, ())
        file = FactsFile(facts or Facts(), file.domain, file.tuning)
        problems += [(1, text) for _, text in contradictions(file.facts)]
    if problems:
        raise SettingError("facts: " + "; ".join(text for _, text in problems))
    return file


def _of_task(path_or_task: "str | Path | Task", thresholds: Thresholds, measure: bool) -> Advice:
    from tunewise.advice.of_task import data_of_task, facts_of_task
    from tunewise.api import read_parts
    from tunewise.task import Task, load_task

    task = path_or_task if isinstance(path_or_task, Task) else load_task(path_or_task)
    parts, _, _ = read_parts(task)
    known = facts_of_task(task, parts)
    tuning = known.tuning
    if tuning.memory_gib is not None:
        tuning = replace(tuning, needs_gib=_needs(task))
    given = advise_on(
        known.facts,
        available=AVAILABLE,
        domain=_measured(task, parts, known.domain) if measure else known.domain,
        tuning=tuning,
        data=data_of_task(task, parts, known.declared_rows),
        sources=known.sources,
        thresholds=thresholds,
    )
    planned = _planned(task)
    if planned is None:
        return given
    reasons = {r.rung: r.skipped_because for r in planned.rungs if r.skipped_because}
    rungs = tuple(name for name in AVAILABLE if name not in reasons)
    return replace(given, rungs=rungs, skipped=reasons, estimates=of_forecast(planned.rungs))


def _measured(task: "Task", parts: "Parts", domain: Domain) -> Domain:
    """The domain with tokens per word and perplexity, measured on documents, else on inputs."""
    from tunewise.advice.general_text import GENERAL_TEXT
    from tunewise.advice.of_task import documents_of
    from tunewise.estimation.lengths import model_of
    from tunewise.models.familiarity import familiarity

    texts = documents_of(task) or [example.input for example in (*parts.train, *parts.selection)]
    model = model_of(task)
    own, general = familiarity(model, texts), familiarity(model, [GENERAL_TEXT])
    return replace(
        domain,
        tokens_per_word=own.tokens_per_word,
        general_tokens_per_word=general.tokens_per_word,
        perplexity=own.perplexity,
        general_perplexity=general.perplexity,
    )


def _needs(task: "Task") -> dict[str, float]:
    """Memory of each method on the task's own rows; empty where there is nothing to tune."""
    from tunewise.estimation.lengths import model_of, of_task

    try:
        return needs_gib(model_of(task), of_task(task), task)
    except (SettingError, WorldError):
        return {}


def _planned(task: "Task") -> "Forecast | None":
    """The plan of ``decide`` on paper, with its own reasons; None where the task's model cannot open."""
    from tunewise.forecast import plan

    try:
        return plan(task)
    except (SettingError, WorldError):
        return None
