"""The two pictures of the report as inline SVG: intervals against the target, quality against cost.

Sizes are in SVG user units; the page scales them to its width. Text is escaped here, since SVG is
handed to the template as finished markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 640
LEFT, RIGHT = 132, 24


@dataclass(frozen=True, slots=True)
class Bar:
    """One rung in a picture. low, high: bounds of the estimate; cost: in the axis's unit, None if unknown."""

    rung: str
    verdict: str
    estimate: float
    low: float
    high: float
    n: int
    cost: float | None


def intervals(bars: Sequence[Bar], target: float, proved: float) -> str:
    """Estimate and interval of every measured rung against the target and its tolerance, both in [0, 1]."""
    row, top = 34, 26
    height = top + row * len(bars) + 34

    def x(value: float) -> float:
        return LEFT + value * (WIDTH - LEFT - RIGHT)

    bottom = height - 30
    parts = [_open(WIDTH, height, "Estimate and interval of every rung against the target")]
    parts.append(
        f'<rect class="zone" x="{x(proved):.1f}" y="{top - 8}" width="{max(x(target) - x(proved), 0.5):.1f}"'
        f' height="{bottom - top + 8}"/>'
    )
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 18}">{tick:g}</text>')
    for place, bar in enumerate(bars):
        y = top + row * place + row / 2
        parts.append(f'<text class="name" x="{LEFT - 12}" y="{y + 4:.1f}">{escape(bar.rung)}</text>')
        parts.append(
            f'<g class="{escape(bar.verdict)}"><title>{escape(bar.rung)}: {bar.estimate:.3f},'
            f" between {bar.low:.3f} and {bar.high:.3f}, {bar.n} items</title>"
            f'<line x1="{x(bar.low):.1f}" x2="{x(bar.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<line x1="{x(bar.low):.1f}" x2="{x(bar.low):.1f}" y1="{y - 6:.1f}" y2="{y + 6:.1f}"/>'
            f'<line x1="{x(bar.high):.1f}" x2="{x(bar.high):.1f}" y1="{y - 6:.1f}" y2="{y + 6:.1f}"/>'
            f'<circle cx="{x(bar.estimate):.1f}" cy="{y:.1f}" r="5"/></g>'
        )
    parts.append(
        f'<line class="target" x1="{x(target):.1f}" x2="{x(target):.1f}" y1="{top - 8}" y2="{bottom}"/>'
        f'<text class="tick" x="{x(target):.1f}" y="{top - 13}">target {target:g}</text></svg>'
    )
    return "".join(parts)


def cost_quality(bars: Sequence[Bar], target: float, unit: str) -> str:
    """Estimate against cost per query (linear from zero, in ``unit``); rungs without a cost are left out."""
    shown = [bar for bar in bars if bar.cost is not None]
    if not shown:
        return ""
    height, top, bottom, left = 260, 22, 214, 52
    most = max(bar.cost or 0.0 for bar in shown) or 1.0

    room = max(110, 24 + 8 * max(len(bar.rung) for bar in shown))  # for the label of the rightmost point

    def x(cost: float) -> float:
        return left + cost / most * (WIDTH - left - room)

    def y(value: float) -> float:
        return bottom - value * (bottom - top)

    parts = [_open(WIDTH, height, f"Estimate against {unit}")]
    for tick in (0.0, 0.5, 1.0):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text class="name" x="{left - 8}" y="{y(tick) + 4:.1f}">{tick:g}</text>'
        )
    parts.append(
        f'<line class="target" x1="{left}" x2="{WIDTH - RIGHT}" y1="{y(target):.1f}" y2="{y(target):.1f}"/>'
    )
    taken: list[tuple[float, float]] = []
    for bar in shown:
        cx, cy = x(bar.cost or 0.0), y(bar.estimate)
        label = cy + 4
        while any(abs(cx - ox) < 110 and abs(label - oy) < 15 for ox, oy in taken):
            label -= 15
        taken.append((cx, label))
        parts.append(
            f'<g class="{escape(bar.verdict)}"><circle cx="{cx:.1f}" cy="{cy:.1f}" r="6"/></g>'
            f'<text class="label" x="{cx + 11:.1f}" y="{label:.1f}">{escape(bar.rung)}</text>'
        )
    parts.append(
        f'<text class="tick" x="{left}" y="{bottom + 20}">0</text>'
        f'<text class="tick" x="{x(most):.1f}" y="{bottom + 20}">{most:.3g}</text>'
        f'<text class="tick" x="{(left + WIDTH) / 2:.0f}" y="{bottom + 38}">{escape(unit)}</text></svg>'
    )
    return "".join(parts)


def _open(width: int, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}">'
