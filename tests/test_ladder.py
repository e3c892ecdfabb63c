"""The climb: order, stopping, and what is known when something breaks."""

from dataclasses import dataclass

import pytest

from tunewise.evidence.records import Evidence, Verdict
from tunewise.ladder import Gap, climb


@dataclass
class Rung:
    name: str
    verdict: Verdict = "falls_short"
    reason: str | None = None


def evidence(verdict: Verdict) -> Evidence:
    return Evidence("binary", (), verdict, 0, None, None, None, None, 0.01)


def walk(rungs: list[Rung], log: list[str] | None = None, **settings):
    log = log if log is not None else []
    return list(
        climb(
            rungs,
            cannot_help=lambda rung, done: rung.reason,
            build=lambda rung, done: log.append(f"build {rung.name}") or rung.name,
            gather=lambda rung, candidate: evidence(rung.verdict),
            diagnose=lambda rung, candidate, found: Gap("format", {"format": 1}, 1),
            **settings,
        )
    )


def test_the_climb_stops_at_the_lightest_rung_that_meets_and_builds_nothing_above():
    log: list[str] = []
    steps = walk([Rung("a"), Rung("b", "meets"), Rung("c", "meets")], log)
    assert log == ["build a", "build b"]
    assert [s.evidence.verdict if s.evidence else None for s in steps] == ["falls_short", "meets", None]
    assert "b meets the target" in steps[2].skipped_because


def test_a_rung_that_is_not_proved_is_climbed_past_unless_told_to_stop():
    rungs = [Rung("a", "not_proved"), Rung("b", "meets")]
    assert walk(rungs)[1].evidence.verdict == "meets"
    assert walk(rungs, on_not_proved="stop")[1].evidence is None


def test_exhaustive_measures_every_rung_that_can_help():
    steps = walk([Rung("a", "meets"), Rung("b", reason="no documents"), Rung("c", "meets")], exhaustive=True)
    assert [s.evidence is not None for s in steps] == [True, False, True]
    assert steps[1].skipped_because == "no documents"


def test_gaps_are_measured_on_failing_rungs_only_and_seen_by_the_rungs_above():
    seen: list[list[Gap | None]] = []

    def cannot_help(rung, done):
        seen.append([step.gap for step in done])

    steps = list(
        climb(
            [Rung("a"), Rung("b", "meets")],
            cannot_help=cannot_help,
            build=lambda rung, done: rung.name,
            gather=lambda rung, candidate: evidence(rung.verdict),
            diagnose=lambda rung, candidate, found: Gap("knowledge", {"knowledge": 3}, 30),
        )
    )
    assert seen[1][0].kind == "knowledge"
    assert steps[1].gap is None


def test_steps_that_were_yielded_stand_when_a_later_rung_breaks():
    def build(rung, done):
        if rung.name == "b":
            raise RuntimeError("no power")
        return rung.name

    walking = climb(
        [Rung("a"), Rung("b")],
        cannot_help=lambda rung, done: None,
        build=build,
        gather=lambda rung, candidate: evidence(rung.verdict),
    )
    assert next(walking).rung == "a"
    with pytest.raises(RuntimeError, match="no power"):
        next(walking)


def test_a_rung_that_is_held_back_does_not_win_and_the_climb_goes_on_without_trying_its_limits():
    probed: list[str] = []
    steps = walk(
        [Rung("a", "meets"), Rung("b", "meets"), Rung("c", "meets")],
        probe=lambda rung, candidate: probed.append(rung.name),
        holds_back=lambda candidate: "it forgets" if candidate == "a" else None,
    )
    assert [step.verdict for step in steps] == ["falls_short", "meets", None]
    assert (steps[0].held_back, steps[0].gap) == ("it forgets", None)
    assert probed == ["b"]
