"""A cap that ends a run: every rung is accounted for, what is open stays open, and building has its price."""

import pytest

import tunewise
from tunewise.models.door import Answer, Price
from tunewise.models.scripted import ScriptedDoor

RUNGS = ["zero-shot", "few-shot", "few-shot-nearest"]
PRICE = Price(input=1000.0, output=1000.0)


@pytest.fixture
def priced(monkeypatch, reverse_task):
    """A task at a door with a price; ``fails(calls so far)`` says whether this one fails."""

    def make(fails=lambda count: False, **more):
        task = reverse_task(**more)
        import reverse_script

        calls = []

        def script(messages):
            calls.append(messages)
            words = sum(len(m.content.split()) for m in messages)
            if fails(len(calls)):
                return Answer(
                    "", status="errored", finish="other", error="HTTP 500", tokens_in=0, tokens_out=0
                )
            return Answer(reverse_script.reply(messages), tokens_in=words, tokens_out=1)

        monkeypatch.setattr("tunewise.api.open_door", lambda spec, **rest: ScriptedDoor(script, price=PRICE))
        return task

    return make


def decide(task, out="run", **more):
    return tunewise.decide(task, out=task.parent / out, rungs=RUNGS, yes=True, **more)


def test_rungs_that_the_budget_left_untried_are_listed_with_that_reason(priced):
    task = priced()
    free = decide(task)
    first = free.result("zero-shot").evidence
    made = decide(task, out="capped", max_usd=free.spent["usd"] * 0.3)
    assert (made.choice, made.ended_by, made.exit_code) == (None, "budget", 5)
    assert [r.rung for r in made.rungs] == [r.rung for r in free.rungs]
    assert made.result("zero-shot").evidence.outcomes == first.outcomes
    for name in RUNGS[1:]:
        assert made.result(name).skipped_because == "the budget ended the run before it was measured"
    assert made.result("rag").skipped_because == "not asked for"
    assert made.verdict == "not_proved"  # the rungs above may well meet


def test_a_search_that_errored_is_not_asked_again_once_its_rungs_items_were_opened(priced):
    # call 60 is in the search of few-shot, which with another answer could choose another prompt
    task = priced(fails=lambda count: count == 60)
    whole = decide(task)
    assert whole.result("few-shot").evidence.n >= 16
    again = decide(task, max_usd=whole.spent["usd"])
    assert (again.ended_by, again.spent["calls"]) == (whole.ended_by, whole.spent["calls"])


def test_an_item_that_errored_and_is_asked_again_beyond_the_cap_ends_the_run_by_budget(priced):
    # call 3 is an item of zero-shot; a resumed run asks it again, now beyond the cap
    task = priced(fails=lambda count: count == 3)
    whole = decide(task)
    assert whole.result("few-shot").evidence.n >= 16
    again = decide(task, max_usd=whole.spent["usd"])
    assert (again.ended_by, again.exit_code) == ("budget", 5)
    assert again.result("few-shot").skipped_because == (
        "the budget ended the run before it was built again in this session; what an earlier one measured "
        "stays recorded"
    )


def test_building_costs_the_calls_of_its_search_and_nothing_where_nothing_was_asked(priced):
    made = decide(priced())
    builds = {r.rung: r.build for r in made.rungs if r.build is not None}
    assert builds["zero-shot"].usd == 0
    few = made.result("few-shot")
    read = sum(o.usd for o in few.evidence.outcomes)
    gaps_and_build = made.spent["usd"] - sum(
        o.usd for r in made.rungs if r.evidence for o in r.evidence.outcomes
    )
    assert 0 < builds["few-shot"].usd < gaps_and_build
    assert builds["few-shot"].usd > read  # 212 calls against 16
    plain = next(r for r in made.to_json()["rungs"] if r["rung"] == "few-shot")
    assert plain["build"]["usd"] == builds["few-shot"].usd


def test_building_has_no_price_at_a_door_without_one(reverse_task):
    task = reverse_task()
    made = tunewise.decide(task, out=task.parent / "run", rungs=RUNGS)
    assert [r.build.usd for r in made.rungs if r.build is not None] == [None, None, None]


def test_a_climb_that_stops_at_what_is_not_proved_says_so(reverse_task):
    task = reverse_task(target=0.25, rows=160)
    task.write_text(task.read_text() + "on_not_proved: stop\n")
    made = tunewise.decide(task, out=task.parent / "run", rungs=RUNGS)
    assert made.result("zero-shot").verdict == "not_proved"
    assert made.ended_by == "on_not_proved: stop"
    assert made.result("few-shot").skipped_because == (
        "not tried: zero-shot is not proved and on_not_proved is stop"
    )
