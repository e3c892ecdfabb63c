"""One cap on money and time over a whole run, checked before each call and never passed."""

import math
import threading
import time
from collections.abc import Callable

from tunewise.errors import BudgetEnded, SettingError
from tunewise.models.door import Price, Request
from tunewise.store_account import Spent

_UNITS = 10**12  # money is added up in whole picodollars, so that no rounding can pass the cap
# Tokens that a chat template may add to the bytes of the messages. Assumed: the default system texts
# of the common templates (Llama 3, Qwen 2.5, gpt-oss) stay below 160 tokens, a turn's marks below 16.
_TEMPLATE_TOKENS = 256
_TURN_TOKENS = 32


class Spending:
    """What is spent and what is reserved for calls in flight, against the caps. Thread-safe.

    max_usd: USD; max_seconds: wall time over all sessions of the run; None: no cap.
    already: what earlier sessions of the run spent. Raises SettingError for a cap that is not finite.

    Money is never passed as long as each reservation is an upper bound: before a call, spent plus
    reserved plus the call's bound must fit. Time is checked before each call; a call that has begun
    is let finish.
    """

    def __init__(
        self,
        max_usd: float | None = None,
        max_seconds: float | None = None,
        already: Spent | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        already = already or Spent()
        if max_usd is not None and not math.isfinite(max_usd):
            raise SettingError(
                f"the cap on money: a finite number of US dollars was expected, got {max_usd:g}; for no cap "
                "leave it out"
            )
        self.max_usd = max_usd
        self.max_seconds = max_seconds
        self._cap = None if max_usd is None else math.floor(max_usd * _UNITS)
        self._spent = _units(already.usd or 0.0)
        self._reserved = 0
        self._clock = clock
        self._started = clock() - already.seconds
        self._lock = threading.Lock()

    @property
    def usd(self) -> float:
        """Spent so far, in USD; calls in flight not included."""
        return self._spent / _UNITS

    @property
    def reserved_usd(self) -> float:
        """Upper bound on what the calls in flight will cost, in USD."""
        return self._reserved / _UNITS

    @property
    def seconds(self) -> float:
        """Wall time over all sessions."""
        return self._clock() - self._started

    def reserve(self, upper_usd: float) -> float:
        """Set aside ``upper_usd``, at least what the call can cost; hand the result to ``settle``.

        Never waits. Raises BudgetEnded, with nothing set aside, when the cap could be passed with all
        calls in flight, or when the time is over.
        """
        self.check_time()
        upper = _units(upper_usd)
        with self._lock:
            if self._cap is not None and self._spent + self._reserved + upper > self._cap:
                raise BudgetEnded(self._no_money(upper))
            self._reserved += upper
        return upper_usd

    def settle(self, reserved: float, actual: float | None) -> None:
        """Replace a reservation by what the call cost; None (not known): by the whole reservation."""
        upper = _units(reserved)
        with self._lock:
            self._reserved -= upper
            self._spent += upper if actual is None else _units(actual)

    def add(self, usd: float) -> None:
        """Count a cost that was not reserved, such as training on a machine with a price."""
        with self._lock:
            self._spent += _units(usd)

    def check_time(self) -> None:
        """Raise BudgetEnded when the cap on time is reached. For long steps that make no calls."""
        if self.max_seconds is not None and self.seconds >= self.max_seconds:
            raise BudgetEnded(
                f"the time of this run is over: {self.seconds:.0f} s of {self.max_seconds:.0f} s are used. "
                "All that was measured is kept: raise budget.hours and run the same command again."
            )

    def has_room(self, coming_usd: float) -> bool:
        """Whether what is spent, reserved and coming stays within the cap."""
        with self._lock:
            whole = self._spent + self._reserved + _units(coming_usd)
        return self._cap is None or whole <= self._cap

    def check_money(self, coming_usd: float = 0.0) -> None:
        """Raise BudgetEnded when what is spent, reserved and coming passes the cap: for training."""
        if not self.has_room(coming_usd):
            raise BudgetEnded(
                f"training on would pass the cap of ${self.max_usd:.6g}: ${self.usd:.6f} is spent. All that"
                " was measured and the checkpoints are kept: raise --max-usd or budget.usd and run the same"
                " command again."
            )

    def _no_money(self, upper: int) -> str:
        cap, spent, reserved = self.max_usd, self._spent / _UNITS, self._reserved / _UNITS
        in_flight = f" and ${reserved:.6f} is reserved for calls in flight" if self._reserved else ""
        return (
            f"the next call could pass the cap of ${cap:.6g}: ${spent:.6f} is spent{in_flight}, and it "
            f"could cost up to ${upper / _UNITS:.6f}. All that was measured is kept: raise --max-usd or "
            "budget.usd and run the same command again."
        )


def upper_bound(price: Price, request: Request) -> float:
    """The most that one call can cost, in USD.

    Prompt tokens: the UTF-8 bytes of the messages bound them, since a token of a byte-level or
    byte-fallback vocabulary stands for at least one byte; plus an allowance for the chat template.
    Answer tokens: ``max_new_tokens``. All prompt tokens at the dearer of the two input rates.
    """
    text_bytes = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in request.messages)
    prompt = text_bytes + _TEMPLATE_TOKENS + _TURN_TOKENS * len(request.messages)
    rate = max(price.input, price.cached_input or 0.0)
    return (prompt * rate + request.decoding.max_new_tokens * price.output) / 1e6


def _units(usd: float) -> int:
    return math.ceil(usd * _UNITS)
