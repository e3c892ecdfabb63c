"""Outcomes to evidence: errored answers tried both ways, budgets, and what is left undefined."""

import pytest

from tunewise.errors import DataError, SettingError
from tunewise.evidence.judgement import allowance, judge, make_test, read_outcomes
from tunewise.evidence.records import Outcome, Status

ALPHA = 0.05 / 12


def outcome(position: int, value: float | None, status: Status = "scored") -> Outcome:
    return Outcome(
        example=f"{position:016x}",
        position=position,
        status="errored" if value is None else status,
        value=value,
        text="",
        tokens_in=None,
        tokens_out=None,
        seconds=0.0,
        usd=None,
    )


def outcomes(*values: float | None) -> tuple[Outcome, ...]:
    return tuple(outcome(position, value) for position, value in enumerate(values))


def binary(items: int = 200, target: float = 0.8):  # type: ignore[no-untyped-def]
    return make_test("binary", target=target, tolerance=0.05, alpha_meets=ALPHA, items=items)


def test_the_test_follows_from_the_kind_and_reads_at_most_1000_items() -> None:
    assert binary(5000).cap == 1000
    assert binary(100).cap == 100
    assert binary().kind == "binary"
    graded = make_test("graded", target=0.8, tolerance=0.05, alpha_meets=ALPHA, items=50)
    assert (graded.kind, graded.cap, graded.alpha_short) == ("graded", 50, 0.05)


def test_fewer_than_16_items_are_a_mistake_in_the_data() -> None:
    with pytest.raises(DataError, match="at least 16 certification items, got 15"):
        binary(15)


def test_a_tolerance_as_large_as_the_target_is_refused() -> None:
    with pytest.raises(SettingError, match="tolerance"):
        make_test("binary", target=0.04, tolerance=0.05, alpha_meets=ALPHA, items=100)


def test_all_openings_of_all_rungs_together_spend_at_most_5_percent() -> None:
    assert allowance(6, 1) == pytest.approx(0.05 / 12)
    assert allowance(5, 3) == pytest.approx(0.05 / 40)
    assert sum(6 * allowance(6, opening) for opening in range(1, 60)) <= 0.05 + 1e-15
    with pytest.raises(ValueError, match="counted from 1"):
        allowance(0, 1)
    with pytest.raises(ValueError, match="counted from 1"):
        allowance(6, 0)


def test_evidence_holds_what_was_read_and_nothing_after_the_verdict() -> None:
    evidence = judge(binary(), outcomes(*[1.0] * 200), ALPHA)
    assert evidence.verdict == "meets"
    assert evidence.n == len(evidence.outcomes) < 40
    assert (evidence.estimate, evidence.high, evidence.successes) == (1.0, 1.0, evidence.n)
    assert evidence.low is not None
    assert evidence.low >= 0.75
    assert (evidence.alpha, evidence.more_items, evidence.notes) == (ALPHA, None, ())


def test_unparseable_and_refused_answers_count_as_wrong() -> None:
    read = [outcome(i, 0.0, "unparseable" if i % 2 else "refused") for i in range(200)]
    evidence = judge(binary(), read, ALPHA)
    assert evidence.verdict == "falls_short"
    assert evidence.successes == 0
    assert set(evidence.statuses()) == {"unparseable", "refused"}


def test_no_outcomes_leave_every_figure_undefined() -> None:
    for read in ((), outcomes(*[None] * 30)):
        evidence = judge(binary(), read, ALPHA)
        assert evidence.verdict == "not_proved"
        assert (evidence.estimate, evidence.low, evidence.high, evidence.successes) == (None,) * 4
        assert evidence.notes


def test_errored_answers_that_change_nothing_leave_the_verdict_standing() -> None:
    values = [1.0] * 60
    values[3] = values[20] = None  # type: ignore[call-overload]
    evidence = judge(binary(), outcomes(*values), ALPHA)
    assert evidence.verdict == "meets"
    assert evidence.estimate == 1.0
    assert evidence.low is not None
    assert evidence.low >= 0.75
    assert "2 of" in evidence.notes[0]
    assert "same both ways" in evidence.notes[0]


def test_errored_answers_that_decide_the_verdict_leave_it_not_proved() -> None:
    values: list[float | None] = [1.0, None, 1.0, 1.0] * 50
    evidence = judge(binary(), outcomes(*values), ALPHA)
    assert evidence.verdict == "not_proved"
    assert evidence.low is not None
    assert evidence.high is not None
    assert evidence.low < 0.75
    assert evidence.low <= 1.0 == evidence.estimate <= evidence.high
    assert "meets if all are right" in evidence.notes[0]


def test_while_one_way_may_go_on_so_does_the_test() -> None:
    values: list[float | None] = [*[1.0] * 22, None, None, *[1.0] * 100]
    read = [read_outcomes(binary(), outcomes(*values[:n])) for n in binary().looks if n <= 122]
    first = next(reading for reading in read if reading.verdict)
    without = next(
        n for n in binary().looks if binary().verdict_at([1.0 if v is None else v for v in values[:n]])
    )
    assert first.verdict == "meets"
    assert first.n > without


def test_a_test_that_was_cut_off_is_not_proved_and_says_so() -> None:
    evidence = judge(binary(), outcomes(*[1.0, 0.0, 1.0, 1.0, 1.0] * 5), ALPHA)
    assert evidence.verdict == "not_proved"
    assert evidence.n == 25
    assert "cut off after 25 of up to 200 items" in evidence.notes[-1]


def test_graded_evidence_has_no_successes() -> None:
    test = make_test("graded", target=0.8, tolerance=0.02, alpha_meets=ALPHA, items=100)
    evidence = judge(test, outcomes(*[1.0, 0.5, 0.7, 1.0] * 25), ALPHA)
    assert evidence.successes is None
    assert evidence.verdict == "not_proved"
    assert evidence.estimate == pytest.approx(0.8)
    assert evidence.low is not None
    assert evidence.high is not None
    assert 0.7 < evidence.low < 0.8 < evidence.high < 0.9
