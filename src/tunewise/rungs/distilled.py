"""A student tuned on a teacher's answers to unlabelled inputs; wrong and ill-formed ones are left out.

    inputs -> teacher's prompt at the teacher's door -> filter -> tuned on the bare prompt of zero-shot

Kim and Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016, section 3.2: a student learns from the
sequences that the teacher writes, without its probabilities, so any door can teach. Filtering what it writes
by the references there are, and by form, follows Hsieh et al., "Distilling Step-by-Step!", ACL Findings 2023,
and Zelikman et al., "STaR", NeurIPS 2022, section 3.1, who keep only answers that come out right. The
teacher's long prompt (examples, passages) is not the student's: what it costs is paid once, while labelling.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from tunewise.data import Example, read_inputs
from tunewise.evidence.metrics import METRICS, metric_of
from tunewise.ladder import NotBuilt
from tunewise.models.door import Answer, Door
from tunewise.near import near_to, normalised, shingles
from tunewise.rungs import tuned
from tunewise.rungs.certified import in_general_data
from tunewise.rungs.few_shot import FewShot
from tunewise.rungs.few_shot_nearest import FewShotNearest
from tunewise.rungs.gaps import right_from
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rag import Rag
from tunewise.rungs.rung import Outlook, Rung, Workbench
from tunewise.rungs.search import selection_items
from tunewise.rungs.tuned_settings import FEWEST_ROWS, SELECTION_ITEMS
from tunewise.rungs.zero_shot import ZeroShot
from tunewise.task_scores import metric_context
from tunewise.training.methods import Method
from tunewise.training.recipe import train

FORMS = ("json_schema", "xml_schema", "markdown", "regex", "sql", "choices")  # keys of output, and metrics
ASKED_BY_MODEL = ("style", "judge")  # metrics that filter nothing: one needs a fitted voice, one costs calls


class Distilled:
    """Tuning on a teacher's answers, on the bare prompt."""

    name = "distilled"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be a teacher, inputs to answer, and weights to tune."""
        section = bench.task.teacher
        if section is None:
            return "no teacher is named (teacher)"
        if bench.tune_door is None:
            return bench.tune_door_missing
        inputs = len(inputs_of(bench).kept)
        if inputs < FEWEST_ROWS:
            return f"{inputs} inputs for the teacher are too few to train on; it takes {FEWEST_ROWS}"
        if (reason := rung_of(bench).cannot_help(for_teacher(bench))) is not None:
            return f"the teacher cannot be asked as {section.rung}: {reason}"
        return in_general_data(bench)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung. The teacher's calls stand in a line of their own, since another door may answer them."""
        section = bench.task.teacher
        given = len(bench.parts.train) if section is None else len(inputs_of(bench).kept)
        most = given if section is None else min(given, section.most)
        return replace(tuned.outlook_of(bench), train_rows=most)

    def build(self, bench: Workbench, trainer: tuned.Trainer = train) -> PromptCandidate:
        """See Rung. Raises NotBuilt when too few of the teacher's answers can be learnt from."""
        teacher = teacher_of(bench)
        lesson = lesson_of(bench, teacher)
        bench.progress.tell("note", text=f"{self.name}: {lesson.in_words(teacher)}")
        if len(lesson.train) < FEWEST_ROWS:
            raise NotBuilt(
                f"{len(lesson.train)} of the teacher's {lesson.asked} answers can be learnt from, too few to "
                f"train on ({lesson.dropped_in_words()})"
            )
        own = replace(bench, parts=replace(bench.parts, train=lesson.train), folder=bench.folder / self.name)
        built = tuned.build(own, method_of(bench), trainer)
        assert built.adapter is not None
        facts = {**built.facts(), "teacher": {**lesson.facts(teacher), **on_selection(bench, teacher)}}
        return replace(built, rung=self.name, layout=layout_of(bench), built=facts)


def method_of(bench: Workbench) -> Method:
    """How the student is trained: ``tune.method``, else ``lora``."""
    tune = bench.task.tune
    return (tune.method if tune is not None else None) or "lora"


def rung_of(bench: Workbench) -> Rung:
    """The rung whose prompt the teacher is asked with."""
    assert bench.task.teacher is not None
    rungs: tuple[Rung, ...] = (ZeroShot(), FewShot(), FewShotNearest(), Rag())
    return next(rung for rung in rungs if rung.name == bench.task.teacher.rung)


def for_teacher(bench: Workbench) -> Workbench:
    """The workbench on which the teacher's prompt is chosen: its door in place of the task's."""
    return replace(
        bench, door=teacher_door(bench), folder=bench.folder / Distilled.name / "teacher", built={}
    )


def teacher_door(bench: Workbench) -> Door:
    """Where the teacher is reached: its own door, else the task's model."""
    return bench.door if bench.teacher_door is None else bench.teacher_door


def teacher_of(bench: Workbench) -> PromptCandidate:
    """The teacher as it is asked; the rung of this climb where the task's own model teaches."""
    rung = rung_of(bench)
    found = bench.built.get(rung.name)
    if bench.teacher_door is None and isinstance(found, PromptCandidate):
        return found
    candidate = rung.build(for_teacher(bench))
    assert isinstance(candidate, PromptCandidate)
    return candidate


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the teacher may answer. left_out: inputs that say, or nearly say, what is measured on."""

    kept: tuple[Example, ...]
    left_out: int = 0


def inputs_of(bench: Workbench) -> Inputs:
    """The inputs of ``teacher.inputs``, each text once, else those of the train part."""
    section = bench.task.teacher
    assert section is not None
    if section.inputs is None:
        given = [(normalised(example.input), example) for example in bench.parts.train]
    else:
        given = list({normalised(e.input): e for e in read_inputs(section.inputs).examples}.items())
    measured = [shingles(normalised(e.input)) for e in (*bench.parts.selection, *bench.parts.certification)]
    near = near_to([shingles(text) for text, _ in given], measured)
    kept = [example for (_, example), (numbers, _) in zip(given, near, strict=True) if not len(numbers)]
    return Inputs(tuple(kept), len(given) - len(kept))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the student learns. train: inputs with the teacher's answers. dropped: how many, by reason."""

    train: tuple[Example, ...]
    asked: int
    left_out: int
    dropped: dict[str, int]
    answers: tuple[Answer, ...]

    def facts(self, teacher: PromptCandidate) -> dict[str, Any]:
        """JSON-able figures; tokens are means per query, None where the door does not say."""
        return {
            "rung": teacher.rung,
            "door": teacher.door.name,
            "asked": self.asked,
            "kept": len(self.train),
            "dropped": self.dropped,
            "near_measured_items": self.left_out,
            "tokens_in": mean_of([answer.tokens_in for answer in self.answers]),
            "tokens_out": mean_of([answer.tokens_out for answer in self.answers]),
            "usd": total_of([answer.usd for answer in self.answers]),
        }

    def dropped_in_words(self) -> str:
        """The reasons with their counts."""
        return ", ".join(f"{count} {why}" for why, count in self.dropped.items()) or "none dropped"

    def in_words(self, teacher: PromptCandidate) -> str:
        """What was asked and what is left, for the reader."""
        said = (
            f"{teacher.door.name} as {teacher.rung} answered {self.asked} inputs, {len(self.train)} are "
            f"learnt from ({self.dropped_in_words()})"
        )
        if self.left_out:
            said += f"; {self.left_out} inputs say nearly what is measured on and were not asked"
        return said


def lesson_of(bench: Workbench, teacher: PromptCandidate) -> Lesson:
    """Ask the teacher, from the store where it has answered before, and keep what can be learnt from."""
    section = bench.task.teacher
    assert section is not None
    found = inputs_of(bench)
    inputs = found.kept[: section.most]
    answers = bench.ask(teacher.door, [teacher.request(example) for example in inputs], "teacher")
    judged = [(e, a, why_not(bench, e, a)) for e, a in zip(inputs, answers, strict=True)]
    return Lesson(
        train=tuple(replace(e, references=(a.text.strip(),)) for e, a, why in judged if why is None),
        asked=len(inputs),
        left_out=found.left_out,
        dropped=dict(Counter(why for _, _, why in judged if why is not None)),
        answers=tuple(answers),
    )


def why_not(bench: Workbench, example: Example, answer: Answer) -> str | None:
    """Why an answer is not learnt from; None when it is.

    ``wrong`` needs a reference, or a metric that needs none: the value is below what counts as right (1 for a
    0/1 metric, the target for a graded one).
    """
    if answer.status != "ok":
        return answer.status
    if answer.finish == "length":
        return "cut off"
    if not answer.text.strip():
        return "empty"
    if any(not meets for meets in forms_met(bench, answer.text)):
        return "of another form"
    if bench.task.metric in ASKED_BY_MODEL:
        return None
    if example.references or not metric_of(bench.task).needs_reference:
        score = bench.score(example, answer)
        if score.status == "unparseable":
            return "of another form"
        return None if score.value is not None and score.value >= right_from(bench) else "wrong"
    if bench.task.metric == "accuracy" and bench.parts.train:  # any row's labels tell whether it is one
        form = bench.score(bench.parts.train[0], answer).status
        return "of another form" if form == "unparseable" else None
    return None


def forms_met(bench: Workbench, text: str) -> Iterator[bool]:
    """For each form that the task declares, whether a raw answer is of it."""
    context = metric_context(bench.task, bench.parts)
    for name in FORMS:
        if context.output is not None and getattr(context.output, name) is not None:
            yield METRICS[name].score(text, (), context).value == 1


def on_selection(bench: Workbench, teacher: PromptCandidate) -> dict[str, Any]:
    """The teacher's own score on the selection items that chose the student's checkpoint."""
    items = selection_items(bench, SELECTION_ITEMS)
    answers = bench.ask(teacher.door, [teacher.request(item) for item in items], "selection")
    values = [bench.score(item, answer).value for item, answer in zip(items, answers, strict=True)]
    known = [value for value in values if value is not None]
    return {"selection_score": fmean(known) if known else None, "selection_items": len(known)}


def mean_of(counts: Sequence[int | None]) -> float | None:
    """Mean; None when any is not known or there are none."""
    known = [count for count in counts if count is not None]
    return fmean(known) if known and len(known) == len(counts) else None


def total_of(prices: Sequence[float | None]) -> float | None:
    """Sum; None when any is not known or there are none."""
    known = [price for price in prices if price is not None]
    return sum(known) if known and len(known) == len(prices) else None
