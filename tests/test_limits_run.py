"""Limits in a whole run: slow and dear rungs that answer well, on scripted doors."""

import json

import pytest

import tunewise
from tunewise.errors import TaskFileError
from tunewise.models.door import Answer, Price
from tunewise.models.scripted import ScriptedDoor
from tunewise.store import Store

RUNGS = ["zero-shot", "few-shot", "few-shot-nearest"]


@pytest.fixture
def timed(monkeypatch, reverse_task):
    """A task whose model takes ``seconds(messages)`` per answer and costs by its price."""

    def make(limits: str, seconds=lambda messages: 0.01, price=None, target=0.5, extra=""):
        task = reverse_task(target=target)
        task.write_text(task.read_text() + limits + "\n" + extra)
        import reverse_script

        def script(messages):
            words = sum(len(m.content.split()) for m in messages)
            text = reverse_script.reply(messages)
            return Answer(text, tokens_in=words, tokens_out=1, seconds=seconds(messages), first_token_s=0.005)

        monkeypatch.setattr("tunewise.api.open_door", lambda spec, **more: ScriptedDoor(script, price=price))
        return task

    return make


def slow_with_few(messages) -> float:
    """Long prompts take long: few-shot prompts are slow, nearest ones (few shots here) as well."""
    return 0.9 if len(messages) > 2 else 0.01


def decide(task, out="run", **more):
    return tunewise.decide(task, out=task.parent / out, rungs=more.pop("rungs", RUNGS), **more)


def test_a_rung_that_answers_well_and_keeps_its_limits_is_chosen(timed):
    made = decide(timed("limits: {latency_ms: 500, concurrency: 2}"))
    assert made.choice == "few-shot"
    plain = made.to_json()
    few = next(r for r in plain["rungs"] if r["rung"] == "few-shot")
    assert few["verdict"] == few["quality"]["verdict"] == "meets"
    assert few["limits"][0]["verdict"] == "meets"
    assert 5 <= few["latency_ms"]["p50"] <= few["latency_ms"]["p95"] < 500
    assert few["latency_ms"]["first_token_p50"] == pytest.approx(5)
    assert few["latency_ms"]["concurrency"] == 2
    assert plain["limits"]["latency_ms"] == 500
    assert any("latency limit 500 ms holds" in line for line in made.reasons)
    assert few["limits"][0]["alpha"] == pytest.approx(0.05 / 3)
    assert few["quality"]["alpha"] == pytest.approx(0.05 / 3 / 2)


def test_a_slow_rung_falls_short_with_gap_latency_and_the_climb_goes_on(timed):
    made = decide(timed("limits: {latency_ms: 500}", seconds=slow_with_few))
    few = made.result("few-shot")
    assert few.evidence.verdict == "meets"
    assert (few.verdict, few.gap.kind) == ("falls_short", "latency")
    assert made.choice is None
    assert made.exit_code == 3
    assert made.sentence == "No rung meets 0.50 exact within 3.3 points and every limit as well."
    assert any("few-shot has a p95 of about 900 ms" in line for line in made.what_would_change_this)
    assert "latency limit 500 ms fails: 0 of 16 calls within it" in json.dumps(made.to_json())


def test_a_dear_rung_falls_short_with_gap_cost(timed):
    price = Price(input=1.0, output=1.0)
    made = decide(timed("limits: {cost_per_query: 0.000001}", price=price), yes=True)
    assert (made.result("few-shot").verdict, made.result("few-shot").gap.kind) == ("falls_short", "cost")


def test_a_cost_limit_without_a_price_is_not_proved_and_never_success(timed):
    made = decide(timed("limits: {cost_per_query: 0.001}"))
    few = made.result("few-shot")
    assert (few.evidence.verdict, few.verdict) == ("meets", "not_proved")
    assert (made.choice, made.exit_code, made.maybe_enough) == (None, 4, ("few-shot", "few-shot-nearest"))


def test_probe_calls_are_on_record_count_as_spent_and_are_not_sent_again_on_resuming(timed):
    task = timed("limits: {latency_ms: 500}")
    made = decide(task)
    probe = made.result("few-shot").probe
    asked = sum(len(r.evidence.outcomes) for r in made.rungs if r.evidence)
    assert made.spent["calls"] >= asked + len(probe.calls) + probe.warm_up
    again = decide(task)
    assert again.spent["calls"] == made.spent["calls"]
    assert again.result("few-shot").probe == probe


def test_a_probe_that_a_budget_cut_off_proves_nothing_and_is_begun_anew(timed, monkeypatch, tmp_path):
    price = Price(input=1000.0, output=0.0)
    free = decide(timed("limits: {latency_ms: 500}", price=price), yes=True)
    probe_usd = sum(c.usd for c in free.result("few-shot").probe.calls)
    cap = free.spent["usd"] - probe_usd / 2
    monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / "another"))  # so that this is a first opening too
    task = timed("limits: {latency_ms: 500}", price=price, extra=f"budget: {{usd: {cap}}}\n")
    made = decide(task, out="capped", yes=True)
    assert (made.choice, made.ended_by, made.exit_code) == (None, "budget", 5)
    few = made.result("few-shot")
    assert (few.evidence.verdict, few.verdict) == ("meets", "not_proved")
    assert "the budget ended the run" in few.probe.limits[0].why
    task.write_text(task.read_text().replace(f"usd: {cap}", "usd: 1000"))
    resumed = decide(task, out="capped", yes=True)
    assert resumed.choice == "few-shot"
    assert len(resumed.result("few-shot").probe.calls) == len(free.result("few-shot").probe.calls)
    assert resumed.spent["usd"] > free.spent["usd"]


def test_the_store_of_a_probed_run_is_whole(timed):
    task = timed("limits: {latency_ms: 500}")
    decide(task)
    import sqlite3
    from contextlib import closing

    path = task.parent / "run/run.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        settings = json.loads(
            connection.execute("SELECT value FROM meta WHERE name='settings'").fetchone()[0]
        )
    with Store.open(path, settings) as store:
        assert store.verify() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limits: {concurrency: 2}", "line 6: limits: a limit was expected: latency_ms, cost_per_query"),
        ("limits: {latency: 3}", "line 6: limits.latency: unknown key; did you mean 'latency_ms'"),
        ("limits: {latency_ms: 0}", "line 6: limits.latency_ms: it must be greater than 0, got 0"),
        ("economics: {today: few-shots, queries_per_day: 1}", "line 6: economics.today: unknown rung 'few-s"),
        ("economics: {utilisation: 1.2, queries_per_day: 1}", "line 6: economics.utilisation: it must be"),
        ("economics: {today: few-shot}", "line 6: economics.queries_per_day: missing"),
    ],
)
def test_mistakes_in_limits_and_economics_are_told_with_line_and_key(reverse_task, text, message):
    task = reverse_task()
    lines = task.read_text().splitlines()
    task.write_text("\n".join([*lines[:5], text, *lines[5:]]) + "\n")
    with pytest.raises(TaskFileError) as caught:
        tunewise.load_task(task)
    assert caught.value.problems[0].startswith(message)


def test_the_plan_says_what_the_limits_add(reverse_task):
    task = reverse_task()
    task.write_text(task.read_text() + "limits: {latency_ms: 500, concurrency: 4}\n")
    (line,) = [line for line in tunewise.check(task).lines if line.startswith("limits")]
    assert line.endswith("is asked up to 100 further calls, 4 at once, after 4 to warm up")


def test_no_input_is_asked_twice_to_prove_a_limit(timed):
    """40 calls that all keep it cannot prove 93 %: an input that is asked again is no new evidence."""
    split = "split: {train: 0.6, selection: 0.3, certification: 0.1}\n"
    task = timed("limits: {latency_ms: 500}", target=0.3, extra=split)
    plan = tunewise.check(task, rungs=RUNGS)
    items = plan.facts["parts"]["certification_items"]
    assert items < 60
    assert any("cannot be proved with" in line and "at least 57 are needed" in line for line in plan.lines)
    few = decide(task).result("few-shot")
    assert len(few.probe.calls) == items
    assert few.probe.limits[0].within == few.probe.limits[0].n
    assert (few.evidence.verdict, few.verdict) == ("meets", "not_proved")
