from tunewise.estimation.hardware import Price
from tunewise.estimation.memory import Range
from tunewise.estimation.money import usd


def test_money_is_hours_times_gpus_times_price_the_extremes_together():
    hour = Range(1800.0, 3600.0, 7200.0)
    found = usd(hour, 2, Price(1.0, 2.0, 4.0, "2026-05", "a list"))
    assert (found.low, found.expected, found.high) == (1.0, 4.0, 16.0)


def test_without_a_price_there_is_no_money():
    assert usd(Range(1.0, 2.0, 3.0), 1, None) is None
