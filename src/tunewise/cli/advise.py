"""``tunewise advise``: advice on paper from a task file, a facts file or an interview."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.documents import print_json

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
    model: Annotated[
        str | None, typer.Option(help="With facts: the model whose tuning is estimated.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="With a task: tokens per word and perplexity of its texts.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Write the interview's facts to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Say on paper which way the facts point, with reasons. Calls no model."""
    from tunewise.advice.advise import advise as advise_on_task
    from tunewise.advice.framework import Thresholds
    from tunewise.errors import SettingError

    thresholds = Thresholds(static_rows, latency_ms, cost_usd)
    if not all(limit >= 0 for limit in (static_rows, latency_ms, cost_usd)):  # nor NaN
        raise SettingError("a threshold of 0 or more was expected (--static-rows, --latency-ms, --cost-usd)")
    if task is not None or facts is not None:
        given = advise_on_task(task, facts=facts, model=model, thresholds=thresholds, measure=measure)
    else:
        given = advise_on_task(facts=_interviewed(thresholds, save), model=model, thresholds=thresholds)
    if as_json:
        print_json(given.to_json())
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
        lambda text: console.print(f"   {text}", style="yellow", markup=False),
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
    """The advice for people, in plain lines: a table would cost more time than the advice itself."""
    from tunewise.advice.estimates import in_words

    plain = advice.to_json()
    say(advice.approach, bold=True)
    say(f"{advice.rule.says} (rule {advice.rule.id})")
    if advice.difference:
        say(advice.difference, dim=True)
    for place, ranked in enumerate(advice.ranked, start=1):
        say(f"\n{place}. {ranked.approach}", bold=True)
        say(f"for: {ranked.speaks_for}", indent="   ")
        say(f"against: {ranked.speaks_against}", indent="   ")
    say("")
    _print_facts(advice)
    unknown = set(advice.facts.unknown())
    turns = [flip for flip in advice.flips if flip.fact in unknown]
    if turns:
        say("\nUnknown facts that would change this:", bold=True)
        for flip in turns:
            say(f"- {advice.flip_json(flip)['says']}")
    say("\nWhat would overturn it:", bold=True)
    for entry in plain["overturned_by"]:
        if entry.get("fact") not in unknown:
            say(f"- {entry['says']}")
    if advice.stage.stage:
        say(f"\nStage: {advice.stage.stage}. {advice.stage.why}")
        say(f"Method: {advice.method.method}. {advice.method.why}")
    for sign in advice.stage.signs:
        say(f"- {sign}")
    say(f"\n`tunewise decide` would try, in this order: {', '.join(advice.rungs)}.")
    for rung, figures in advice.estimates.items():
        say(f"{rung}: {in_words(figures)}")
    for rung, reason in advice.skipped.items():
        say(f"{rung}: left out, {reason}", dim=True)
    for warned in advice.warnings:
        say(f"Warning: {warned.says}", yellow=True)


def say(text: str, indent: str = "", bold: bool = False, dim: bool = False, yellow: bool = False) -> None:
    """A paragraph, wrapped at a terminal; colours only there."""
    if sys.stdout.isatty():
        from shutil import get_terminal_size
        from textwrap import wrap

        width = min(get_terminal_size().columns, 110)
        after = indent + ("  " if text.startswith("- ") else "")
        lines = []
        for part in text.split("\n"):
            lines += wrap(part, width, initial_indent=indent, subsequent_indent=after) or [""]
    else:
        lines = [f"{indent}{text}"]
    said = "\n".join(lines)
    typer.echo(typer.style(said, bold=bold or None, dim=dim or None, fg="yellow" if yellow else None))


def _print_facts(advice: "Advice") -> None:
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
