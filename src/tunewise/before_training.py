"""What it would cost to know, said before anything is trained: perhaps a lighter rung is enough."""

from collections.abc import Sequence

from tunewise.decision import RungResult, mean_usd
from tunewise.rungs.rung import Outlook


def what_knowing_costs(
    results: Sequence[RungResult], rung: str, outlook: Outlook, time: str, money: str
) -> str | None:
    """More items for the lightest rung that is not proved, against training ``rung``; None without either.

    time, money: of ``rung`` by the plan, in words; empty where they are not known.
    """
    if not outlook.train_rows:
        return None
    for result in results:
        evidence = result.evidence
        if evidence is None or result.verdict != "not_proved" or not evidence.more_items:
            continue
        each, more = mean_usd(evidence.outcomes), evidence.more_items
        price = "no price" if each is None else f"about {more * each:.4f} USD"
        takes = f"{time or 'its time is not known before it runs'}; {money or 'no price'}"
        return (
            f"{result.rung} may be enough: about {more} more certification items would settle it ({more}"
            f" calls, {price}). {rung}, which is trained now, learns from {outlook.train_rows} rows for"
            f" {outlook.epochs:g} epochs ({takes})."
        )
    return None
