"""Tables for people: the plan, the decision, the models."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tunewise.cli.consoles import table_console
from tunewise.cli.economics_table import print_economics, print_limits
from tunewise.cli.guard_table import print_guard
from tunewise.report.further import further_figures, how_often, usd_in_words

if TYPE_CHECKING:
    from tunewise.planning import Plan


def print_decision(decision: dict[str, Any], folder: Path) -> None:
    """The ladder, the choice in one plain sentence, and where the rest lies."""
    console = table_console()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("rung", "verdict", decision["metric"], "between", "items", "gap", "built"):
        table.add_column(heading, no_wrap=heading != "items")
    for rung in decision["rungs"]:
        if "skipped_because" in rung:
            continue
        quality = rung["quality"]
        table.add_row(
            f"[bold]{rung['rung']}[/bold]" if rung["rung"] == decision["choice"] else rung["rung"],
            rung["verdict"].replace("_", " "),
            number(quality["estimate"]),
            f"{number(quality['low'])} to {number(quality['high'])}",
            _items(rung),
            rung["gap"] or "",
            f"{rung['build']['seconds']:.0f} s" if rung["build"] else "",
        )
    console.print(table)
    for rung in decision["rungs"]:
        if "skipped_because" in rung:
            continue
        for line in filter(None, (further_figures(rung), *rung["notes"])):
            console.print(f"{rung['rung']}: {escape(line)}", style="dim", soft_wrap=True, highlight=False)
    print_skipped(console, [(r["rung"], r.get("skipped_because")) for r in decision["rungs"]])
    _print_held(console, decision)
    console.print()
    console.print(escape(decision["reasons"][0]), style="bold", soft_wrap=True)
    if decision["maybe_enough"]:
        console.print(f"Maybe enough already, but not proved: {', '.join(decision['maybe_enough'])}.")
    for line in decision["what_would_change_this"]:
        console.print(f"- {escape(line)}", soft_wrap=True)
    if advice := decision.get("advice"):
        console.print(escape(advice["says"]), soft_wrap=True, style="dim" if advice["agrees"] else "yellow")
    print_guard(console, decision)
    print_limits(console, decision)
    print_economics(console, decision)
    _print_staleness(console, decision)
    spent = decision["spent"]
    usd = usd_in_words(spent)
    console.print(
        f"\nSpent {spent['calls']} calls, {spent['seconds']:.0f} s{f', {usd}' if usd else ''}."
        f" These certification items were opened {how_often(decision['openings']['number'])}.",
        style="dim",
    )
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
    if decision["choice"]:
        console.print(f"Answer new inputs: tunewise answer {folder} FILE", soft_wrap=True)


def print_skipped(console: Console, rungs: Sequence[tuple[str, str | None]]) -> None:
    """One line for each reason, with all rungs that were skipped for it; None is no reason."""
    by_reason: dict[str, list[str]] = {}
    for rung, reason in rungs:
        if reason:
            by_reason.setdefault(reason, []).append(rung)
    for reason, names in by_reason.items():
        console.print(f"{', '.join(names)}: skipped, {escape(reason)}", style="dim", highlight=False)


def _print_held(console: Console, decision: dict[str, Any]) -> None:
    """What a grammar gives on top of each rung; nothing where no form was declared."""
    held = [r for r in decision["rungs"] if (r.get("constrained") or {}).get("n")]
    if not held:
        return
    console.print(f"\nRaw, and held to the declared form, on selection items ({decision['metric']}):")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    further = any(_fields_right(rung["constrained"]) for rung in held)
    for heading in ("rung", "raw", "held", "items", *(("fields right, raw and held",) if further else ())):
        table.add_column(heading, no_wrap=True)
    for rung in held:
        figures = rung["constrained"]
        of = (rung["build"] or {}).get("prompt_of")
        named = f"{rung['rung']} ({of})" if of else rung["rung"]
        cells = [named, number(figures["raw"]), number(figures["constrained"]), str(figures["n"])]
        table.add_row(*cells, _fields_right(figures))
    console.print(table)
    for rung in held:
        for note in rung["constrained"]["notes"]:
            console.print(f"{rung['rung']}: {escape(note)}", style="dim", soft_wrap=True)
        speed = rung["constrained"]["tokens_per_second"]
        if rung["rung"] == "constrained" and all(speed.values()):
            raw, constrained = speed["raw"], speed["constrained"]
            console.print(f"Tokens per second: {raw:.0f} without the grammar, {constrained:.0f} with it.")


def _fields_right(figures: dict[str, Any]) -> str:
    """Mean F1 against the right fields, raw and held: a form says nothing of what stands in it."""
    sides = [figures.get("figures", {}).get(name, {}) for name in ("raw", "constrained")]
    both = [side.get("avg_field_correctness") for side in sides]
    return "" if None in both else " and ".join(number(value) for value in both)


def _print_staleness(console: Console, decision: dict[str, Any]) -> None:
    """How each measured rung does after the documents changed; nothing without a later version of them."""
    stale = decision.get("staleness")
    if not stale:
        return
    console.print(f"\nAfter the documents changed ({stale['changed_items']} questions with a new answer):")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("rung", "", "before", "after", "between"):
        table.add_column(heading, no_wrap=True)
    for rung in stale["rungs"]:
        after = rung["after"]
        table.add_row(
            rung["rung"],
            rung["how"],
            number(rung["before"]["estimate"]),
            number(after["estimate"]),
            f"{number(after['low'])} to {number(after['high'])}",
        )
    console.print(table)
    if stale["cut_off"]:
        console.print(f"Cut off: {escape(stale['cut_off'])}", style="yellow", soft_wrap=True)


def _items(rung: dict[str, Any]) -> str:
    everything = rung.get("all_items")
    if not everything:
        return str(rung["quality"]["n"])
    return f"{rung['quality']['n']} (all {everything['n']}: {everything['estimate']:.3f})"


def number(value: float | None) -> str:
    """Three places, or a question mark where undefined."""
    return "?" if value is None else f"{value:.3f}"


def print_plan(plan: "Plan", *, to_stderr: bool = False) -> None:
    """Splits, what can be proved, and what each rung would take."""
    console = table_console(stderr=to_stderr)
    for line in plan.lines:
        console.print(escape(line), soft_wrap=True)
    table = Table(box=None, pad_edge=False, title="Plan", title_justify="left")
    for heading in ("rung", "calls", "tokens in", "tokens out", "time", "USD"):
        table.add_column(heading)
    for rung in plan.rungs:
        if rung.skipped_because:
            continue
        table.add_row(
            rung.rung,
            f"{rung.calls_low}-{rung.calls_high}",
            _range(rung.tokens_in_low, rung.tokens_in_high),
            _range(rung.tokens_out_low, rung.tokens_out_high),
            rung.time or "not known",
            rung.money,
        )
    for row in plan.beside:
        calls = f"{row.calls_low}-{row.calls_high}"
        table.add_row(f"[dim]beside: {escape(row.what)}[/dim]", calls, "", "", "", row.money)
    console.print(table)
    console.print(f"At most {plan.calls_high} calls in all; {plan.money}.", soft_wrap=True)
    whys: dict[str, list[str]] = {}
    for rung in plan.rungs:
        if rung.time_why:
            whys.setdefault(rung.time_why, []).append(rung.rung)
    for why, names in whys.items():
        console.print(f"Time of {', '.join(names)}: {escape(why)}", style="dim", soft_wrap=True)
    print_skipped(console, [(rung.rung, rung.skipped_because) for rung in plan.rungs])
    for warning in plan.warnings:
        console.print(f"Warning: {escape(warning)}", soft_wrap=True, style="yellow")


def _range(low: int | None, high: int | None) -> str:
    return "not known" if low is None or high is None else f"{low:,}-{high:,}"


def print_models(found: list[dict[str, Any]]) -> None:
    """One line per model and where it lies."""
    console = Console()
    for model in found:
        state = "ready" if model["ready"] else model["problem"] or "will be converted when first used"
        size = "" if model["bytes"] is None else f", {model['bytes'] / 1e6:.0f} MB"
        console.print(
            f"[bold]{escape(model['name'])}[/bold] ({model['licence']}): {escape(state)}", soft_wrap=True
        )
        console.print(f"  in {escape(model['folder'])}{size}, from {escape(model['source'])}", soft_wrap=True)
    console.print(
        "Also: any folder or hub id of a causal language model (safetensors), and any OpenAI-compatible"
        " endpoint: see `model` in the task file.",
        style="dim",
        soft_wrap=True,
    )
