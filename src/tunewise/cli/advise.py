"""``tunewise advise``: advice on paper from a task file, a facts file or an interview."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tunewise.advice.advice import Advice
    from tunewise.advice.facts import Facts
    from tunewise.advice.framework import Thresholds
    from tunewise.advice.interview import Question


def advise(
    task: Annotated[
        Path | None, typer.Argument(metavar="[TASK]", help="The task file; without it, an interview.")
    ] = None,
    facts: Annotated[Path | None, typer.Option(help="A facts file (YAML) in place of a task.")] = None,
    static_rows: Annotated[
        int, typer.Option(help="Static knowledge with more labelled rows than this is trained in.")
    ] = 10_000,
    latency_ms: Annotated[float, typer.Option(help="A latency budget below this asks for tuning.")] = 200.0,
    cost_usd: Annotated[float, typer.Option(help="A cost per query below this asks for tuning.")] = 0.001,
    save: Annotated[Path | None, typer.Option(help="Write the interview's facts to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Say on paper which way the facts point, with reasons. Calls no model."""
    from tunewise.advice.advise import advise as advise_on_task
    from tunewise.advice.framework import Thresholds
    from tunewise.errors import SettingError

    thresholds = Thresholds(static_rows, latency_ms, cost_usd)
    if min(static_rows, latency_ms, cost_usd) < 0:
        raise SettingError("a threshold of 0 or more was expected (--static-rows, --latency-ms, --cost-usd)")
    if task is not None or facts is not None:
        given = advise_on_task(task, facts=facts, thresholds=thresholds)
    else:
        given = advise_on_task(facts=_interviewed(thresholds, save), thresholds=thresholds)
    if as_json:
        print(json.dumps(given.to_json(), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print_advice(given)


def _interviewed(thresholds: "Thresholds", save: Path | None) -> "Facts":
    """The facts as a person at the terminal tells them; questions go to standard error."""
    from tunewise.advice.interview import interview
    from tunewise.errors import SettingError

    if not sys.stdin.isatty():
        raise SettingError(
            "nothing to advise on: name a task file (tunewise advise TASK) or a facts file (--facts FILE);"
            " the interview needs a terminal"
        )
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    console.print("What is known of your task? Enter alone means: not known.", style="bold")
    facts = interview(
        lambda number, question, why: _asked(console, number, question, why),
        lambda text: console.print(f"  {text}", style="yellow", markup=False),
        thresholds,
    )
    console.print()
    if save is not None:
        lines = [
            f"{name}: {json.dumps(value) if isinstance(value, bool) else value}"
            for name, value in facts.to_json().items()
        ]
        save.write_text("\n".join(lines) + "\n", encoding="utf-8")
        console.print(f"Wrote {save}.", markup=False)
    return facts


def _asked(console: Any, number: int, question: "Question", why: str) -> str:
    """One question with its reason and the answers it takes."""
    console.print(f"\n{number}. {question.asks}", style="bold", markup=False)
    console.print(f"   {why}", style="dim", markup=False)
    try:
        return str(console.input(f"   ({question.answers}; default: unknown) > ", markup=False))
    except EOFError:
        raise KeyboardInterrupt from None


def print_advice(advice: "Advice") -> None:
    """The advice for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    plain = advice.to_json()

    def say(text: str, style: str | None = None) -> None:
        console.print(escape(text), style=style)

    say(f"{advice.approach}", "bold green")
    say(f"{advice.rule.says} (rule {advice.rule.id})")
    if advice.difference:
        say(advice.difference, "dim")
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for heading in ("", "for", "against"):
        table.add_column(heading, no_wrap=not heading)
    for place, ranked in enumerate(advice.ranked, start=1):
        table.add_row(f"{place}. {ranked.approach}", escape(ranked.speaks_for), escape(ranked.speaks_against))
    console.print(table)
    _print_facts(advice, say)
    unknown = set(advice.facts.unknown())
    turns = [flip for flip in advice.flips if flip.fact in unknown]
    if turns:
        say("Unknown facts that would change this:", "bold")
        for flip in turns:
            say(f"- {advice.flip_json(flip)['says']}")
    say("What would overturn it:", "bold")
    for entry in plain["overturned_by"]:
        if entry.get("fact") not in unknown:
            say(f"- {entry['says']}")
    if advice.stage.stage:
        console.print()
        say(f"Stage: {advice.stage.stage}. {advice.stage.why}")
        for sign in advice.stage.signs:
            say(f"- {sign}")
        say(f"Method: {advice.method.method}. {advice.method.why}")
    console.print()
    say(f"`tunewise decide` would try, in this order: {', '.join(advice.rungs)}.")
    for rung, reason in advice.skipped.items():
        say(f"{rung}: left out, {reason}", "dim")
    for warned in advice.warnings:
        say(f"Warning: {warned.says}", "yellow")


def _print_facts(advice: "Advice", say: Any) -> None:
    """What is known with its source, and what is not."""
    plain = advice.facts.to_json()
    known = [
        f"{name} {_value(plain[name])}"
        + (f" ({source})" if (source := advice.sources.get(name)) and source != "facts" else "")
        for name in plain
        if name not in advice.facts.unknown()
    ]
    say("Known: " + ("; ".join(known) or "nothing") + ".")
    if advice.facts.unknown():
        say("Not known: " + ", ".join(advice.facts.unknown()) + ".")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
