"""Progress of a run that keeps its caps while a step makes no calls: training takes time and money."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tunewise.progress import Progress
from tunewise.spending import Spending
from tunewise.store import Store


class Clocked:
    """Hands progress on, marks the wall time while a step makes no calls, and keeps the caps.

    ``tell`` raises BudgetEnded during training once the hours of the budget are over, or when the money for
    the machine would pass the cap before the next step is told: the checkpoints that are on disk stand.
    """

    EVERY_SECONDS = 5.0

    def __init__(
        self,
        progress: Progress,
        store: Store,
        spending: Spending,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._store = store
        self._spending = spending
        self._clock = clock
        self._marked = clock()
        self._rung = ""
        self._usd_per_second = 0.0
        self._paid_until = self._stepped = clock()

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress. trains, among the facts of another event: a step of a training that is an aside."""
        self._progress.tell(event, **facts)
        if event != "training" and not facts.get("trains"):
            return
        now = self._clock()
        if now - self._marked > self.EVERY_SECONDS:
            self._marked = now
            self._store.log(event, facts)
            self._pay()
        self._spending.check_time()
        if self._usd_per_second:
            step, self._stepped = now - self._stepped, now
            coming = self._usd_per_second * step
            if not self._spending.has_room(coming + self._usd_per_second * (now - self._paid_until)):
                self._pay()  # first, so that the message says what is spent
                self._spending.check_money(coming)

    @contextmanager
    def paying(self, rung: str, usd_per_hour: float | None) -> Iterator[None]:
        """Count the hours of a machine inside, however it ends, as they pass; None: it has no price."""
        if not usd_per_hour:
            yield
            return
        self._rung, self._usd_per_second = rung, usd_per_hour / 3600
        self._paid_until = self._stepped = self._clock()
        try:
            yield
        finally:
            self._pay()
            self._usd_per_second = 0.0

    @property
    def pays(self) -> bool:
        """Whether the hours of a machine are being counted."""
        return self._usd_per_second > 0

    def _pay(self) -> None:
        if not self._usd_per_second:
            return
        now = self._clock()
        usd = self._usd_per_second * (now - self._paid_until)
        self._paid_until = now
        self._store.record_cost("training", usd, rung=self._rung)
        self._spending.add(usd)
