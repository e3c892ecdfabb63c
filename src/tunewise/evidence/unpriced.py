"""What a query costs, or why that is not known, in words."""

from collections.abc import Iterable, Sequence

from tunewise.evidence.records import Outcome

NO_USAGE = "the host sends no token counts (usage), so what a call costs is not known"
NO_PRICE = "the calls have no price: give model.usd_per_million or tune.usd_per_hour"


def why_no_usd(calls: Iterable[tuple[float | None, int | None]]) -> str | None:
    """The reason for the first answered call without a cost; None when all have one.

    calls: (USD, input tokens) of answered calls. A cost follows from a price and from the tokens; a door
    on this machine counts its own, a host may send none.
    """
    unknown = [tokens for usd, tokens in calls if usd is None]
    if not unknown:
        return None
    return NO_USAGE if None in unknown else NO_PRICE


def mean_usd(outcomes: Sequence[Outcome]) -> float | None:
    """Mean price of one query in USD, None when any call has no price or there are none."""
    prices = [o.usd for o in outcomes]
    if not prices or any(price is None for price in prices):
        return None
    return sum(price for price in prices if price is not None) / len(prices)


def usd_why(outcomes: Sequence[Outcome]) -> str | None:
    """Why ``mean_usd`` is None; None when it is not."""
    if not outcomes:
        return "no call was made"
    if mean_usd(outcomes) is not None:
        return None
    answered = [(o.usd, o.tokens_in) for o in outcomes if o.status != "errored"]
    return why_no_usd(answered) or "some calls failed, and what they cost is not known"
