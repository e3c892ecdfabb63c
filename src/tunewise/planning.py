"""What a run would take and what the data can prove, worked out before any call is made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewise.data import Message
from tunewise.errors import DataError
from tunewise.evidence.judgement import allowance, make_test
from tunewise.evidence.limits import MOST_CALLS
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.style.voice import PASSES
from tunewise.hosts import Asked, doors_asked, hosts_of, sent_to, where, where_all
from tunewise.measures import MOST_BASE
from tunewise.models.door import Decoding, Door, Request
from tunewise.openings import next_opening
from tunewise.probing import WARM_UP
from tunewise.rungs.prompt import BYTES_PER_TOKEN, layout_of, place_of, prompt_tokens
from tunewise.rungs.rung import Outlook, Rung, Workbench
from tunewise.task import Task
from tunewise.task_limits import Limits

if TYPE_CHECKING:
    from tunewise.api import Opened

SAMPLE = 40  # rows whose tokens are counted for the plan
PROBES = 16
TEMPLATE_BYTES = 64  # what a chat template may add around a turn
PROBE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class PlannedRung:
    """One rung of a plan, or why it is skipped. Tokens are over all its calls; None: not known."""

    rung: str
    skipped_because: str | None = None
    calls_low: int = 0
    calls_high: int = 0
    tokens_in_low: int | None = None
    tokens_in_high: int | None = None
    tokens_out_low: int | None = None
    tokens_out_high: int | None = None
    train_tokens: int = 0
    build_calls: int = 0
    usd_low: float | None = None
    usd_high: float | None = None
    time: str = ""
    money: str = ""


@dataclass(frozen=True)
class Plan:
    """The plan of a run. ``lines``: data and proof in words; ``priced``: a yes is needed before it runs."""

    headline: str
    lines: tuple[str, ...]
    rungs: tuple[PlannedRung, ...]
    warnings: tuple[str, ...]
    priced: bool
    money: str
    provable: float | None
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        }


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of a door, measured on a few of the task's own prompts in one batch."""

    prompt: float
    answer: float


def measure_speed(bench: Workbench) -> Speed | None:
    """The speed of a door on this machine; None for a host, where a probe would send data and may cost.

    Asks 16 prompts twice, for one token and for up to 24. Loading the model is not counted.
    """
    if bench.door.host is not None:
        return None
    layout = layout_of(bench)
    rows = (*bench.parts.selection, *bench.parts.train)[:PROBES]
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
) -> Plan:
    """The plan of a run on this task.

    reasons: rungs that are out, with the reason. speed: where it was measured, the plan has times.
    Counts tokens on up to 40 rows; asks no model.
    """
    opening = next_opening([example.key for example in opened.order]).number
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
    planned = tuple(
        PlannedRung(rung.name, skipped_because=reasons[rung.name])
        if rung.name in reasons
        else _planned(rung.outlook(bench), rung.name, lengths, bench.door, (test.looks[0], test.cap), speed)
        for rung in rungs
    )
    asked = doors_asked(opened, [rung.name for rung in in_play])
    sent = where_all(asked)
    proof = _proof(len(order), task.target, task.metric, provable)
    priced = any(one.costs for one in asked)
    return Plan(
        headline=f"{proof} Model {opened.door.name}; {sent}.",
        lines=(
            f"task {task.name}: {task.metric}, target {task.target:g}, tolerance {task.zone:.3f}",
            f"examples: {opened.format}; train {len(parts.train)}, selection {len(parts.selection)},"
            f" certification {len(parts.certification)}"
            + (f" ({len(order)} groups, one item each)" if len(order) != len(parts.certification) else ""),
            f"near-duplicates and groups kept together: {parts.clusters} clusters",
            lengths.in_words(opened.door),
            f"this would be opening {opening} of these certification items;"
            f" false-meets budget of each rung {test.alpha_meets:.5f}",
            proof,
            f"model {opened.door.name}: {sent}",
            *_asked_after(opened, len(in_play)),
            *_limit_lines(task.limits),
            *prepared_lines(opened),
            *teacher_lines(opened, bench, lengths),
        ),
        rungs=planned,
        warnings=(*opened.warnings, *parts.notes, *_style_warnings(task)),
        priced=priced,
        money=_money_of_all(planned) if priced else "no price",
        provable=provable,
        facts={
            "task": task.name,
            "parts": {
                "train": len(parts.train),
                "selection": len(parts.selection),
                "certification": len(parts.certification),
                "certification_items": len(order),
                "clusters": parts.clusters,
            },
            "overlaps": [str(overlap) for overlap in parts.overlaps],
            "format": opened.format,
            "host": opened.door.host,
            "hosts": hosts_of(asked),
            "opening": opening,
            "alpha_per_rung": test.alpha_meets,
            "prompt_tokens": lengths.to_json(),
        },
    )


def prepared_lines(opened: "Opened") -> list[str]:
    """What a voice or a judge takes beside the rungs' own calls, which the table does not count."""
    lines = []
    if opened.task.style is not None and opened.task.style.base is None:
        lines.append(
            f"style: up to {MOST_BASE} inputs are asked of the bare model, to tell the voice from it"
        )
    if opened.task.judge is not None and opened.judge_door is not None:
        door = opened.judge_door
        cost = "no price" if door.price is None else "its price is not in the table below"
        lines.append(
            f"judge {door.name}: reads every answer of every rung"
            f" ({sent_to(Asked('judge', door))}; {cost}), at a fixed number of {len(opened.order)}"
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


def _proof(items: int, target: float, metric: str, provable: float | None) -> str:
    if provable is None:
        return (
            f"With your {items} certification items no system, however good, can be proved to meet"
            f" {target:g} {metric}: more items or a lower target are needed."
        )
    return (
        f"With your {items} certification items and target {target:g} you can prove a system that is"
        f" truly at {provable:.3f} {metric} or better (80 % power)."
    )


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of a sample of rows; ``exact`` where the door counts, else bytes over 3."""

    bare: tuple[int, ...]
    answers: tuple[int, ...]
    exact: bool
    max_new_tokens: int

    @classmethod
    def of(cls, bench: Workbench) -> "Lengths":
        """Counts the bare prompt of the longest rows and of an even sample of the rest."""
        parts = bench.parts
        rows = [*parts.certification, *parts.selection, *parts.train]
        longest = max(rows, key=lambda example: sum(len(turn.content) for turn in example.turns))
        sample = [longest, *rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]]
        layout = layout_of(bench)
        prompts = [layout.messages(example.turns, (), ()) for example in sample]
        return cls(
            bare=tuple(prompt_tokens(bench.door, messages) for messages in prompts),
            answers=tuple(-(-len(example.answer.encode()) // BYTES_PER_TOKEN) for example in sample),
            exact=bench.door.count_tokens(prompts[0]) is not None,
            max_new_tokens=bench.task.decoding.max_new_tokens,
        )

    def in_words(self, door: Door) -> str:
        """One line for people."""
        about = "" if self.exact else "about "
        window = "not known" if door.context_window is None else f"{door.context_window:,} tokens"
        return (
            f"bare prompt {about}{fmean(self.bare):.0f} tokens, longest {max(self.bare)}, answers about"
            f" {fmean(self.answers):.0f}, at most {self.max_new_tokens}; context window {window}"
        )

    def to_json(self) -> dict[str, Any]:
        """Mean and longest bare prompt, mean answer, in tokens."""
        return {
            "bare_mean": fmean(self.bare),
            "bare_longest": max(self.bare),
            "answer_mean": fmean(self.answers),
            "exact": self.exact,
        }


def refuse_too_long(bench: Workbench) -> None:
    """Raise DataError, naming every row to be answered whose bare prompt leaves no room for an answer."""
    window = bench.door.context_window
    if window is None:
        return
    layout = layout_of(bench)
    room = window - layout.decoding.max_new_tokens
    found = []
    for example in (*bench.parts.selection, *bench.parts.certification):
        messages = layout.messages(example.turns, (), ())
        # a token is at least one byte, so short rows need no counting
        if sum(len(m.content.encode()) + TEMPLATE_BYTES for m in messages) > room:
            size = prompt_tokens(bench.door, messages)
            if size > room:
                found.append(f"{place_of(example)}: the prompt has {size} tokens")
    if found:
        more = f"\n  ... and {len(found) - 10} more" if len(found) > 10 else ""
        raise DataError(
            f"the model's context window of {window} tokens has no room for the answer (max_new_tokens"
            f" {layout.decoding.max_new_tokens}) after these prompts:\n  "
            + "\n  ".join(found[:10])
            + more
            + "\nShorten or drop these rows, lower decoding.max_new_tokens, or take a model with a longer"
            " window."
        )


def _limit_lines(limits: Limits | None) -> list[str]:
    """What testing the limits adds to the calls of the table."""
    if limits is None:
        return []
    at_once = f"{limits.concurrency} at once" if limits.concurrency > 1 else "one at a time"
    return [
        f"limits: each rung whose quality meets is asked up to {MOST_CALLS} further calls, {at_once},"
        f" after {max(WARM_UP, limits.concurrency)} to warm up"
    ]


def _planned(
    outlook: Outlook, rung: str, lengths: Lengths, door: Door, items: tuple[int, int], speed: Speed | None
) -> PlannedRung:
    """Least and most of a rung: the test may stop at its first look or run to its cap (``items``)."""
    bare, answer = fmean(lengths.bare), fmean(lengths.answers)
    calls_low, calls_high = (outlook.build_calls + count for count in items)
    shot = bare + answer
    in_low = round(calls_low * (bare + outlook.shots[0] * shot + outlook.passage_tokens[0]))
    in_high = round(calls_high * (bare + outlook.shots[1] * shot + outlook.passage_tokens[1]))
    read = shot + fmean(outlook.passage_tokens)
    train_tokens = round(outlook.train_rows * outlook.epochs * read) + outlook.read_tokens
    out_low, out_high = round(calls_low * answer), calls_high * lengths.max_new_tokens
    usd_low = door.price.of(in_low, out_low) if door.price else None
    usd_high = door.price.of(in_high, out_high) if door.price else None
    return PlannedRung(
        rung,
        calls_low=calls_low,
        calls_high=calls_high,
        tokens_in_low=in_low,
        tokens_in_high=in_high,
        tokens_out_low=out_low,
        tokens_out_high=out_high,
        train_tokens=train_tokens,
        build_calls=outlook.build_calls,
        usd_low=usd_low,
        usd_high=usd_high,
        time=""
        if speed is None
        else _minutes(
            _seconds(speed, in_low, out_low, train_tokens), _seconds(speed, in_high, out_high, train_tokens)
        ),
        money="no price" if usd_low is None or usd_high is None else f"{usd_low:.4f}-{usd_high:.4f}",
    )


def _seconds(speed: Speed, tokens_in: int, tokens_out: int, train_tokens: int) -> float:
    """Seconds; a training token costs about three prompt tokens (one pass forward, about two back)."""
    return (tokens_in + 3 * train_tokens) / speed.prompt + tokens_out / speed.answer


def _minutes(low: float, high: float) -> str:
    """A range of seconds for people."""
    return f"{low / 60:.1f}-{high / 60:.1f} min"


def _money_of_all(planned: Sequence[PlannedRung]) -> str:
    low = min((r.usd_low for r in planned if r.usd_low is not None), default=0.0)
    high = sum(r.usd_high for r in planned if r.usd_high is not None)
    return f"{low:.4f} to {high:.4f} USD"
