"""What metrics need that has to be made for a run: a fitted voice, a judge that people have checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.data import Example, reference_text
from tunewise.errors import RunError
from tunewise.evidence.judge import Item, Judge, Labelled, read_labels, read_rubric
from tunewise.evidence.judge_evidence import judged_evidence
from tunewise.evidence.judge_trust import Trust, judge_trust
from tunewise.evidence.metrics import METRICS
from tunewise.evidence.metrics.prepared import score_of
from tunewise.evidence.records import Evidence, Outcome, Score
from tunewise.evidence.runner import outcome_of
from tunewise.evidence.style import SurfaceRules, Voice, VoiceText, measure_outputs
from tunewise.evidence.style.measure import StyleMeasure
from tunewise.evidence.style.voice import require_enough
from tunewise.models.door import Answer, Door
from tunewise.near import normalised
from tunewise.rungs.prompt import layout_of
from tunewise.rungs.rung import Candidate
from tunewise.splits import Parts
from tunewise.task import JudgeSpec, Task
from tunewise.task_style import Style
from tunewise.voices import VoiceRow, document_of, read_voice, voice_row

if TYPE_CHECKING:
    from tunewise.run import Run

MOST_BASE = 300  # answers of the base model that a voice is compared with
TO_LABEL = 60  # answers of each rung that people are offered for labelling


@dataclass
class Measures:
    """The voice or the judge of a run; empty for metrics that need neither.

    by_rung: further figures of each rung, for ``decision.json``.
    """

    style: StyleMeasure | None = None
    judge: Judge | None = None
    trust: Trust | None = None
    labels: tuple[Labelled, ...] = ()
    by_rung: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What was fitted or checked, and the further figures by rung; {} for other metrics."""
        if self.style is not None:
            return {"style": {"voice": self.style.voice.facts(), "rungs": self.by_rung}}
        if self.judge is not None:
            trust = None if self.trust is None else self.trust.to_json()
            return {"judge": {**self.judge.facts(), "trust": trust, "rungs": self.by_rung}}
        return {}


def check_files(task: Task, parts: Parts) -> None:
    """Read what the metric needs beside the examples, so that mistakes in it show before any call.

    Raises DataError for a voice that is too short, and for a rubric or labels with mistakes.
    """
    if task.style is not None:
        require_enough("reference", [row.text for row in voice_rows(task.style, parts)])
        if task.style.base is not None:
            require_enough("base", [row.text for row in read_voice(task.style.base)])
    if task.judge is not None:
        rubric = read_rubric(task.judge.rubric)
        if task.judge.labels is not None:
            read_labels(task.judge.labels, rubric)


def prepare(run: "Run", judge_door: Door | None) -> Measures:
    """Fit the voice, or ask the judge about the labelled answers, as the task's metric needs it."""
    if run.task.metric == "style" and run.task.style is not None:
        return Measures(style=style_measure(run, run.task.style))
    if run.task.metric == "judge" and run.task.judge is not None and judge_door is not None:
        return _judge_measures(run, run.task.judge, judge_door)
    return Measures()


def style_measure(run: "Run", style: Style) -> StyleMeasure:
    """The voice of the reference texts against the bare model's answers, or against ``style.base``.

    Reference texts that answer a certification input, or are the right answer to one, are left out.
    Raises DataError where too few texts are left.
    """
    rows = voice_rows(style, run.parts)
    base = bare_answers(run, rows) if style.base is None else [row.text for row in read_voice(style.base)]
    voice = Voice.fit([row.text for row in rows], base, run.seed)
    _tell_voice(run, voice)
    return style_from(style, voice)


def bare_answers(run: "Run", rows: Sequence[VoiceRow]) -> list[VoiceText]:
    """The bare model's answers to the inputs of the reference rows; without these, of the train part."""
    turns = {document_of(row.turns): row.turns for row in rows if row.turns} or {
        document_of(example.turns): example.turns for example in run.parts.train
    }
    asked = dict(sorted(turns.items())[:MOST_BASE])  # by hash: a fixed random choice
    run.progress.tell(
        "note", text=f"style: asking the bare model {len(asked)} inputs, to tell the voice from it"
    )
    layout = layout_of(run.bench([]))
    answers = run.ask_for("", run.door, [_request(layout, said) for said in asked.values()], "style")
    return [
        VoiceText(answer.text, document)
        for document, answer in zip(asked, answers, strict=True)
        if answer.status == "ok"
    ]


def style_from(style: Style, voice: Voice) -> StyleMeasure:
    """The measure that a task's ``style`` section asks for, with a fitted voice."""
    rules = SurfaceRules(**style.rules.model_dump())
    return StyleMeasure(voice, rules, style.content.metric, style.content.at_least)


def voice_rows(style: Style, parts: Parts) -> list[VoiceRow]:
    """The reference texts of a task that tell nothing of its certification items."""
    if style.reference is None:
        return [voice_row(example) for example in parts.train]
    held = {normalised(reference_text(r)) for example in parts.certification for r in example.references}
    inputs = {document_of(example.turns) for example in parts.certification}
    return [
        row
        for row in read_voice(style.reference)
        if normalised(row.text.text) not in held and document_of(row.turns) not in inputs
    ]


def _request(layout: Any, turns: Sequence[Any]) -> Any:
    from tunewise.models.door import Request

    return Request(layout.messages(turns, (), ()), layout.decoding)


def _tell_voice(run: "Run", voice: Voice) -> None:
    found = voice.separation()
    text = f"style: the voice is told from the bare model with AUC {found.estimate:.2f}"
    if found.low is not None and found.low <= 0.5:
        text += (
            "; that may be chance, so positions are undefined: give more, or more typical, reference texts"
        )
    run.progress.tell("note", text=text)


def style_figures(measure: StyleMeasure, outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], list[str]]:
    """The figures of a rung's answers beside the share in the voice, and the notes to show."""
    texts = [VoiceText(o.text, o.example) for o in outcomes if o.value is not None]
    found = measure_outputs(measure.voice, texts)
    del found["share"]  # the verdict's own figure
    position, notes = found["position"], []
    if position["estimate"] is None:
        notes.append(f"position undefined: {position['why']}")
    else:
        between = "" if position["low"] is None else f" ({position['low']:.2f} to {position['high']:.2f})"
        notes.append(
            f"position {position['estimate']:.2f}{between}, where 0 is the bare model and 1 the voice"
        )
    for name, words in (
        ("content", f"content ({measure.content_name})"),
        ("rules_kept", "surface rules kept"),
    ):
        values = [o.detail[name] for o in outcomes if name in o.detail]
        if values:
            found[name] = sum(values) / len(values)
            notes.append(f"{words} {found[name]:.2f}")
    return found, notes


# The judge


def _judge_measures(run: "Run", spec: JudgeSpec, door: Door) -> Measures:
    rubric = read_rubric(spec.rubric)
    judge = Judge(
        rubric,
        door,
        lambda asked, requests: run.ask_for("", asked, requests, "judge"),
        spec.max_new_tokens,
        spec.show_reference,
    )
    labels = read_labels(spec.labels, rubric) if spec.labels is not None else ()
    settings = run.task.settings()["judge"].get("labels")
    known = labels or run.store.frozen("judge labels") is not None
    if known and run.store.freeze("judge labels", settings) != settings:
        raise RunError(
            f"{run.store.path} holds verdicts that rest on other labels than {spec.labels} has now: labels"
            " may not be chosen by what they prove. Choose another --out for a new run"
        )
    if not labels:
        return Measures(judge=judge)
    trust = judge_trust(judge, labels, tell=lambda text: run.progress.tell("note", text=text))
    said = "trusted" if trust.trusted else "not trusted: " + "; ".join(trust.reasons)
    run.progress.tell("note", text=f"judge {door.name}: {said}")
    return Measures(judge=judge, trust=trust, labels=labels)


def judge_answers(judge: Judge, examples: Sequence[Example], answers: Sequence[Answer]) -> list[Score]:
    """A score for each answer; the judge is asked about all that there are at once."""
    asked = [place for place, answer in enumerate(answers) if answer.status == "ok"]
    items = [
        Item(examples[place].input, answers[place].text, reference_text(examples[place].references[0]))
        for place in asked
    ]
    found = dict(zip(asked, map(score_of, judge.read(items)), strict=True))
    failed = {
        "refused": Score("refused", 0.0, {"why": "the model refused to answer"}),
        "errored": Score("errored", None, {"why": "the call failed"}),
    }
    return [found[n] if n in found else failed[answer.status] for n, answer in enumerate(answers)]


def gather_judged(run: "Run", rung: str, candidate: Candidate, cap: int) -> tuple[Outcome, ...]:
    """Ask all certification items up to the cap, and the judge about every answer: fixed n, no early stop."""
    assert run.measures.judge is not None
    items = run.order[:cap]
    requests = [candidate.request(example) for example in items]
    answers = run.ask_for(rung, candidate.door, requests, "certification")
    run.progress.tell("building", rung=rung, text=f"the judge reads {len(answers)} answers")
    scores = judge_answers(run.measures.judge, items, answers)
    outcomes = tuple(
        outcome_of(example, position, answer, lambda *_, said=score: said)
        for position, (example, answer, score) in enumerate(zip(items, answers, scores, strict=True))
    )
    keys = [
        None if answer.status == "errored" else request.key(candidate.door.fingerprint)
        for request, answer in zip(requests, answers, strict=True)
    ]
    run.store.record_outcomes(rung, list(zip(outcomes, keys, strict=True)))
    return outcomes


def people_on(
    measures: Measures, rung: str, order: Sequence[Example], outcomes: Sequence[Outcome]
) -> dict[int, bool]:
    """What people say of a rung's answers, by position; a label counts for the very text it was given to."""
    by_text: dict[tuple[str, str], bool] = {}
    for row in measures.labels:
        if row.rung == rung and row.met is not None:
            by_text[(row.example or row.item.input, row.item.output)] = row.met
    found = {}
    for outcome in outcomes:
        for name in (outcome.example, order[outcome.position].input):
            if (name, outcome.text) in by_text:
                found[outcome.position] = by_text[(name, outcome.text)]
    return found


def judged(run: "Run", rung: str, outcomes: Sequence[Outcome]) -> Evidence:
    """The evidence of a rung under a judge, and its figures among ``by_rung``."""
    people = people_on(run.measures, rung, run.order, outcomes)
    evidence = judged_evidence(
        outcomes,
        people,
        run.measures.trust,
        target=run.task.target,
        tolerance=run.task.zone,
        alpha=run.alpha,
    )
    if evidence.estimate is None and evidence.notes:
        run.progress.tell("note", text=f"{rung}: {evidence.notes[0]}")
    values = [o.value for o in outcomes if o.value is not None]
    run.measures.by_rung[rung] = {
        "judge_mean": sum(values) / len(values) if values else None,
        "answers": len(outcomes),
        "labelled": len(people),
        "notes": list(evidence.notes),
    }
    return evidence


def place_to_label(folder: Path, spec: JudgeSpec) -> Path:
    """Where the answers to label next are written: never over a file in which people have begun."""
    names = chain(["to_label.jsonl"], (f"to_label_{number}.jsonl" for number in count(2)))
    return next(path for name in names if not _has_labels(path := folder / name, spec))


def _has_labels(path: Path, spec: JudgeSpec) -> bool:
    if not path.is_file():
        return False
    if spec.labels is not None and path.samefile(spec.labels):
        return True
    try:
        with path.open(encoding="utf-8") as lines:
            return any(json.loads(line)["label"] is not None for line in lines if line.strip())
    except (ValueError, TypeError, KeyError):
        return True  # somebody has edited it


def write_to_label(path: Path, run: "Run") -> int:
    """Write the answers that people should label next: up to 60 of each rung that has too few labels.

    In certification order, which is random, and without the judge's verdicts, so that people are not led.
    Returns how many were written; with none, no file is.
    """
    rows = []
    for rung, outcomes in run.outcomes.items():
        known = people_on(run.measures, rung, run.order, outcomes)
        for outcome in outcomes[:TO_LABEL]:
            if outcome.position not in known and outcome.status != "errored":
                example = run.order[outcome.position]
                rows.append(
                    {
                        "rung": rung,
                        "example": outcome.example,
                        "input": example.input,
                        "reference": example.references[0],
                        "output": outcome.text,
                        "label": None,
                    }
                )
    if rows:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    return len(rows)


def content_metric(task: Task) -> Any:
    """The metric that stands beside the voice; None for tasks without one."""
    return METRICS.get(task.style.content.metric) if task.style is not None else None
