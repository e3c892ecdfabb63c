"""``tunewise bench``: parse, call, print."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.consoles import table_console
from tunewise.cli.documents import print_json

if TYPE_CHECKING:
    from tunewise.benchmarks.bench import BenchReport


def bench(
    model: Annotated[
        str, typer.Argument(help="embedded, a folder of weights, a hub id, or an endpoint's URL.")
    ],
    adapter: Annotated[Path | None, typer.Option(help="A LoRA adapter on the model.")] = None,
    name: Annotated[str | None, typer.Option(help="The model's name at an endpoint.")] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated: hellaswag,arc_easy,mmlu,... or .jsonl files.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of benchmark rows; without it: the hub.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many items of each.")] = None,
    compare: Annotated[
        str | None, typer.Option(help="A second model, or an adapter on MODEL: what did it lose?")
    ] = None,
    compare_name: Annotated[
        str | None, typer.Option(help="The second model's name at its endpoint, by default MODEL's.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Neither use nor keep earlier scores.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Measure general benchmarks of a model, and what a second one lost against it."""
    from tunewise.benchmarks.bench import bench as measure
    from tunewise.cli.terminal import PlainLines

    report = measure(
        model,
        adapter=adapter,
        name=name,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()],
        data=data,
        limit=limit,
        compare_with=compare,
        compare_name=compare_name,
        keep=not fresh,
        progress=PlainLines(sys.stderr),
    )
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)


def print_report(report: "BenchReport") -> None:
    """A table per model, the paired comparison, and what has to be known about the figures."""
    console = table_console()
    show_figures(
        console, report.model + (f" with {report.adapter}" if report.adapter else ""), report.measured
    )
    if report.compared_with:
        show_figures(console, report.compared_with, report.second)
        show_comparison(console, report)
    said: dict[str, list[str]] = {}
    for measured in (*report.measured, *report.second):
        for note in measured.notes():
            names = said.setdefault(note, [])
            names += [measured.benchmark.name] * (measured.benchmark.name not in names)
    for note, names in said.items():
        console.print(f"{', '.join(names)}: {note}.", style="dim", soft_wrap=True, markup=False)
    for name, why in report.left_out:
        console.print(f"{name}: left out, {why}", style="dim", soft_wrap=True, markup=False)


def show_figures(console: Any, title: str, measured: Any) -> None:
    """One line per benchmark."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=escape(title), title_justify="left")
    for heading in ("benchmark", "figure", "estimate", "95 %", "chance", "items", "seconds"):
        table.add_column(heading, no_wrap=heading != "figure", overflow="fold")
    for one in measured:
        for place, (name, figure) in enumerate(one.figures.items()):
            shown = name != "gold_probability"
            if not shown:
                continue
            table.add_row(
                "" if place else f"[bold]{escape(one.benchmark.name)}[/bold]",
                name,
                number(figure.estimate),
                f"{number(figure.low)} to {number(figure.high)}",
                "" if place or one.guessing is None else number(one.guessing) + (" !" if one.guesses else ""),
                "" if place else str(len(one.outcome.items)),
                ""
                if place
                else (
                    "kept" if one.outcome.found == len(one.outcome.items) else f"{one.outcome.seconds:.1f}"
                ),
            )
    console.print(table)
    console.print()


def show_comparison(console: Any, report: "BenchReport") -> None:
    """What the second model lost: raw, relative, and relative to what is above chance."""
    from rich.markup import escape
    from rich.table import Table

    title = f"lost by {report.compared_with}, paired (negative: gained)"
    table = Table(box=None, pad_edge=False, title=escape(title), title_justify="left")
    headings = "benchmark", "lost", "gained", "drop", "95 %", "relative", "95 %", "above chance", "95 %"
    for heading in headings:
        table.add_column(heading)
    for row in [*report.comparisons, *([report.pooled] if report.pooled else [])]:
        table.add_row(
            f"[bold]{escape(row.name)}[/bold]",
            "" if row.lost is None else str(row.lost),
            "" if row.gained is None else str(row.gained),
            number(row.drop.estimate),
            f"{number(row.drop.low)} to {number(row.drop.high)}",
            percent(row.relative.estimate),
            f"{percent(row.relative.low)} to {percent(row.relative.high)}",
            percent(row.above_chance.estimate),
            f"{percent(row.above_chance.low)} to {percent(row.above_chance.high)}"
            if row.above_chance.estimate is not None
            else "",
        )
    console.print(table)
    for row in report.comparisons:
        if row.why is not None and row.lost is not None:
            console.print(f"{row.name}: {row.why}, so that a drop relative to that is undefined", style="dim")
        if row.visible is not None:
            console.print(
                f"{row.name}: with {row.n} items a true drop of {row.visible:.0%} is noticed 9 times in 10",
                style="dim",
            )
        elif row.lost is not None:
            console.print(f"{row.name}: {row.n} items are too few to notice any drop reliably", style="dim")
    console.print()


def number(value: float | None) -> str:
    """Three places, one from 10 on, or a question mark where undefined."""
    return "?" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def percent(value: float | None) -> str:
    """A share as per cent, or a question mark where undefined."""
    return "?" if value is None else f"{value:.1%}"
