"""``tunewise score --metric style``: a file of outputs against a voice, and its drift over conversations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score
from tunewise.evidence.style import Turn, Voice, VoiceText, drift, measure_outputs
from tunewise.evidence.style.measure import StyleMeasure
from tunewise.measures import style_from
from tunewise.scoring.rows import OutputRow
from tunewise.scoring.score import WholeFileScores
from tunewise.scoring.settings import ScoreSettings, context_for
from tunewise.task_style import Style
from tunewise.voices import read_voice


def score_style(rows: Sequence[OutputRow], settings: ScoreSettings) -> WholeFileScores:
    """A score for each output, and the figures of all: position, AUC, Delta, and the slope over turns.

    The voice comes from ``--style-reference``, the texts that it is told from out of ``--style-base``; else
    both from the task's ``style`` section. A content metric (the section's, by default token_f1) is shown
    for rows with a reference. Raises SettingError where a side is not named.
    """
    style = settings.task.style if settings.task is not None else None
    style = style or Style()
    measure = style_from(style, fitted(settings, style))
    base = context_for(settings, rows)
    context = replace(base, style=measure, content=METRICS[style.content.metric])
    scores = tuple(_scored(row, context) for row in rows)
    return WholeFileScores(scores, style_file_figures(measure, rows))


def fitted(settings: ScoreSettings, style: Style) -> Voice:
    """The voice of the files that the settings name."""
    references = settings.style_references or _named(style.reference)
    bases = settings.style_bases or _named(style.base)
    for option, files, what in (
        ("--style-reference", references, "texts of the voice"),
        (
            "--style-base",
            bases,
            "texts not in it, at best the base model's answers to the same inputs",
        ),
    ):
        if not files:
            raise SettingError(f"metric style: name files with {what}: {option} FILE")
    return Voice.fit(_texts(references), _texts(bases))


def style_file_figures(measure: StyleMeasure, rows: Sequence[OutputRow]) -> dict[str, Any]:
    """Flat figures over all outputs; undefined ones are None, with the reason under ``NAME_why``."""
    answered = [row for row in rows if row.state == "answered"]
    voice = measure.voice
    texts = [VoiceText(row.output, row.conversation or row.id or "") for row in answered]
    found = measure_outputs(voice, texts)
    facts = voice.facts()
    figures: dict[str, Any] = {"threshold": facts["threshold"], "base_share": facts["base_share"]}
    figures |= _flat("position", found["position"])
    figures |= _flat("auc_reference_base", facts["auc"])
    figures |= _flat("auc_reference_outputs", found["auc_against_reference"])
    delta = found["delta"]
    figures |= {f"delta_{name}": delta[name] for name in ("outputs", "base", "reference_halves")}
    if "why" in delta:
        figures["delta_outputs_why"] = delta["why"]
    turns = [
        Turn(row.conversation, row.turn, row.output)
        for row in answered
        if row.conversation is not None and row.turn is not None
    ]
    if turns:
        drifted = drift(voice, turns)
        figures |= _flat("slope_per_turn", drifted["slope"])
        figures["drift"] = drifted["drift"]
        figures |= {f"position_turn_{row['turn']}": row["estimate"] for row in drifted["per_turn"]}
    return figures


def _flat(name: str, figure: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: figure["estimate"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
    return {**plain, f"{name}_why": figure["why"]} if figure.get("why") else plain


def _scored(row: OutputRow, context: MetricContext) -> Score:
    if row.state == "refused":
        return Score("refused", 0.0, {"why": "the model refused to answer"})
    if row.state == "errored":
        return Score("errored", None, {"why": row.error or "the call failed"})
    return METRICS["style"].score(row.output, row.references, replace(context, input=row.input))


def _named(path: Path | None) -> tuple[Path, ...]:
    return () if path is None else (path,)


def _texts(files: Sequence[Path]) -> list[VoiceText]:
    return [row.text for file in files for row in read_voice(file)]
