"""The cost of a day against volume, both on logarithmic axes, as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT = 960, 380
LEFT, RIGHT, TOP, BOTTOM = 90, 300, 20, 46
LABEL_GAP = 20  # between two labels
POINTS = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One way of running a rung: its name and (queries a day, USD a day)."""

    name: str
    points: tuple[tuple[float, float], ...]


def lines_of(block: Mapping[str, Any]) -> list[Line]:
    """The ways of an ``economics`` block, drawn between its smallest and its largest volume."""
    low, high = min(block["volumes"]), max(block["volumes"])
    volumes = [low * (high / low) ** (i / (POINTS - 1)) for i in range(POINTS)]
    drawn = []
    for rung in block["rungs"]:
        for way in rung["ways"]:
            fixed, day = rung["build_usd_per_day"] or 0.0, way["machine_usd_per_day"]
            costs = [
                fixed
                + (
                    way["usd_per_query"] * volume
                    if day is None
                    else day * math.ceil(volume / way["queries_per_machine_and_day"])
                )
                for volume in volumes
            ]
            points = tuple((v, c) for v, c in zip(volumes, costs, strict=True) if c > 0)
            if points:
                drawn.append(Line(f"{rung['rung']}, {way['way']}", points))
    return drawn


def cost_of_a_day(block: Mapping[str, Any]) -> str:
    """The chart; empty when no rung has a cost."""
    lines = lines_of(block)
    if not lines:
        return ""
    across = [v for line in lines for v, _ in line.points]
    up = [c for line in lines for _, c in line.points]
    x = _scale(min(across), max(across), LEFT, WIDTH - RIGHT)
    low, high = 10 ** math.floor(math.log10(min(up))), 10 ** math.ceil(math.log10(max(up)))
    y = _scale(low, high if high > low else low * 10, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Cost of a day against volume">']
    for decade in _decades(low, high):
        at = y(decade)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="name" x="{LEFT - 8}" y="{at + 4:.1f}">{decade:g}</text>')
    for decade in _decades(min(across), max(across)):
        parts.append(f'<text class="tick" x="{x(decade):.1f}" y="{HEIGHT - 22}">{decade:,.0f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    title = "queries a day (USD a day upwards)"
    parts.append(f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 4}">{title}</text>')
    ends = _apart([y(line.points[-1][1]) for line in lines])
    for number, (line, label) in enumerate(zip(lines, ends, strict=True)):
        path = " ".join(f"{x(v):.1f},{y(c):.1f}" for v, c in line.points)
        hue = (number * 67 + 215) % 360
        style = f"fill:none;stroke:hsl({hue} 60% 48%);stroke-width:2.5"
        parts.append(f'<polyline points="{path}" style="{style}"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{label + 4:.1f}" style="fill:hsl({hue} 60% 48%)">'
            f"{escape(line.name)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _scale(low: float, high: float, start: float, end: float) -> Any:
    """A logarithmic scale from values to places."""
    span = math.log(high / low) if high > low else 1.0
    return lambda value: start + (end - start) * math.log(value / low) / span


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def _apart(places: Sequence[float]) -> list[float]:
    """The places moved down where two would be nearer than LABEL_GAP."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + LABEL_GAP)
    return moved
