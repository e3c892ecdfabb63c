"""The report of one run: decision and outcomes -> one HTML page that opens offline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tunewise.data import Example, reference_text
from tunewise.decision import Decision, RungResult, rung_json, total
from tunewise.evidence.records import Outcome
from tunewise.guard_words import kept_in_words, on_b_in_words
from tunewise.report import charts
from tunewise.report.accounts import accounts
from tunewise.report.cost_chart import cost_of_a_day
from tunewise.report.further import further_figures, how_often

# The page must stay under 2 MB for 1,000 items: long texts are cut, and the side-by-side table stops.
MOST_CHARACTERS = 400
MOST_ITEMS = 150


def write_report(
    path: Path, decision: Decision, outcomes: Mapping[str, Sequence[Outcome]], order: Sequence[Example]
) -> None:
    """Write ``report.html``. outcomes: by rung, in certification order."""
    path.write_text(render(decision, outcomes, order), encoding="utf-8")


def render(decision: Decision, outcomes: Mapping[str, Sequence[Outcome]], order: Sequence[Example]) -> str:
    """The page as text. Everything that a model or a user wrote is escaped."""
    measured = [r for r in decision.rungs if r.evidence is not None]
    bars, unit = _bars(measured)
    environment = Environment(
        loader=PackageLoader("tunewise.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["cut"] = cut
    return environment.get_template("page.html").render(
        decision=decision,
        plain=decision.to_json(),
        rungs=[_row(result) for result in decision.rungs],
        intervals=Markup(charts.intervals(bars, decision.target, decision.target - decision.tolerance)),
        cost_quality=Markup(charts.cost_quality(bars, decision.target, unit)),
        economics_chart=Markup(cost_of_a_day(decision.economics)) if decision.economics else "",
        side_by_side=side_by_side(outcomes, order),
        shown=MOST_ITEMS,
        measured=[r.rung for r in measured],
        built=[(r.rung, _facts(r)) for r in measured if r.build],
        why=_why(decision),
        accounts=accounts(decision),
        how_often=how_often,
        kept_in_words=kept_in_words,
        on_b_in_words=on_b_in_words,
    )


def _why(decision: Decision) -> list[str]:
    """The reasons that stand nowhere else on the page: not its headline, nor why rungs were skipped."""
    told = tuple(f"{r.rung} was skipped: " for r in decision.rungs if r.skipped_because)
    return [line for line in decision.reasons if line != decision.sentence and not line.startswith(told)]


def _bars(measured: Sequence[RungResult]) -> tuple[list[charts.Bar], str]:
    """Bars of the rungs with an estimate, and the unit of their cost: USD where every rung has a price."""
    drawn = [r for r in measured if r.evidence and r.evidence.estimate is not None]
    prices = [rung_json(r)["usd_per_query"] for r in drawn]
    priced = bool(prices) and all(price is not None for price in prices)
    bars = []
    for result, price in zip(drawn, prices, strict=True):
        e = result.evidence
        assert e is not None
        assert e.estimate is not None
        bars.append(
            charts.Bar(
                rung=result.rung,
                verdict=result.verdict or e.verdict,  # of quality, limits and guard together
                estimate=e.estimate,
                low=0.0 if e.low is None else e.low,
                high=1.0 if e.high is None else e.high,
                n=e.n,
                cost=price if priced else _tokens_per_query(e.outcomes),
            )
        )
    return bars, "USD per query" if priced else "tokens per query, in and out"


def _tokens_per_query(outcomes: Sequence[Outcome]) -> float | None:
    tokens_in, tokens_out = total(o.tokens_in for o in outcomes), total(o.tokens_out for o in outcomes)
    if tokens_in is None or tokens_out is None:
        return None
    return (tokens_in + tokens_out) / len(outcomes)


def _row(result: RungResult) -> dict[str, Any]:
    """One row of the ladder table."""
    row = {"skipped_because": None, **rung_json(result)}
    if result.evidence is not None:
        tokens = _tokens_per_query(result.evidence.outcomes)
        row["tokens_per_query"] = None if tokens is None else round(tokens)
        row["further"] = further_figures(row)
    return row


def _facts(result: RungResult) -> list[tuple[str, str]]:
    """What a rung chose and built, as short lines."""
    assert result.build is not None
    facts = [("built in", f"{result.build.seconds:.0f} s")]
    for name, value in result.build.facts.items():
        if name in ("guard", "learning_curve"):  # have sections of their own
            continue
        if value and isinstance(value, list) and all(isinstance(one, str) for one in value):
            text = "; ".join(value)
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        facts.append((name.replace("_", " "), cut(text)))
    return facts


@dataclass(frozen=True, slots=True)
class Item:
    """One certification item with every rung's answer to it."""

    place: int
    input: str
    reference: str
    answers: tuple[tuple[str, Outcome, str], ...]


def side_by_side(outcomes: Mapping[str, Sequence[Outcome]], order: Sequence[Example]) -> list[Item]:
    """Items on which a rung failed, with the answers of all rungs that were asked, most telling first.

    Most telling: rungs disagree. At most MOST_ITEMS items.
    """
    by_item: dict[str, list[tuple[str, Outcome]]] = {}
    for rung, read in outcomes.items():
        for outcome in read:
            by_item.setdefault(outcome.example, []).append((rung, outcome))
    items = []
    for place, example in enumerate(order, 1):
        asked = by_item.get(example.key, [])
        values = [o.value for _, o in asked if o.value is not None]
        if not values or min(values) >= 1.0:
            continue
        answers = tuple((rung, outcome, cut(outcome.text)) for rung, outcome in asked)
        item = Item(place, cut(example.input), cut(reference_text(example.references[0])), answers)
        items.append((min(values) - max(values), -len(asked), place, item))
    return [item for *_, item in sorted(items, key=lambda entry: entry[:3])][:MOST_ITEMS]


def cut(text: str) -> str:
    """The text, shortened to MOST_CHARACTERS with a note of what was left out."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} … ({len(text) - MOST_CHARACTERS} more characters)"
