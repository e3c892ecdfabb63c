"""What a run would take and what the data can prove, worked out before any call is made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewise.data import Message
from tunewise.evidence.judgement import ALPHA, allowance, make_test
from tunewise.evidence.limits import MOST_CALLS, fewest_calls
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.style.voice import PASSES
from tunewise.hosts import doors_asked, hosts_of, sent_to, where, where_all
from tunewise.measures import MOST_BASE
from tunewise.models.door import Decoding, Door, Request
from tunewise.openings import next_opening
from tunewise.plan_beside import Beside, calls_beside
from tunewise.plan_lengths import Lengths
from tunewise.plan_rungs import PlannedRung, Speed, planned_rung
from tunewise.plan_tuned import answers_apart, with_own_weights
from tunewise.probing import WARM_UP
from tunewise.rungs.prompt import layout_of, too_long
from tunewise.rungs.rung import Rung, Workbench
from tunewise.splits import Parts, near_warnings, overlap_lines
from tunewise.task import PartPaths, Task
from tunewise.task_limits import Limits

if TYPE_CHECKING:
    from tunewise.api import Opened

SAMPLE = 40  # rows whose tokens are counted for the plan
PROBES = 16
TEMPLATE_BYTES = 64  # what a chat template may add around a turn
PROBE_TOKENS = 24


@dataclass(frozen=True)
class Plan:
    """The plan of a run. ``lines``: data and proof in words; ``priced``: a yes is needed before it runs.

    beside: calls that belong to no rung's own row.
    """

    headline: str
    lines: tuple[str, ...]
    rungs: tuple[PlannedRung, ...]
    warnings: tuple[str, ...]
    priced: bool
    money: str
    provable: float | None
    beside: tuple[Beside, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calls_high(self) -> int:
        """The most calls of the whole run, of the rungs and beside them."""
        return sum(rung.calls_high for rung in self.rungs) + sum(b.calls_high for b in self.beside)

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where undefined."""
        return {
            "headline": self.headline,
            "lines": list(self.lines),
            "provable": self.provable,
            "priced": self.priced,
            "money": self.money,
            "warnings": list(self.warnings),
            **self.facts,
            "rungs": [asdict(rung) for rung in self.rungs],
            "beside": [asdict(beside) for beside in self.beside],
            "calls_high": self.calls_high,
        }


def measure_speed(bench: Workbench) -> Speed | None:
    """The speed of a door on this machine; None for a host, where a probe would send data and may cost.

    Asks up to 16 prompts twice, for one token and for up to 24. Loading the model is not counted. None too
    where no selection or train row fits the context window; certification rows are not looked at.
    """
    if bench.door.host is not None:
        return None
    layout = layout_of(bench)
    learnt = (*bench.parts.selection, *bench.parts.train)
    rows = list(islice((row for row in learnt if too_long(bench.door, layout, [row]) is None), PROBES))
    if not rows:
        return None
    prompts = [layout.messages(example.turns, (), ()) for example in rows]
    bench.door.answer([Request(prompts[0], Decoding(max_new_tokens=1))])
    short, read, _ = _timed(bench.door, prompts, 1)
    long, _, written = _timed(bench.door, prompts, PROBE_TOKENS)
    return Speed(prompt=read / max(short, 1e-6), answer=max(written, 1) / max(long - short, 1e-6))


def _timed(door: Door, prompts: Sequence[tuple[Message, ...]], tokens: int) -> tuple[float, int, int]:
    """Seconds, prompt tokens, and answer tokens beyond the first of each prompt."""
    began = time.perf_counter()
    answers = door.answer([Request(prompt, Decoding(max_new_tokens=tokens)) for prompt in prompts])
    took = time.perf_counter() - began
    read = sum(a.tokens_in or 0 for a in answers)
    return took, read, sum((a.tokens_out or 0) for a in answers) - len(answers)


def make_plan(
    opened: "Opened",
    rungs: Sequence[Rung],
    reasons: Mapping[str, str],
    bench: Workbench,
    speed: Speed | None = None,
    exhaustive: bool = False,
    run_id: str = "",
) -> Plan:
    """The plan of a run on this task.

    reasons: rungs that are out, with the reason. speed: where it was measured, the plan has times.
    exhaustive: every rung is asked all items, not only those that its test reads. run_id: of the run that
    goes on, whose own opening is no other's. Counts tokens on up to 40 rows; asks no model.
    """
    opening = next_opening([row.key for row in opened.parts.certification], run_id).number
    task, parts, order = opened.task, opened.parts, opened.order
    in_play = [rung for rung in rungs if rung.name not in reasons]
    test = make_test(
        metric_of(task).kind,
        target=task.target,
        tolerance=task.zone,
        alpha_meets=allowance(max(1, len(in_play)), opening),
        items=len(order),
    )
    provable = test.provable()
    lengths = Lengths.of(bench)
    judged = task.metric == "judge"  # whose items are read at a number fixed beforehand, exhaustive or not
    most = len(order) if exhaustive and not judged else test.cap
    items = (most if exhaustive else test.looks[0], most)
    planned = tuple(
        PlannedRung(rung.name, skipped_because=reasons[rung.name])
        if rung.name in reasons
        else _planned(opened, bench, rung, lengths, items, speed)
        for rung in rungs
    )
    beside = calls_beside(opened, bench, lengths, planned, most)
    asked = doors_asked(opened, [rung.name for rung in in_play])
    sent = where_all(asked)
    proof = _proof(len(order), task.target, task.metric, provable, opening)
    return Plan(
        headline=f"{proof} Model {opened.door.name}; {sent}.",
        lines=(
            *_lines_of_parts(opened),
            lengths.in_words(opened.door),
            f"this would be opening {opening} of these certification items;"
            f" false-meets budget of each rung {test.alpha_meets:.5f}",
            proof,
            f"model {opened.door.name}: {sent}",
            *_asked_after(opened, len(in_play)),
            *_limit_lines(task.limits, len(order), len(in_play)),
            *prepared_lines(opened),
            *teacher_lines(opened, bench, lengths),
        ),
        rungs=planned,
        warnings=(*opened.warnings, *parts.notes, *near_warnings(parts), *_style_warnings(task)),
        priced=any(one.costs for one in asked),
        money=_money_of_all(planned, beside, exhaustive),
        provable=provable,
        beside=beside,
        facts={
            **_facts_of_parts(opened),
            "hosts": hosts_of(asked),
            "opening": opening,
            "alpha_per_rung": test.alpha_meets,
            "prompt_tokens": lengths.to_json(),
        },
    )


def _lines_of_parts(opened: "Opened") -> list[str]:
    """The task and its parts, in words."""
    task, parts, items = opened.task, opened.parts, len(opened.order)
    grouped = f" ({items} of them to be read)" if items != len(parts.certification) else ""
    return [
        f"task {task.name}: {task.metric}, target {task.target:g}, tolerance {task.zone:.3f}",
        f"examples: {opened.format}; train {len(parts.train)}, selection {len(parts.selection)},"
        f" certification {len(parts.certification)}{grouped}",
        _together(task, parts),
        *overlap_lines(parts),
    ]


def _facts_of_parts(opened: "Opened") -> dict[str, Any]:
    """The task and its parts, as plain values."""
    parts = opened.parts
    return {
        "task": opened.task.name,
        "parts": {
            "train": len(parts.train),
            "selection": len(parts.selection),
            "certification": len(parts.certification),
            "certification_items": len(opened.order),
            "clusters": parts.clusters,
        },
        "overlaps": [overlap.to_json() for overlap in parts.overlaps],
        "format": opened.format,
        "host": opened.door.host,
    }


def _together(task: Task, parts: Parts) -> str:
    if isinstance(task.examples, PartPaths):
        return f"parts as given; near-duplicates and groups form {parts.clusters} clusters"
    return f"near-duplicates and groups kept together: {parts.clusters} clusters"


def _planned(
    opened: "Opened",
    bench: Workbench,
    rung: Rung,
    lengths: Lengths,
    items: tuple[int, int],
    speed: Speed | None,
) -> PlannedRung:
    """One rung, at the model that is prompted or at the weights that it trains."""
    outlook = rung.outlook(bench)
    if not outlook.train_rows:
        return planned_rung(outlook, rung.name, lengths, bench.door, items, speed)
    door = None if answers_apart(opened) else bench.door
    return with_own_weights(opened, planned_rung(outlook, rung.name, lengths, door, items, speed))


def prepared_lines(opened: "Opened") -> list[str]:
    """What a voice or a judge takes beside the rungs' own calls, which the table does not count."""
    lines = []
    if opened.task.style is not None and opened.task.style.base is None:
        lines.append(
            f"style: up to {MOST_BASE} inputs are asked of the bare model, to tell the voice from it"
        )
    for judge in (asked for asked in doors_asked(opened, ()) if asked.role == "judge"):
        door = judge.door
        cost = "no price" if door.price is None else "see the plan below for its calls and their price"
        lines.append(
            f"judge {door.name}: reads every answer of every rung"
            f" ({sent_to(judge)}; {cost}), at a fixed number of {len(opened.order)}"
            " items; without people's labels no rung is proved"
        )
    return lines


def teacher_lines(opened: "Opened", bench: Workbench, lengths: "Lengths") -> list[str]:
    """What the teacher of ``distilled`` is asked, by whom it is answered, and what that costs at most."""
    from tunewise.rungs.distilled import inputs_of

    section = opened.task.teacher
    if section is None:
        return []
    door = opened.teacher_door or opened.door
    asked = min(section.most, len(inputs_of(bench).kept)) + len(opened.parts.selection)
    cost = "no price"
    if door.price is not None:
        usd = door.price.of(round(asked * fmean(lengths.bare)), asked * lengths.max_new_tokens)
        cost = f"from {usd:.4f} USD with the bare prompt"
    return [
        f"teacher {door.name} as {section.rung}: answers up to {asked} inputs for distilled, and the items"
        f" that the student is asked ({where(door.host)}; {cost})"
    ]


def _style_warnings(task: Task) -> tuple[str, ...]:
    if task.metric != "style" or task.target <= PASSES:
        return ()
    return (
        f"target {task.target:g} asks for more than the voice itself: the threshold is such that"
        f" {PASSES:.0%} of the reference texts pass it; {PASSES - 0.1:.2f} is ambitious already",
    )


def _asked_after(opened: "Opened", rungs: int) -> tuple[str, ...]:
    """The line on calls that come after the decision; none without a later version of the documents."""
    from tunewise.staleness import MOST_CHANGED, MOST_UNCHANGED, references_after

    knowledge = opened.task.knowledge
    if knowledge is None or knowledge.documents_after is None:
        return ()
    changed = min(MOST_CHANGED, sum(references_after(example) is not None for example in opened.order))
    most = changed * (rungs + 1) + 2 * MOST_UNCHANGED
    return (
        f"after the decision up to {most} more calls ask about {knowledge.documents_after.name}, on"
        f" {changed} questions whose answer changed",
    )


def _proof(items: int, target: float, metric: str, provable: float | None, opening: int) -> str:
    opened = "" if opening == 1 else f" at their opening number {opening}"
    if provable is None:
        return (
            f"With your {items} certification items{opened} no system, however good, can be proved to meet"
            f" {target:g} {metric}: more items{'' if opening == 1 else ', new ones,'} or a lower target are"
            " needed."
        )
    return (
        f"With your {items} certification items{opened} and target {target:g} you can prove a system that is"
        f" truly at {provable:.3f} {metric} or better (80 % power)."
    )


def _limit_lines(limits: Limits | None, items: int, rungs: int) -> list[str]:
    """What testing the limits adds to the calls of the table, and whether so few items can prove any."""
    if limits is None:
        return []
    at_once = f"{limits.concurrency} at once" if limits.concurrency > 1 else "one at a time"
    lines = [
        f"limits: each rung whose quality meets is asked up to {min(MOST_CALLS, items)} further calls,"
        f" {at_once}, after {max(WARM_UP, limits.concurrency)} to warm up"
    ]
    if items < (fewest := fewest_calls(ALPHA / max(1, rungs))):
        lines.append(
            f"limits: cannot be proved with {items} certification items, since each is asked once: at least"
            f" {fewest} are needed, so that no rung can win; add rows, or take the limits out"
        )
    return lines


def _money_of_all(planned: Sequence[PlannedRung], beside: Sequence[Beside], exhaustive: bool) -> str:
    """From the cheapest rung that is priced, with what is asked beside it at least, to all there is.

    Exhaustive: from all rungs at their least.
    """
    rungs = [(r.usd_low, r.usd_high) for r in planned if r.usd_low is not None and r.usd_high is not None]
    more = [(b.usd_low, b.usd_high) for b in beside if b.usd_low is not None and b.usd_high is not None]
    if not rungs and not more:
        return "no price"
    lows = [usd for usd, _ in rungs]
    low = (sum(lows) if exhaustive else min(lows, default=0.0)) + sum(usd for usd, _ in more)
    high = sum(usd for _, usd in (*rungs, *more))
    return f"{low:.4f} to {high:.4f} USD"
