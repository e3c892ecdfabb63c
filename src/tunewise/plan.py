"""What a run would take and what the data can prove, worked out before any call is made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewise.data import Example
from tunewise.evidence.judgement import allowance, make_test
from tunewise.evidence.metrics import METRICS
from tunewise.models.door import Door
from tunewise.openings import next_opening
from tunewise.rungs.prompt import BYTES_PER_TOKEN, layout_of, prompt_tokens
from tunewise.rungs.rung import Outlook, Rung, Workbench

if TYPE_CHECKING:
    from tunewise.api import Opened

SAMPLE = 40  # rows whose tokens are counted for the plan


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


def make_plan(opened: "Opened", rungs: Sequence[Rung], reasons: Mapping[str, str], bench: Workbench) -> Plan:
    """The plan of a run on this task.

    reasons: rungs that are out, with the reason. Counts tokens on up to 40 rows; asks no model.
    """
    opening = next_opening([example.key for example in opened.order]).number
    task, parts, order = opened.task, opened.parts, opened.order
    in_play = [rung for rung in rungs if rung.name not in reasons]
    test = make_test(
        METRICS[task.metric].kind,
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
        else _planned(rung.outlook(bench), rung.name, lengths, bench.door, test.looks[0], test.cap)
        for rung in rungs
    )
    where = f"prompts go to {opened.door.host}" if opened.door.host else "nothing leaves this machine"
    proof = _proof(len(order), task.target, task.metric, provable)
    priced = opened.door.host is not None and opened.door.price is not None
    return Plan(
        headline=f"{proof} Model {opened.door.name}; {where}.",
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
            f"model {opened.door.name}: {where}",
        ),
        rungs=planned,
        warnings=(*opened.warnings, *parts.notes, *lengths.warnings(opened.door)),
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
            "opening": opening,
            "alpha_per_rung": test.alpha_meets,
            "prompt_tokens": lengths.to_json(),
        },
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
    longest: Example
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
            longest=longest,
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

    def warnings(self, door: Door) -> list[str]:
        """What would not fit, naming the row."""
        if door.context_window is None or max(self.bare) + self.max_new_tokens <= door.context_window:
            return []
        at = f"{self.longest.source}:{self.longest.line}"
        return [
            f"{at}: the bare prompt has {max(self.bare)} tokens and the answer may have"
            f" {self.max_new_tokens}, more than the context window of {door.context_window}"
        ]

    def to_json(self) -> dict[str, Any]:
        """Mean and longest bare prompt, mean answer, in tokens."""
        return {
            "bare_mean": fmean(self.bare),
            "bare_longest": max(self.bare),
            "answer_mean": fmean(self.answers),
            "exact": self.exact,
        }


def _planned(
    outlook: Outlook, rung: str, lengths: Lengths, door: Door, first_look: int, cap: int
) -> PlannedRung:
    """Least and most of a rung: the test may stop at its first look or run to its cap."""
    bare, answer = fmean(lengths.bare), fmean(lengths.answers)
    calls_low, calls_high = outlook.build_calls + first_look, outlook.build_calls + cap
    shot = bare + answer
    in_low = round(calls_low * (bare + outlook.shots[0] * shot + outlook.passage_tokens[0]))
    in_high = round(calls_high * (bare + outlook.shots[1] * shot + outlook.passage_tokens[1]))
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
        train_tokens=round(outlook.train_rows * outlook.epochs * shot),
        usd_low=usd_low,
        usd_high=usd_high,
        money="no price" if usd_low is None or usd_high is None else f"{usd_low:.4f}-{usd_high:.4f}",
    )


def _money_of_all(planned: Sequence[PlannedRung]) -> str:
    low = min((r.usd_low for r in planned if r.usd_low is not None), default=0.0)
    high = sum(r.usd_high for r in planned if r.usd_high is not None)
    return f"{low:.4f} to {high:.4f} USD"
