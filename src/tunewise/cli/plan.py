"""``tunewise plan``: what every rung of a task would take, before anything runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunewise.cli.documents import print_json

if TYPE_CHECKING:
    from tunewise.forecast import Forecast, RungForecast


def plan(
    task: Annotated[Path, typer.Argument(metavar="TASK", help="The task file (YAML).")],
    seed: Annotated[int, typer.Option(help="Order of certification, draws of examples.")] = 0,
    rungs: Annotated[str | None, typer.Option(help="Only these rungs, comma-separated.")] = None,
    gpu: Annotated[
        str, typer.Option(help="What local models run on: cpu, or a GPU of the catalogue.")
    ] = "cpu",
    today: Annotated[
        str | None, typer.Option(help="The rung that break-even volumes are against; default few-shot.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="How long one build is used; default 90.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Say what every rung would take, from calls to money, and which data would leave. Runs nothing."""
    from tunewise.errors import SettingError
    from tunewise.forecast import plan as plan_task

    if days is not None and days <= 0:
        raise SettingError(f"--days: a number above 0 was expected, got {days:g}")
    names = None if rungs is None else [name.strip() for name in rungs.split(",") if name.strip()]
    found = plan_task(task, seed=seed, rungs=names, gpu=gpu, today=today, days=days)
    if as_json:
        print_json(found.to_json())
    else:
        print_forecast(found)


def print_forecast(found: "Forecast") -> None:
    """One line per rung, then break-even volumes and what would leave this machine."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(escape(found.headline), soft_wrap=True)
    console.print(f"Local models are estimated for {escape(found.hardware)}.\n", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("rung", "calls", "tokens in", "tokens out", "time", "memory", "disk", "USD"):
        table.add_column(heading)
    tried = [rung for rung in found.rungs if not rung.skipped_because]
    for rung in tried:
        table.add_row(*_row(rung))
    for row in found.beside:
        calls = _counts((row.calls_low, row.calls_high))
        table.add_row(f"beside: {escape(row.what)}", calls, "", "", "", "", "", row.money)
    console.print(table)
    for rung in found.rungs:
        if rung.skipped_because:
            console.print(
                f"{rung.rung}: skipped, {escape(rung.skipped_because)}", style="dim", soft_wrap=True
            )
    console.print()
    for rung in tried:
        if rung.break_even is not None:
            console.print(escape(_break_even(rung)), soft_wrap=True)
    console.print()
    for rung in tried:
        console.print(escape(f"{rung.rung}: {_leaves(rung)}"), soft_wrap=True)
    for line in found.lines:
        if line.startswith(("judge ", "after the decision")):
            console.print(escape(line), soft_wrap=True)
    for note in dict.fromkeys(note for rung in tried for note in rung.notes):
        console.print(escape(note), style="dim", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"Warning: {escape(warning)}", style="yellow", soft_wrap=True)


def _row(rung: "RungForecast") -> tuple[str, ...]:
    return (
        rung.rung,
        _counts(rung.calls),
        _counts(rung.tokens_in),
        _counts(rung.tokens_out),
        "?" if rung.seconds is None else f"{_time(rung.seconds[0])}-{_time(rung.seconds[1])}",
        "none" if rung.memory_gib is None else f"{rung.memory_gib[0]:.1f}-{rung.memory_gib[1]:.1f} GiB",
        "none" if not rung.disk_gib else f"{rung.disk_gib:.2f} GiB",
        "no price" if rung.usd is None else f"{rung.usd[0]:.4f}-{rung.usd[1]:.4f}",
    )


def _counts(found: tuple[int, int] | None) -> str:
    return "?" if found is None else f"{_short(found[0])}-{_short(found[1])}"


def _short(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5400 else f"{seconds / 3600:.1f}h"


def _break_even(rung: "RungForecast") -> str:
    even = rung.break_even
    assert even is not None
    if even.queries is None or even.per_day is None:
        return f"{rung.rung} against {even.today}: no break-even volume, {even.why}."
    if even.queries == 0:
        return f"{rung.rung} against {even.today}: cheaper from the first query on."
    return (
        f"{rung.rung} against {even.today}: pays from {even.queries:,.0f} queries on,"
        f" {even.per_day:,.1f} a day over {even.days:g} days."
    )


def _leaves(rung: "RungForecast") -> str:
    if not rung.leaves:
        return "nothing leaves this machine"
    return f"{', '.join(rung.leaves)} go to {rung.host}"
