"""USD of a run: hours x GPUs x the price of one GPU-hour."""

from tunewise.estimation.hardware import Price
from tunewise.estimation.memory import Range


def usd(seconds: Range, gpus: int, price: Price | None) -> Range | None:
    """Low, expected and high; None without a price.

    Low takes the shortest time at the lowest price, and so on.
    """
    if price is None:
        return None
    hours = [value / 3600 * gpus for value in (seconds.low, seconds.expected, seconds.high)]
    return Range(hours[0] * price.low, hours[1] * price.expected, hours[2] * price.high)
