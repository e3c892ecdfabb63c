"""``style`` and ``judge``: metrics whose scorer is made for a run, and comes with the context."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.judge import Item, Judgement
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score


def style(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the answer is in the voice of the reference texts; see ``evidence.style``."""
    if context.style is None:
        return Score("errored", None, {"why": "the voice has not been fitted"})

    def content(text: str) -> float | None:
        if not references or context.content is None:
            return None
        found = context.content.score(text, references, replace(context, options=None))
        return found.value

    return context.style.score(answer, content)


def judged(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the judge finds that every criterion of the rubric is met; see ``evidence.judge``."""
    if context.judge is None:
        return Score("errored", None, {"why": "there is no judge to ask"})
    reference = reference_text(references[0]) if context.judge.shows_reference and references else None
    return score_of(context.judge.read([Item(context.input, answer, reference)])[0])


def score_of(judgement: Judgement) -> Score:
    """A judge's verdict as a score. What it gave no verdict on is ``unparseable`` and counts as wrong."""
    if judgement.errored:
        return Score("errored", None, {"why": judgement.why or ""})
    if judgement.met is None:
        return Score("unparseable", 0.0, {"why": judgement.why or "", "judge_unparseable": 1.0})
    detail: dict[str, Any] = {f"level_{name}": float(level) for name, level in judgement.levels.items()}
    detail["judge_unparseable"] = 0.0
    detail["quotes"] = dict(judgement.quotes)
    if not judgement.met:
        low = judgement.short or min(judgement.levels, key=lambda name: judgement.levels[name])
        quote = judgement.quotes.get(low, "")
        detail["why"] = f"{low}: level {judgement.levels[low]}, quoting {quote!r:.120}"
    return Score("scored", float(judgement.met), detail)
