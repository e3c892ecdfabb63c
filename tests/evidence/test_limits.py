"""What the calls of a probe prove about the limits."""

import pytest

from tunewise.evidence.limits import MOST_CALLS, Probe, ProbeCall, probe_from, read_limits, settled
from tunewise.evidence.limits_in_words import latency_json, limit_in_words

ALPHA = 0.025 / 5


def calls(fast: int, slow: int, failed: int = 0, usd: float | None = 0.001) -> list[ProbeCall]:
    return [
        *[ProbeCall(0.1, usd)] * fast,
        *[ProbeCall(0.9, usd)] * slow,
        *[ProbeCall(None, None)] * failed,
    ]


def latency(found: list[ProbeCall]):
    (limit,) = read_limits(found, 500, None, ALPHA)
    return limit


def test_a_hundred_calls_within_the_limit_prove_it_and_sixteen_slow_ones_refute_it():
    assert latency(calls(100, 0)).verdict == "meets"
    slow = latency(calls(0, 16))
    assert (slow.verdict, slow.within, slow.n) == ("falls_short", 0, 16)


def test_what_meets_has_at_least_93_percent_by_its_lower_bound():
    found = latency(calls(100, 0))
    assert found.low is not None
    assert found.low >= 0.93
    assert 1 - 0.93**found.n > 1 - 10 * ALPHA


def test_few_calls_prove_nothing():
    assert latency(calls(40, 0)).verdict == "not_proved"
    assert not settled(read_limits(calls(40, 0), 500, None, ALPHA), 40)
    assert settled(read_limits(calls(0, 16), 500, None, ALPHA), 16)
    assert settled([latency(calls(60, 40))], MOST_CALLS)


def test_failed_calls_are_tried_both_ways():
    found = latency([*calls(0, 0, failed=6), *calls(94, 0)])
    assert found.verdict == "not_proved"
    assert "6 calls failed and were tried both ways" in limit_in_words(found)


def test_cost_is_read_per_call_and_without_a_price_proves_nothing():
    (dear,) = read_limits(calls(100, 0, usd=0.002), None, 0.001, ALPHA)
    assert (dear.verdict, dear.within) == ("falls_short", 0)
    (unknown,) = read_limits([ProbeCall(0.1, tokens_in=3)] * 100, None, 0.001, ALPHA)
    assert (unknown.verdict, unknown.within) == ("not_proved", None)
    assert "have no price" in limit_in_words(unknown)


def test_a_cost_limit_without_a_price_does_not_keep_the_probe_going_for_itself():
    both = read_limits(calls(100, 0, usd=None), 500, 0.001, ALPHA)
    assert settled(both, 80)
    assert Probe((), 1, 0, 1.0, limits=both).verdict == "not_proved"


def test_one_limit_that_fails_fails_the_rung():
    limits = read_limits(calls(0, 100), 500, 0.01, ALPHA)
    probe = Probe(tuple(calls(0, 100)), 1, 3, 90.0, limits=limits)
    assert probe.verdict == "falls_short"
    assert probe.failed is not None
    assert probe.failed.name == "latency"


def test_a_probe_survives_the_store():
    limits = read_limits(calls(90, 10), 500, 0.01, ALPHA)
    probe = Probe(tuple(calls(90, 10)), 2, 3, 12.5, ("one call at a time",), limits)
    assert probe_from(probe.to_json()) == probe


def test_times_throughput_and_price_are_undefined_without_calls():
    nothing = Probe((), 1, 0, 0.0)
    assert (nothing.latency_ms(0.5).estimate, nothing.per_second, nothing.usd) == (None, None, None)
    assert latency_json(nothing, "meets") == {
        "p50": None,
        "p95": None,
        "why": "not probed: the task sets no limit",
    }


@pytest.mark.parametrize(("n", "bounded"), [(58, False), (59, True)])
def test_the_upper_bound_of_p95_is_absent_below_59_calls(n, bounded):
    found = latency_json(Probe(tuple(calls(n, 0)), 1, 3, 10.0), "meets")
    assert found["p50"] == found["p95"] == 100.0
    assert (found["p95_high"] is not None) == bounded
    assert found["per_second"] == n / 10
