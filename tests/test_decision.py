"""Evidence in, decision out: choice, exit code, reasons, what would flip it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tunewise.decision import Build, Decision, RungResult, choose
from tunewise.evidence.records import Evidence, Outcome, Verdict
from tunewise.ladder import Gap


def measured(
    rung: str, verdict: Verdict, estimate: float = 0.5, more: int | None = None, usd: float | None = None
) -> RungResult:
    outcomes = tuple(
        Outcome(f"e{i}", i, "scored", estimate, "text", 10, 5, 0.1, usd, {"field_recall": 0.5})
        for i in range(4)
    )
    low, high = max(estimate - 0.1, 0.0), min(estimate + 0.1, 1.0)
    evidence = Evidence("graded", outcomes, verdict, 4, estimate, low, high, None, 0.0083, more)
    return RungResult(rung, evidence=evidence, gap=Gap("format", {"format": 2, "behaviour": 1}, 5))


def decision(results: list[RungResult], budget_ended: bool = False) -> Decision:
    fields: dict[str, Any] = choose(
        results, metric="exact", target=0.9, tolerance=0.02, budget_ended=budget_ended
    )
    return Decision(
        task="t",
        metric="exact",
        target=0.9,
        tolerance=0.02,
        rungs=tuple(results),
        spent={},
        baselines={},
        openings={},
        data={},
        versions={},
        seed=0,
        **fields,
    )


def test_the_choice_is_the_lightest_rung_that_meets_even_when_a_heavier_one_is_better():
    made = decision(
        [measured("a", "falls_short"), measured("b", "meets", 0.93), measured("c", "meets", 0.99)]
    )
    assert (made.choice, made.verdict, made.exit_code) == ("b", "meets", 0)


@pytest.mark.parametrize(
    ("verdicts", "budget", "verdict", "code"),
    [
        (["falls_short", "falls_short"], False, "falls_short", 3),
        (["falls_short", "not_proved"], False, "not_proved", 4),
        (["falls_short"], True, "not_proved", 5),
        ([], True, "not_proved", 5),
        (["falls_short", "meets"], True, "meets", 0),
    ],
)
def test_exit_codes_follow_the_verdicts(verdicts, budget, verdict, code):
    made = decision([measured(f"r{i}", v) for i, v in enumerate(verdicts)], budget)
    assert (made.verdict, made.exit_code) == (verdict, code)


def test_not_proved_is_never_called_success_and_is_listed_as_maybe_enough():
    made = decision([measured("a", "not_proved", 0.89, more=240), measured("b", "meets", 0.95)])
    assert made.choice == "b"
    assert made.maybe_enough == ("a",)
    assert any("240" in line and "a" in line for line in made.what_would_change_this)
    alone = decision([measured("a", "not_proved", 0.91, more=240)])
    assert alone.choice is None
    assert "cannot tell" in alone.sentence


def test_the_sentence_states_target_tolerance_and_what_was_proved():
    made = decision([measured("few-shot", "meets", 0.95)])
    assert made.sentence.startswith("Use few-shot: it meets 0.90 exact within 2 points: proved at least 0.88")


def test_the_highest_target_that_still_holds_is_low_plus_tolerance():
    made = decision([measured("a", "falls_short", 0.6), measured("b", "meets", 0.95)])
    assert any("With a target of 0.52" in line and " a;" in line for line in made.what_would_change_this)
    assert any("above about 0.87" in line and "b" in line for line in made.what_would_change_this)


def test_what_is_undefined_stays_null_in_json():
    empty = Evidence("graded", (), "not_proved", 0, None, None, None, None, 0.01)
    made = decision([RungResult("a", evidence=empty), RungResult("b", skipped_because="no documents")])
    plain = json.loads(json.dumps(made.to_json(), allow_nan=False))
    first, second = plain["rungs"]
    assert first["quality"]["estimate"] is None
    assert first["usd_per_query"] is None
    assert first["tokens_in"] is None
    assert second == {"rung": "b", "skipped_because": "no documents"}


def test_usd_per_query_is_the_mean_price_and_absent_when_any_call_has_none():
    priced = decision([measured("a", "meets", usd=0.002)]).to_json()["rungs"][0]
    assert priced["usd_per_query"] == pytest.approx(0.002)
    assert decision([measured("a", "meets")]).to_json()["rungs"][0]["usd_per_query"] is None


def test_a_build_carries_its_seconds_and_what_was_chosen():
    result = measured("a", "meets")
    built = RungResult("a", evidence=result.evidence, build=Build(12.5, None, {"k": 5}))
    assert decision([built]).to_json()["rungs"][0]["build"] == {"seconds": 12.5, "usd": None, "k": 5}


def guarded(forgetting: str) -> RungResult:
    guard = {
        "verdict": "failed",
        "why": "pooled drop 20.0 %",
        "forgetting": forgetting,
        "advice": ["train less"],
    }
    result = measured("lora", "meets", 0.95)
    return replace(result, build=Build(1.0, None, {"rank": 8, "guard": guard}))


def test_a_rung_that_meets_and_forgets_does_not_win_unless_forgetting_is_ignored():
    made = decision([guarded("stop"), measured("full", "falls_short")])
    assert (made.choice, made.verdict, made.exit_code) == (None, "falls_short", 3)
    assert made.sentence.endswith("without forgetting what the base model could do.")
    assert any("lora meets" in line and "it forgets: pooled drop 20.0 %" in line for line in made.reasons)
    assert any("forgetting: ignore would hand over lora" in line for line in made.what_would_change_this)
    entry = made.to_json()["rungs"][0]
    assert (entry["verdict"], entry["quality"]["verdict"]) == ("falls_short", "meets")
    assert entry["guard"]["why"] == "pooled drop 20.0 %"
    assert entry["build"] == {"seconds": 1.0, "usd": None, "rank": 8}
    ignored = decision([guarded("ignore")])
    assert ignored.choice == "lora"
    assert any("general ability is lost, and this is ignored" in line for line in ignored.reasons)


def test_a_chosen_tuned_rung_says_when_its_general_ability_was_not_measured():
    guard = {"verdict": "off", "why": "no general benchmark data is named: set guard.data"}
    result = replace(measured("lora", "meets"), build=Build(1.0, None, {"guard": guard}))
    [said] = [line for line in decision([result]).reasons if "general ability" in line]
    assert said == (
        "What lora lost of its base's general ability was not measured: no general benchmark data is named: "
        "set guard.data."
    )


@pytest.mark.parametrize(
    ("target", "tolerance", "said"),
    [
        (0.9, 0.02, "0.90 exact within 2 points: proved at least 0.88 "),
        (0.995, 0.0047, "0.995 exact within 0.47 points: proved at least 0.99 "),
        (0.85, 0.0238, "0.85 exact within 2.4 points: proved at least 0.826 "),
        (0.5, 0.01, "0.50 exact within 1 point: proved at least 0.49 "),
        (0.999, 0, "0.999 exact: proved at least 0.999 "),
    ],
)
def test_what_was_proved_is_cut_off_and_never_rounded_up(target, tolerance, said):
    chosen = choose(
        [measured("a", "meets", 0.95)], metric="exact", target=target, tolerance=tolerance, budget_ended=False
    )
    assert chosen["reasons"][0].startswith(f"Use a: it meets {said}")


@pytest.mark.parametrize(
    ("verdicts", "facts", "ended_by"),
    [
        (["not_proved"], {"stops": True}, "on_not_proved: stop"),
        (["not_proved"], {}, "every rung was tried"),
        (["falls_short"], {"stops": True}, "every rung was tried"),
        (["meets", "falls_short"], {"budget_ended": True}, "budget"),
        (["falls_short", "meets"], {}, "meets"),
    ],
)
def test_what_ended_the_run_is_told_as_it_was(verdicts, facts, ended_by):
    results = [measured(f"r{i}", v) for i, v in enumerate(verdicts)]
    given = {"budget_ended": False, **facts}
    assert choose(results, metric="exact", target=0.9, tolerance=0.02, **given)["ended_by"] == ended_by
