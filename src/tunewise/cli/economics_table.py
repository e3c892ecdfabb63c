"""Limits and economics of a decision for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_limits(console: Console, decision: Mapping[str, Any]) -> None:
    """What the probes said of each limit, and the times they found."""
    for rung in decision["rungs"]:
        times = rung.get("latency_ms") or {}
        if times.get("p50") is not None:
            first = times.get("first_token_p50")
            token = "" if first is None else f", first token {first:.0f} ms"
            console.print(
                f"{rung['rung']}: median {times['p50']:.0f} ms, p95 {times['p95']:.0f} ms{token}"
                f" ({times['calls']} unbatched calls, {times['concurrency']} at once)",
                soft_wrap=True,
                highlight=False,
            )
        for limit in rung.get("limits") or []:
            console.print(f"  {escape(limit['says'])}", soft_wrap=True, highlight=False)


def print_economics(console: Console, decision: Mapping[str, Any]) -> None:
    """What a day costs with each rung, and from which volume on it pays; nothing without the section."""
    block = decision.get("economics")
    if not block:
        return
    console.print(f"\nEconomics at {block['queries_per_day']:g} queries a day, today: {block['today']}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("rung", "runs on", "tokens in", "USD/query", "USD/day", "pays from"):
        table.add_column(heading, no_wrap=heading not in ("runs on", "pays from"), overflow="fold")
    for rung in block["rungs"]:
        tokens = rung["tokens_in_per_query"]
        for way in rung["ways"]:
            table.add_row(
                rung["rung"],
                way["way"] + (f" ({way['machines']})" if way["machines"] else ""),
                "?" if tokens is None else f"{tokens:.0f}",
                f"{way['usd_per_query']:.3g}",
                f"{way['usd_per_day']:.4g}",
                pays_from(way),
            )
    console.print(table)
    for rung in block["rungs"]:
        if rung["why"]:
            console.print(f"{rung['rung']}: no cost, {escape(rung['why'])}", style="dim", soft_wrap=True)
    for line in block["sentences"]:
        console.print(f"- {escape(line)}", soft_wrap=True, highlight=False)


def pays_from(way: Mapping[str, Any]) -> str:
    """The break-even volume in a cell."""
    even = way["break_even_queries_per_day"]
    if even is None:
        return "(today)" if way["break_even_why"] == "this is what is used today" else "?"
    if isinstance(even, str):
        return even
    dearer = way["dearer_again_from_queries_per_day"]
    until = "" if dearer is None else f", below {dearer:,.0f}"
    return f"any volume{until}" if even == 0 else f"{even:,.0f} a day{until}"
