"""A cost that is not known has the reason that fits: no token counts, or no price."""

from tunewise.evidence.limits import ProbeCall, read_limits
from tunewise.evidence.records import Outcome
from tunewise.evidence.unpriced import NO_PRICE, NO_USAGE, mean_usd, usd_why


def outcome(usd: float | None, tokens: int | None, status: str = "scored") -> Outcome:
    return Outcome("k", 0, status, 1.0, "", tokens, tokens, 0.1, usd)


def test_a_host_without_token_counts_is_told_from_one_without_a_price():
    assert usd_why([outcome(None, None)]) == NO_USAGE
    assert usd_why([outcome(None, 12)]) == NO_PRICE
    assert (usd_why([outcome(0.5, 12)]), mean_usd([outcome(0.5, 12)])) == (None, 0.5)
    assert usd_why([]) == "no call was made"
    said = usd_why([outcome(0.5, 12), outcome(None, None, "errored")])
    assert said == "some calls failed, and what they cost is not known"


def test_the_cost_limit_says_the_same():
    assert read_limits([ProbeCall(0.1)], None, 0.01, 0.01)[0].why == NO_USAGE
    assert read_limits([ProbeCall(0.1, tokens_in=3)], None, 0.01, 0.01)[0].why == NO_PRICE
