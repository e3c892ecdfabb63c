"""What is to be met, in words that never claim more than was proved."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """What is to be met: ``target`` of ``metric`` within ``tolerance``, all in the metric's unit."""

    metric: str
    target: float
    tolerance: float

    def __str__(self) -> str:
        if self.tolerance == 0:
            return f"{in_short(self.target)} {self.metric}"
        points = 100 * self.tolerance
        size = f"{points:.2g}" if points < 1 else f"{points:.1f}".removesuffix(".0")
        return f"{in_short(self.target)} {self.metric} within {size} point{'' if size == '1' else 's'}"

    @property
    def proved(self) -> float:
        """What a ``meets`` proves at least."""
        return self.target - self.tolerance

    @property
    def at_least(self) -> str:
        """The same in words: cut off after three decimals, never rounded up to more than was proved."""
        return in_short(math.floor(1000 * self.proved + 1e-6) / 1000)


def in_short(value: float) -> str:
    """A figure that was set, not measured: two decimals, more only where it has more (0.90, 0.995)."""
    return max(f"{value:.2f}", f"{value:.6g}", key=len)
