"""The 0/1 test against its definition, enumeration, simulation, and the researched figures."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from tunewise.errors import SettingError
from tunewise.evidence.lattice import fate
from tunewise.evidence.sequential import ExactTest, looks_for


def exact_test(
    target: float = 0.9, tolerance: float = 0.02, alpha: float = 0.05 / 6, cap: int = 1000
) -> ExactTest:
    return ExactTest(target, tolerance, alpha, 0.05, looks_for(cap))


def draw(p: float, n: int, seed: int) -> list[float]:
    return (np.random.default_rng(seed).random(n) < p).astype(float).tolist()


def test_looks_are_every_8_items_from_16_and_at_the_cap() -> None:
    assert looks_for(100) == (16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 100)
    assert looks_for(16) == (16,)
    assert looks_for(1000)[-2:] == (992, 1000)


# Computed before this package existed, with another program (its own spending and forward recursion), for
# target 0.90 within 2 points, alpha 0.05 / 6 and 0.05, looks every 8 items from 16, cap 1000.
# True quality: chance of meets, chance of falls short, mean number of items.
RESEARCHED = {
    0.80: (0.000006, 0.999994, 58.4528),
    0.85: (0.000302, 0.999697, 131.9172),
    0.88: (0.008163, 0.978430, 317.9814),
    0.90: (0.199251, 0.583579, 615.8318),
    0.92: (0.879693, 0.049256, 522.9579),
    0.95: (0.999512, 0.000488, 184.9910),
}


@pytest.mark.parametrize("p", RESEARCHED)
def test_the_researched_chances_and_item_counts_come_out(p: float) -> None:
    meets, short, items = RESEARCHED[p]
    found = exact_test().fate(p)
    assert found.meets == pytest.approx(meets, abs=2e-6)
    assert found.falls_short == pytest.approx(short, abs=2e-6)
    # the research reads on to the cap where no verdict is in reach any more; the test stops there
    assert 0.99 * items <= found.items <= items + 2e-3


def test_errors_stay_within_their_budgets_at_both_nulls() -> None:
    test = exact_test()
    never = [look + 1 for look in test.looks]
    assert fate(test.meets_null, test.looks, test.meets_from, never).meets <= test.alpha_meets
    assert fate(test.short_null, test.looks, never, test.short_from).falls_short <= test.alpha_short


def test_error_rates_of_a_small_test_by_enumerating_every_sequence() -> None:
    test = ExactTest(0.7, 0.1, 0.05, 0.1, (6, 10, 14))
    for p, verdict, alpha in ((test.meets_null, "meets", 0.05), (test.short_null, "falls_short", 0.1)):
        chance = 0.0
        for path in itertools.product((0.0, 1.0), repeat=14):
            if test.read(path).verdict == verdict:
                chance += p ** sum(path) * (1 - p) ** (14 - sum(path))
        assert 0 < chance <= alpha
        ours = test.fate(p)
        assert chance == pytest.approx(ours.meets if verdict == "meets" else ours.falls_short)


def test_simulated_paths_end_as_the_recursion_says() -> None:
    test = exact_test(cap=200)
    expected = test.fate(0.9)
    read = [test.read(draw(0.9, 200, seed)) for seed in range(3000)]
    assert np.mean([r.verdict == "meets" for r in read]) == pytest.approx(expected.meets, abs=0.02)
    assert np.mean([r.verdict == "falls_short" for r in read]) == pytest.approx(
        expected.falls_short, abs=0.03
    )
    assert np.mean([r.n for r in read]) == pytest.approx(expected.items, abs=4)


def test_a_verdict_is_pure_and_reads_nothing_after_the_first_stop() -> None:
    test, values = exact_test(), draw(0.97, 1000, 1)
    stop = next(look for look in test.looks if test.verdict_at(values[:look]) is not None)
    assert test.read(values[:stop]).n == stop
    assert test.read(values) == test.read(values[:stop])
    assert test.verdict_at([*values[:stop], *[0.0] * 500]) == test.verdict_at(values[:stop])
    assert test.verdict_at(values[: stop - 1]) is None


def test_at_the_cap_there_is_always_a_verdict() -> None:
    test = exact_test(cap=50)
    for successes in range(51):
        values = [float(i * successes % 50 < successes) for i in range(50)]
        assert test.verdict_at(values) in ("meets", "falls_short", "not_proved")


@pytest.mark.parametrize("cap", [40, 100, 333])
@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.1])
def test_the_interval_never_contradicts_the_verdict(cap: int, tolerance: float) -> None:
    test = exact_test(tolerance=tolerance, cap=cap)
    for seed, p in enumerate([0.3, 0.8, 0.86, 0.9, 0.9, 0.93, 0.97, 0.99, 1.0]):
        values = draw(p, cap, seed)
        for upto in (0, 5, 16, cap // 2, cap):
            assert_consistent(test, values[:upto])


def assert_consistent(test: ExactTest, values: list[float]) -> None:
    reading = test.read(values)
    low, high = test.interval(values)
    if not values:
        assert (low, high) == (None, None)
        return
    assert low is not None
    assert high is not None
    assert 0 <= low <= sum(values[: reading.n]) / reading.n <= high <= 1
    assert (reading.verdict == "meets") == (low >= test.target - test.tolerance)
    below = high <= test.short_null and low < test.target - test.tolerance
    assert (reading.verdict == "falls_short") == below


@settings(max_examples=60, deadline=None)
@given(
    target=st.floats(0.05, 0.97),
    zone=st.floats(0, 0.9),
    values=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60),
    runs=st.integers(1, 12),
)
def test_consistency_holds_for_any_settings_and_any_streaks(
    target: float, zone: float, values: list[float], runs: int
) -> None:
    test = ExactTest(target, zone * target, 0.05 / 12, 0.05, looks_for(96))
    assert_consistent(test, [v for v in values for _ in range(runs)][:96])


def test_the_interval_of_one_look_is_clopper_and_pearsons() -> None:
    test = ExactTest(0.6, 0.0, 0.05, 0.05, (80,))
    values = [1.0] * 52 + [0.0] * 28
    assert test.interval(values) == pytest.approx(proportion_confint(52, 80, 0.1, "beta"), abs=1e-6)


@pytest.mark.parametrize("p", [0.7, 0.88, 0.95])
def test_each_bound_covers_the_truth_as_often_as_it_promises(p: float) -> None:
    test = ExactTest(0.9, 0.02, 0.05, 0.05, looks_for(48))
    bounds = [test.interval(draw(p, 48, seed)) for seed in range(600)]
    missed_low = np.mean([low > p for low, _ in bounds])  # type: ignore[operator]
    missed_high = np.mean([high < p for _, high in bounds])  # type: ignore[operator]
    allowed = binom.isf(1e-4, 600, 0.05) / 600
    assert missed_low <= allowed
    assert missed_high <= allowed


def test_one_interval_at_the_largest_cap_takes_less_than_a_second() -> None:
    test, values = exact_test(), draw(0.9, 1000, 3)
    started = time.perf_counter()
    test.interval(values)
    assert time.perf_counter() - started < 1


def test_provable_is_where_the_power_reaches_80_percent() -> None:
    test = exact_test(cap=300)
    quality = test.provable()
    assert quality is not None
    assert test.fate(quality).meets == pytest.approx(0.8, abs=1e-3)
    assert test.fate(quality - 0.002).meets < 0.8
    larger = exact_test(cap=1000).provable()
    assert larger is not None
    assert larger < quality


def test_nothing_is_provable_where_even_a_perfect_system_could_not_be() -> None:
    test = exact_test(target=0.99, tolerance=0.0, cap=100)
    assert test.verdict_at([1.0] * 100) == "not_proved"
    assert test.provable() is None


def test_more_items_settle_it_with_80_percent_power_and_fewer_do_not() -> None:
    test = exact_test(cap=100)
    values = [1.0] * 95 + [0.0] * 5
    values = [values[i * 37 % 100] for i in range(100)]
    assert test.verdict_at(values) == "not_proved"
    more = test.more_items(values)
    assert more is not None
    assert more % 8 == 0
    for extra, enough in ((more, True), (more - 8, False)):
        larger = ExactTest(0.9, 0.02, 0.05 / 12, 0.05, looks_for(100 + extra))
        rng = np.random.default_rng(1)
        settled = [
            larger.read([*values, *(rng.random(extra) < 0.95).astype(float)]).verdict != "not_proved"
            for _ in range(4000)
        ]
        assert (np.mean(settled) >= 0.8 - 0.02) if enough else (np.mean(settled) < 0.8 + 0.02)


def test_no_more_items_are_asked_for_where_it_is_settled_or_hopeless() -> None:
    test = exact_test()
    assert test.more_items([]) is None
    assert test.more_items(draw(0.99, 1000, 1)) is None
    strict = exact_test(tolerance=0.0, cap=200)
    values = [float(i % 10 != 0) for i in range(200)]
    assert strict.verdict_at(values) == "not_proved"
    assert strict.more_items(values) is None


@pytest.mark.parametrize("items", [120, 200])
def test_what_a_small_set_can_prove_is_far_above_the_target(items: int) -> None:
    quality = exact_test(alpha=0.05 / 12, cap=items).provable()
    assert quality is not None
    assert 0.94 < quality < 0.99


@pytest.mark.parametrize(
    ("target", "tolerance", "word"),
    [
        (0.0, 0.0, "target"),
        (1.0, 0.0, "target"),
        (1.2, 0.0, "target"),
        (0.5, 0.5, "tolerance"),
        (0.5, -0.1, "tol"),
    ],
)
def test_settings_that_would_prove_nothing_are_refused(target: float, tolerance: float, word: str) -> None:
    with pytest.raises(SettingError, match=word):
        exact_test(target=target, tolerance=tolerance)


def test_a_value_other_than_0_and_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.5"):
        exact_test().verdict_at([1.0, 0.5])


def test_the_short_null_never_reaches_1() -> None:
    assert exact_test(target=0.97, tolerance=0.05).short_null == pytest.approx(0.985)
    assert exact_test(target=0.9, tolerance=0.02).short_null == pytest.approx(0.92)


def test_where_both_sides_are_proved_the_verdict_is_meets() -> None:
    test = ExactTest(0.5, 0.3, 0.05, 0.05, (200,))
    values = [1.0, 0.0] * 100
    low, high = test.interval(values)
    assert low is not None
    assert high is not None
    assert low >= 0.2
    assert high <= 0.75
    assert test.verdict_at(values) == "meets"
