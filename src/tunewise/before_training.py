"""What it would cost to know, said before anything is trained: perhaps a lighter rung is enough."""

from collections.abc import Sequence

from tunewise.decision import RungResult
from tunewise.evidence.unpriced import mean_usd
from tunewise.plan_rungs import PlannedRung
from tunewise.rungs.rung import Outlook


def takes(planned: PlannedRung) -> str:
    """Time and money of a rung by the plan, in words, with the reason where one is not known."""
    time = planned.time or f"time not known{f' ({planned.time_why})' if planned.time_why else ''}"
    money = planned.money if planned.usd_high is None else f"{planned.money} USD"
    return f"{time}, {money or 'no price'}"


def what_knowing_costs(
    results: Sequence[RungResult], rung: str, outlook: Outlook, planned: PlannedRung | None
) -> str | None:
    """More items for the lightest rung that is not proved, against training ``rung``; None without either."""
    if not outlook.train_rows:
        return None
    for result in results:
        evidence = result.evidence
        if evidence is None or result.verdict != "not_proved" or not evidence.more_items:
            continue
        each, more = mean_usd(evidence.outcomes), evidence.more_items
        price = "no price" if each is None else f"about {more * each:.4f} USD"
        against = "" if planned is None else f", and takes by the plan: {takes(planned)}"
        return (
            f"{result.rung} may be enough: about {more} more certification items would settle it ({more}"
            f" calls, {price}). {rung}, which is trained now, learns from {outlook.train_rows} rows for"
            f" {outlook.epochs:g} epochs{against}."
        )
    return None
