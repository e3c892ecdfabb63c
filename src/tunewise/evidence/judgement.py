"""From outcomes to evidence: which test reads them, with what budget, and what it says."""

from collections.abc import Sequence
from typing import Protocol

from tunewise.errors import DataError
from tunewise.evidence.betting import BettingTest
from tunewise.evidence.records import Evidence, Kind, Outcome, Reading, Verdict, values_of
from tunewise.evidence.sequential import FIRST_LOOK, MAX_CAP, ExactTest, looks_for

ALPHA = 0.05  # chance of any false *meets* over all rungs and all openings of the same items
ALPHA_SHORT = 0.05  # chance of a false *falls short*, per rung: it costs money, not trust


class Test(Protocol):
    """What both sequential tests promise. Values are in [0, 1]: the first n items in the fixed order.

    Pure: a test remembers nothing between calls. Values after the look that gave the verdict are not read.
    """

    @property
    def kind(self) -> Kind: ...
    @property
    def target(self) -> float: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def alpha_meets(self) -> float: ...
    @property
    def alpha_short(self) -> float: ...
    @property
    def looks(self) -> tuple[int, ...]: ...
    @property
    def cap(self) -> int: ...

    def read(self, values: Sequence[float]) -> Reading:
        """The first look with a verdict, or verdict None."""
        ...

    def verdict_at(self, values: Sequence[float]) -> Verdict | None:
        """None: go on. At the cap always a verdict."""
        ...

    def interval(self, values: Sequence[float]) -> tuple[float | None, float | None]:
        """Bounds by inverting the test: they never contradict the verdict."""
        ...

    def more_items(self, values: Sequence[float]) -> int | None:
        """More items that would settle it with 80 % power."""
        ...

    def provable(self) -> float | None:
        """Smallest true quality proved as *meets* with 80 % power."""
        ...


def make_test(
    kind: Kind,
    *,
    target: float,
    tolerance: float,
    alpha_meets: float,
    alpha_short: float = ALPHA_SHORT,
    items: int,
) -> Test:
    """The test for a metric of this kind on ``items`` certification items; it reads at most MAX_CAP of them.

    Raises DataError for fewer than 16 items; SettingError as ``Rule`` does.
    """
    if items < FIRST_LOOK:
        raise DataError(
            f"expected at least {FIRST_LOOK} certification items, got {items}: nothing can be proved with"
            " fewer; add rows, or give certification a larger share under split"
        )
    looks = looks_for(min(MAX_CAP, items))
    test = ExactTest if kind == "binary" else BettingTest
    return test(target, tolerance, alpha_meets, alpha_short, looks)


def allowance(rungs: int, opening: int) -> float:
    """The false-*meets* budget of one rung; the j-th opening of the same items spends 0.05 / 2**j in all.

    The sum over all openings stays below 0.05 (union bound). Raises ValueError unless both are at least 1.
    """
    if rungs < 1 or opening < 1:
        raise ValueError(f"rungs and opening are counted from 1, got {rungs} and {opening}")
    return float(ALPHA / 2**opening / rungs)


def read_outcomes(test: Test, outcomes: Sequence[Outcome]) -> Reading:
    """What the test says of outcomes of which some may have errored, tried as all wrong and as all right.

    The same verdict both ways stands (at the later look of the two); different verdicts are
    ``not_proved``, and more items would not mend that; while either way may go on, so does the test.
    """
    wrong = test.read(values_of(outcomes, 0.0))
    if not any(outcome.value is None for outcome in outcomes):
        return wrong
    right = test.read(values_of(outcomes, 1.0))
    if wrong.verdict is None or right.verdict is None:
        return Reading(len(outcomes), None)
    n = max(wrong.n, right.n)
    return Reading(n, wrong.verdict if wrong.verdict == right.verdict else "not_proved")


def judge(test: Test, outcomes: Sequence[Outcome], alpha: float) -> Evidence:
    """Outcomes in certification order -> evidence. Those after the look that gave the verdict are left out.

    estimate: mean of the values there are; None when every outcome errored. low is read with errored
    answers as wrong, high with them as right. A test that was cut off before its end (budget) is
    ``not_proved``, with a note.
    """
    reading = read_outcomes(test, outcomes)
    read = tuple(outcomes[: reading.n])
    known = [outcome.value for outcome in read if outcome.value is not None]
    if not known:
        notes = _notes(test, read, reading)
        return Evidence(test.kind, read, "not_proved", len(read), None, None, None, None, alpha, None, notes)
    low, high = test.interval(values_of(read, 0.0))
    if len(known) < len(read):
        high = test.interval(values_of(read, 1.0))[1]
    unsettled = reading.verdict in (None, "not_proved")
    return Evidence(
        kind=test.kind,
        outcomes=read,
        verdict=reading.verdict or "not_proved",
        n=len(read),
        estimate=sum(known) / len(known),
        low=low,
        high=high,
        successes=sum(value == 1 for value in known) if test.kind == "binary" else None,
        alpha=alpha,
        more_items=test.more_items(known) if unsettled else None,
        notes=_notes(test, read, reading),
    )


def _notes(test: Test, read: Sequence[Outcome], reading: Reading) -> tuple[str, ...]:
    notes = []
    errored = sum(outcome.value is None for outcome in read)
    if errored:
        wrong, right = (test.read(values_of(read, value)).verdict for value in (0.0, 1.0))
        effect = "the verdict is the same both ways"
        if wrong != right:
            effect = f"{_said(wrong)} if all are wrong, {_said(right)} if all are right"
        notes.append(f"{errored} of {len(read)} answers errored and were tried both ways: {effect}")
    if reading.verdict is None:
        notes.append(f"cut off after {len(read)} of up to {test.cap} items, before the test could decide")
    return tuple(notes)


def _said(verdict: Verdict | None) -> str:
    return {"meets": "meets", "falls_short": "falls short", "not_proved": "not proved"}.get(
        verdict or "", "undecided"
    )
