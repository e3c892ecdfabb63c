"""Costs of a day and break-even volumes against hand calculations in closed form."""

import json
import math
from dataclasses import replace

import pytest

from tunewise.economics import RungFacts, Way, break_even, economics, ways_of

HOSTED = RungFacts(
    "few-shot", "large", local=False, usd=0.002, tokens_in=1000, tokens_out=50, build_usd=0.9, p50_ms=800
)
LOCAL = RungFacts(
    "lora",
    "small",
    local=True,
    usd_per_hour=0.60,
    seconds=0.5,
    tokens_in=100,
    tokens_out=50,
    build_usd=1.8,
    p50_ms=200,
)


def test_an_endpoint_costs_volume_times_price_and_its_build_over_the_days():
    (way,), _ = ways_of(HOSTED, 0.5, 90)
    assert way.usd_per_day(1000) == pytest.approx(0.9 / 90 + 2.0)


def test_own_machines_are_paid_whole_and_a_shared_one_by_the_query():
    (own, shared), _ = ways_of(LOCAL, 0.5, 90)
    assert own.capacity == pytest.approx(86400 * 0.5 / 0.5)  # 86,400 queries a day and machine
    assert own.usd_per_day(1) == pytest.approx(1.8 / 90 + 24 * 0.60)
    assert own.usd_per_day(86_400) == pytest.approx(0.02 + 14.4)
    assert own.machines(86_400) == 1
    assert own.usd_per_day(86_401) == pytest.approx(0.02 + 28.8)
    assert shared.per_query == pytest.approx(0.5 * 0.60 / 3600 / 0.5)
    assert shared.usd_per_day(86_400) == pytest.approx(0.02 + 14.4)


def test_break_even_of_own_machines_against_an_endpoint_by_hand():
    (own, shared), _ = ways_of(LOCAL, 0.5, 90)
    (today,), _ = ways_of(HOSTED, 0.5, 90)
    # 0.02 + 14.4 = 0.01 + 0.002 V
    assert break_even(own, today).volume == pytest.approx(14.41 / 0.002)
    # 0.02 + V / 6000 = 0.01 + 0.002 V
    assert break_even(shared, today).volume == pytest.approx(0.01 / (0.002 - 1 / 6000))


def test_break_even_beyond_the_first_machine():
    way = Way("own machines", fixed=0.0, machine_day=10.0, capacity=100.0)
    today = Way("endpoint", fixed=0.0, per_query=0.11)
    # one machine: 10 = 0.11 V at V = 90.9, below its 100
    assert break_even(way, today).volume == pytest.approx(10 / 0.11)
    dearer = Way("own machines", fixed=5.0, machine_day=10.0, capacity=100.0)
    # k machines cross where 5 + 10 k <= 0.11 * 100 k, that is k >= 5, at V = 55 / 0.11 = 500
    assert break_even(dearer, today).volume == pytest.approx(500.0)


def test_never_has_its_reason():
    way = Way("endpoint", fixed=0.0, per_query=0.003)
    today = Way("endpoint", fixed=0.0, per_query=0.002)
    for found in (break_even(way, today), break_even(Way("endpoint", 0.1, per_query=0.003), today)):
        assert found.volume is None
        assert "0.003 USD in the long run, against 0.002 today" in found.why


def test_what_is_cheaper_for_a_while_only_says_until_when():
    found = break_even(Way("endpoint", 0.0, per_query=0.003), Way("endpoint", 1.0, per_query=0.002))
    assert (found.volume, found.why) == (0.0, "but dearer again from 1000 a day on")
    # one machine pays from 90.9 on; the second, from 100 on, costs 20 against 11
    stepped = break_even(Way("own", 0.0, machine_day=10.0, capacity=100.0), Way("endpoint", 0.0, 0.11))
    assert stepped.volume == pytest.approx(10 / 0.11)
    assert stepped.why == "but dearer again from 100 a day on"
    assert stepped.dearer_from == pytest.approx(100)


def test_cheaper_everywhere_says_so():
    found = break_even(Way("endpoint", 0.0, per_query=0.001), Way("endpoint", 0.0, per_query=0.002))
    assert (found.volume, found.why) == (0.0, "cheaper at any volume")


def test_what_has_no_price_has_no_cost_but_a_reason():
    for facts, why in [
        (RungFacts("a", "d", local=False), "model.usd_per_million"),
        (RungFacts("a", "d", local=True, seconds=1.0), "tune.usd_per_hour"),
        (RungFacts("a", "d", local=True, usd_per_hour=1.0, build_usd=0.0), "throughput was not measured"),
    ]:
        ways, said = ways_of(facts, 0.5, 90)
        assert ways == ()
        assert why in said


def block(**more):
    return economics(
        [HOSTED, LOCAL],
        **{
            "queries_per_day": 10_000,
            "today": "few-shot",
            "utilisation": 0.5,
            "retrain_days": 90,
            "choice": "lora",
            **more,
        },
    )


def test_the_block_by_hand():
    found = json.loads(json.dumps(block(), allow_nan=False))
    few, lora = found["rungs"]
    assert few["ways"][0]["usd_per_day"] == pytest.approx(20.01)
    assert few["ways"][0]["break_even_why"] == "this is what is used today"
    own, shared = lora["ways"]
    assert (own["usd_per_day"], own["machines"]) == (pytest.approx(14.42), 1)
    assert own["break_even_queries_per_day"] == pytest.approx(7205)
    assert shared["usd_per_day"] == pytest.approx(0.02 + 10_000 / 6000)
    assert lora["against_today"]["cost_ratio"] == pytest.approx(0.002 * 6000)
    assert lora["against_today"]["latency_ratio"] == pytest.approx(4.0)
    assert lora["against_today"]["prompt_token_ratio"] == pytest.approx(10.0)
    assert dict(map(tuple, own["usd_per_day_at"]))[100_000] == pytest.approx(0.02 + 2 * 14.4)


def test_two_doors_are_compared_beside_the_common_claims():
    own, shared, measured = block()["sentences"]
    assert (
        "costs 14.42 USD a day at 10000 queries a day; it costs no more than few-shot from 7205 a day" in own
    )
    assert "(shared machine)" in shared
    assert measured == (
        "Measured, few-shot on large against lora on small: cost of a further query 12.0 x, of a day at 10000"
        " queries 1.4 x (own machines) or 11.9 x (shared machine), commonly claimed 10-50 x; median time"
        " 4.0 x, commonly claimed 3-5 x."
    )


def test_without_today_there_is_no_break_even_and_the_reason_is_given():
    found = block(today=None)
    assert found["rungs"][1]["ways"][0]["break_even_queries_per_day"] is None
    assert found["rungs"][1]["ways"][0]["break_even_why"] == "economics.today names no rung"
    missing = block(today="rag")
    assert missing["rungs"][0]["against_today"]["why"] == "rag was not measured in this run"
    assert missing["sentences"] == []


def test_break_even_agrees_with_a_scan_of_volumes():
    ways = [
        Way("endpoint", 0.3, per_query=0.02),
        Way("own machines", 1.0, machine_day=4.0, capacity=150.0),
        Way("own machines", 0.1, machine_day=3.0, capacity=70.0),
        Way("shared machine", 2.0, per_query=0.004),
    ]
    for way in ways:
        for today in ways:
            found = break_even(way, today).volume
            scanned = next(
                (v for v in range(1, 5000) if way.usd_per_day(v) <= today.usd_per_day(v) + 1e-9), None
            )
            if scanned is None:
                assert found is None or found > 4999
            else:
                assert found is not None
                assert scanned - 1 <= found <= scanned
    assert math.isinf(ways[0].capacity)


def test_what_cost_an_unknown_sum_to_build_has_no_cost_a_day():
    ways, said = ways_of(replace(LOCAL, build_usd=None), 0.5, 90)
    assert ways == ()
    assert "what it cost to build is not known" in said
    failed = replace(HOSTED, usd=None, usd_why="some calls failed, and what they cost is not known")
    assert ways_of(failed, 0.5, 90) == ((), "some calls failed, and what they cost is not known")
