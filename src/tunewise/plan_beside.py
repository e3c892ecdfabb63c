"""Calls of a run that stand in no rung's own row of the plan: why it fails, limits, grammar, judge, ..."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tunewise.evidence.judge import Item, judge_messages, read_labels, read_rubric
from tunewise.evidence.judge_trust import PROBED
from tunewise.evidence.limits import MOST_CALLS
from tunewise.measures import MOST_BASE
from tunewise.models.door import Door
from tunewise.plan_lengths import SAMPLE, Lengths
from tunewise.plan_rungs import PlannedRung, money_range
from tunewise.probing import SAMPLE as TIMED
from tunewise.probing import WARM_UP
from tunewise.retrieval.chunking import MAX_CHARS
from tunewise.rungs.constrained import BESIDE
from tunewise.rungs.gaps import ITEMS
from tunewise.rungs.grammars import grammar_of
from tunewise.rungs.prompt import BYTES_PER_TOKEN, prompt_tokens
from tunewise.rungs.rung import Workbench

if TYPE_CHECKING:
    from tunewise.api import Opened


TEACHER = "the teacher of distilled"


@dataclass(frozen=True, slots=True)
class Beside:
    """Calls beside the rungs' own: what for, who is asked, least and most. usd: None without a price."""

    what: str
    door: str
    host: str | None
    calls_low: int
    calls_high: int
    usd_low: float | None = None
    usd_high: float | None = None
    money: str = "no price"


@dataclass(frozen=True)
class _Sheet:
    """What the rows are worked out from. rungs: those in play; cap: certification items of one test."""

    opened: "Opened"
    bench: Workbench
    lengths: Lengths
    rungs: tuple[PlannedRung, ...]
    cap: int

    def of_rungs(self, what: str, each: int, more_tokens: int = 0) -> Beside:
        """Up to ``each`` calls with the prompts of every rung; trained rungs answer without a price."""
        price = self.opened.door.price
        usd = None
        if price is not None:
            asked = [rung for rung in self.rungs if not rung.train_tokens]
            prompts = [(r.tokens_in_high or 0) / max(1, r.calls_high) + more_tokens for r in asked]
            out = each * self.lengths.max_new_tokens
            usd = sum(price.of(round(each * prompt), out) for prompt in prompts)
        return self.row(what, self.opened.door, 0, each * len(self.rungs), 0.0, usd)

    def bare(self, what: str, door: Door, calls: int) -> Beside:
        """Up to so many calls with the bare prompt."""
        price, out = door.price, calls * self.lengths.max_new_tokens
        usd = None if price is None else price.of(round(calls * fmean(self.lengths.bare)), out)
        return self.row(what, door, 0, calls, 0.0, usd)

    def row(
        self, what: str, door: Door, low: int, high: int, usd_low: float | None, usd: float | None
    ) -> Beside:
        if usd is None or usd_low is None:
            return Beside(what, door.name, door.host, low, high)
        return Beside(what, door.name, door.host, low, high, usd_low, usd, money_range(usd_low, usd))


def calls_beside(
    opened: "Opened", bench: Workbench, lengths: Lengths, planned: Sequence[PlannedRung], cap: int
) -> tuple[Beside, ...]:
    """The rows, with none for what the task does not ask for. cap: certification items of one test."""
    sheet = _Sheet(opened, bench, lengths, tuple(r for r in planned if not r.skipped_because), cap)
    rows = [*_gaps(sheet), *_grammar(sheet), *_times(sheet), *_bare_answers(sheet), *_teacher(sheet)]
    rows += _after(sheet)
    if opened.task.metric == "judge":
        rows += _judge(sheet, sum(row.calls_high for row in rows))
    return tuple(row for row in rows if row.calls_high)


def _gaps(sheet: _Sheet) -> list[Beside]:
    """Why a rung fails, on selection items, and once more with the right passage."""
    items = min(ITEMS, len(sheet.opened.parts.selection))
    rows = [sheet.of_rungs("why rungs fail, on selection items", items)]
    if sheet.opened.task.knowledge is not None:
        rows.append(sheet.of_rungs("the same with the right passage", items, MAX_CHARS // BYTES_PER_TOKEN))
    return rows


def _grammar(sheet: _Sheet) -> list[Beside]:
    """Answers held to the declared form beside the raw ones, and whether a host takes it."""
    if grammar_of(sheet.bench) is None:
        return []
    items = min(BESIDE, len(sheet.opened.parts.selection))
    return [sheet.of_rungs("held to the declared form, beside raw", items + 1)]


def _times(sheet: _Sheet) -> list[Beside]:
    """Unbatched calls: the probe of the limits, the times that the economics compare."""
    task = sheet.opened.task
    rows = []
    at_once = task.limits.concurrency if task.limits is not None else 1
    if task.limits is not None:
        most = min(MOST_CALLS, len(sheet.opened.order))
        rows.append(sheet.of_rungs("limits of rungs that meet", most + max(WARM_UP, at_once)))
    if task.economics is not None:
        rows.append(sheet.of_rungs("times, for the economics", TIMED + max(WARM_UP, at_once)))
    return rows


def _bare_answers(sheet: _Sheet) -> list[Beside]:
    style = sheet.opened.task.style
    if style is None or style.base is not None:
        return []
    return [sheet.bare("bare answers that the voice is told from", sheet.opened.door, MOST_BASE)]


def _teacher(sheet: _Sheet) -> list[Beside]:
    """What the teacher of ``distilled`` is asked: inputs, selection, and the items of the student."""
    from tunewise.rungs.distilled import inputs_of

    section, opened = sheet.opened.task.teacher, sheet.opened
    if section is None or "distilled" not in {rung.rung for rung in sheet.rungs}:
        return []
    asked = min(section.most, len(inputs_of(sheet.bench).kept)) + len(opened.parts.selection)
    at_once = opened.task.limits.concurrency if opened.task.limits is not None else 1
    door = opened.teacher_door or opened.door
    written = round(asked * fmean(sheet.lengths.answers))
    low = None if door.price is None else door.price.of(round(asked * fmean(sheet.lengths.bare)), written)
    high = None if door.price is None else sheet.bare(TEACHER, door, asked).usd_high
    beside = sheet.bare("the teacher, beside its student", door, sheet.cap + TIMED + max(WARM_UP, at_once))
    return [sheet.row(TEACHER, door, 0, asked, low, high), beside]


def _after(sheet: _Sheet) -> list[Beside]:
    from tunewise.staleness import MOST_CHANGED, MOST_UNCHANGED, references_after

    knowledge, opened = sheet.opened.task.knowledge, sheet.opened
    if knowledge is None or knowledge.documents_after is None:
        return []
    changed = min(MOST_CHANGED, sum(references_after(example) is not None for example in opened.order))
    each = -(-(changed * (len(sheet.rungs) + 1) + 2 * MOST_UNCHANGED) // max(1, len(sheet.rungs)))
    return [sheet.of_rungs("after the documents changed", each)]


def _judge(sheet: _Sheet, beside: int) -> list[Beside]:
    """The judge reads every answer once, labelled answers once, and the first of these three times more."""
    task, door = sheet.opened.task, sheet.opened.judge_door
    if task.judge is None or door is None:
        return []
    rubric = read_rubric(task.judge.rubric)
    labels = len(read_labels(task.judge.labels, rubric)) if task.judge.labels is not None else 0
    again = labels + 3 * min(PROBED, labels)
    low = sheet.cap + again
    high = sum(rung.calls_high for rung in sheet.rungs) + beside + again
    rows = sheet.opened.order[:SAMPLE]
    prompts = [prompt_tokens(door, judge_messages(rubric, Item(row.input, "", row.answer))) for row in rows]
    read = fmean(prompts) if prompts else 0.0
    short, long = read + fmean(sheet.lengths.answers), read + sheet.lengths.max_new_tokens
    if door.price is None:
        return [sheet.row("the judge reads the answers", door, low, high, None, None)]
    # at least some tokens have to be written for a verdict; how many is not known, so none is counted
    usd_low = door.price.of(round(low * short), 0)
    usd_high = door.price.of(round(high * long), high * task.judge.max_new_tokens)
    return [sheet.row("the judge reads the answers", door, low, high, usd_low, usd_high)]
