"""What a run has spent: sums over its store, kept up to date call by call."""

import sqlite3
from dataclasses import dataclass
from typing import Any

from tunewise.models.door import Answer

_SPENT_ON_CALLS = """
    SELECT count(*), sum(tokens_in), sum(tokens_out), sum(coalesce(usd, upper_usd)),
        coalesce(max(usd IS NULL AND upper_usd > 0), 0)
    FROM (SELECT tokens_in, tokens_out, usd, upper_usd FROM calls
          UNION ALL SELECT tokens_in, tokens_out, usd, upper_usd FROM failures)
"""

_USD_OF_BUILDING = """
    SELECT count(*), sum(coalesce(usd, upper_usd))
    FROM (SELECT usd, upper_usd, purpose, rung FROM calls
          UNION ALL SELECT usd, upper_usd, purpose, rung FROM failures)
    WHERE rung = :rung AND purpose NOT IN
        ('certification', 'gap', 'probe', 'beside', 'timing', 'staleness', 'comparison', 'curve')
"""
_SECONDS_BEFORE = """
    SELECT sum(latest) FROM (
        SELECT max(at) AS latest FROM (
            SELECT session, at FROM calls UNION ALL SELECT session, at FROM failures
            UNION ALL SELECT session, at FROM outcomes UNION ALL SELECT session, at FROM costs
            UNION ALL SELECT session, at FROM frozen UNION ALL SELECT session, at FROM events
        ) WHERE session <> :session GROUP BY session
    )
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has spent so far, over all its sessions.

    calls: answers received, the errored ones among them. tokens_in, tokens_out: as far as the doors
    told, None when calls were made and none was told. usd: prices of the calls (where a priced door
    could not tell one, what was reserved for it) and other costs; None when there were calls and
    nothing had a price. usd_at_most: whether such a reserve is part of ``usd``. seconds: wall time, this
    session up to now included.
    """

    calls: int = 0
    tokens_in: int | None = 0
    tokens_out: int | None = 0
    usd: float | None = 0.0
    seconds: float = 0.0
    usd_at_most: bool = False


class Account:
    """Running sums over all sessions, so that ``spent`` need not read the whole store at every look."""

    def __init__(self, connection: sqlite3.Connection, session: int) -> None:
        sums = connection.execute(_SPENT_ON_CALLS).fetchone()
        (costs,) = connection.execute("SELECT sum(usd) FROM costs").fetchone()
        (before,) = connection.execute(_SECONDS_BEFORE, {"session": session}).fetchone()
        self._calls, self._tokens_in, self._tokens_out, self._usd, at_most = sums
        self._at_most = bool(at_most)
        self._seconds_before = before or 0.0
        self.pay(costs)

    def call(self, answer: Answer, upper_usd: float | None) -> None:
        """Count one answer; ``upper_usd`` stands for a price that the door could not tell."""
        self._calls += 1
        self._tokens_in = _added(self._tokens_in, answer.tokens_in)
        self._tokens_out = _added(self._tokens_out, answer.tokens_out)
        self._at_most |= answer.usd is None and bool(upper_usd)
        self.pay(upper_usd if answer.usd is None else answer.usd)

    def pay(self, usd: float | None) -> None:
        """Count a cost; None when there is no price."""
        self._usd = _added(self._usd, usd)

    def spent(self, seconds: float) -> Spent:
        """The sums, with ``seconds`` of the present session."""
        nothing = None if self._calls else 0
        return Spent(
            calls=self._calls,
            tokens_in=nothing if self._tokens_in is None else self._tokens_in,
            tokens_out=nothing if self._tokens_out is None else self._tokens_out,
            usd=nothing if self._usd is None else self._usd,
            seconds=self._seconds_before + seconds,
            usd_at_most=self._at_most,
        )


def _added(total: Any, more: Any) -> Any:
    """Sum of what is known; None when neither is."""
    if total is None or more is None:
        return more if total is None else total
    return total + more


def usd_of_building(connection: sqlite3.Connection, rung: str) -> float | None:
    """Prices of the calls that a rung was built with; None when there were some and none had a price."""
    count, usd = connection.execute(_USD_OF_BUILDING, {"rung": rung}).fetchone()
    return 0.0 if not count else usd
