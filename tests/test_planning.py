"""The plan bounds what a run takes, and prices each rung at the door that answers it."""

import json

import pytest

import tunewise

PRICE = ", usd_per_million: {input: 1, output: 4}"
RUBRIC = "criteria:\n  - {name: ok, question: 'Is it right?', anchors: {0: 'no', 1: 'yes'}}\n"
HOST = "{{endpoint: 'https://models.invalid/v1', name: m{price}}}"


def hosted(task, price=PRICE, more=""):
    text = task.read_text().replace('{scripted: "reverse_script:reply"}', HOST.format(price=price))
    task.write_text(text + more)
    return task


def test_the_most_calls_of_the_plan_are_not_passed_by_a_run_that_fails_and_probes(reverse_task):
    task = reverse_task(rows=200)
    task.write_text(task.read_text() + "limits: {latency_ms: 60000}\neconomics: {queries_per_day: 10}\n")
    rungs = ["zero-shot", "few-shot", "few-shot-nearest"]
    plan = tunewise.check(task, rungs=rungs)
    made = tunewise.decide(task, out=task.parent / "run", rungs=rungs, exhaustive=True)
    alone = sum(rung.calls_high for rung in plan.rungs)
    assert alone < made.spent["calls"] <= plan.calls_high
    assert plan.to_json()["calls_high"] == plan.calls_high
    assert {row["what"] for row in plan.to_json()["beside"]} == {
        "why rungs fail, on selection items",
        "limits of rungs that meet",
        "times, for the economics",
    }


def test_a_declared_form_adds_the_held_calls_to_the_plan(reverse_task):
    task = reverse_task(rows=160)
    (task.parent / "s.json").write_text(json.dumps({"type": "object"}))
    free = tunewise.check(hosted(task), rungs=["zero-shot"])
    rows = [json.loads(line) for line in (task.parent / "rows.jsonl").read_text().splitlines()]
    (task.parent / "rows.jsonl").write_text(
        "".join(json.dumps({**row, "output": {"a": row["output"]}}) + "\n" for row in rows)
    )
    task.write_text(
        task.read_text().replace("metric: exact", "metric: json_fields\noutput: {json_schema: s.json}")
    )
    held = tunewise.check(task, rungs=["zero-shot"])
    assert [row.what for row in free.beside] == ["why rungs fail, on selection items"]
    assert [row.what for row in held.beside][1] == "held to the declared form, beside raw"
    selection = held.facts["parts"]["selection"]
    assert [row.calls_high for row in held.beside] == [min(30, selection), min(30, selection) + 1]


def test_a_priced_judge_is_part_of_the_money_of_the_plan(reverse_task):
    task = reverse_task(rows=160)
    (task.parent / "rubric.yaml").write_text(RUBRIC)
    judge = f"judge: {{model: {HOST.format(price=PRICE)}, rubric: rubric.yaml}}"
    task.write_text(task.read_text().replace("metric: exact", f"metric: judge\n{judge}"))
    plan = tunewise.check(task, rungs=["zero-shot"])
    row = plan.beside[-1]
    items = plan.facts["parts"]["certification_items"]
    assert (row.what, row.host, row.calls_low) == ("the judge reads the answers", "models.invalid", items)
    assert row.calls_high == plan.rungs[0].calls_high + plan.beside[0].calls_high
    assert plan.money == f"{row.usd_low:.4f} to {row.usd_high:.4f} USD"
    assert row.usd_low > 0


def test_an_exhaustive_run_costs_at_least_the_least_of_all_rungs_together(reverse_task):
    task = reverse_task(rows=160)
    task.write_text(task.read_text().replace('{scripted: "reverse_script:reply"}', HOST.format(price=PRICE)))
    rungs = ["zero-shot", "few-shot", "few-shot-nearest"]
    climb, whole = (tunewise.check(task, rungs=rungs, exhaustive=each) for each in (False, True))
    more = sum(row.usd_low for row in whole.beside)
    asked = [row for row in whole.rungs if not row.skipped_because]
    assert float(whole.money.split()[0]) == pytest.approx(sum(r.usd_low for r in asked) + more, abs=1e-4)
    assert float(climb.money.split()[0]) < float(whole.money.split()[0])


@pytest.mark.parametrize(("rate", "factor"), [(100, 1.0), (50, 0.5)])
def test_a_trained_rung_costs_hours_of_its_own_machine_and_no_token_of_the_host(reverse_task, rate, factor):
    task = hosted(reverse_task(rows=160), more=f"tune: {{model: embedded, usd_per_hour: {rate}}}\n")
    plan = tunewise.check(task, rungs=["zero-shot", "lora"])
    rungs = {rung.rung: rung for rung in plan.rungs}
    lora, bare = rungs["lora"], rungs["zero-shot"]
    assert lora.usd_low == pytest.approx(lora.seconds_low / 3600 * 100 * factor)
    assert lora.usd_high == pytest.approx(lora.seconds_high / 3600 * 100 * factor)
    assert lora.time.endswith("min")
    assert bare.time == ""
    assert bare.time_why == "the speed of models.invalid is not known before the first call"


def test_a_trained_rung_whose_machine_has_no_price_says_so(reverse_task):
    task = hosted(reverse_task(rows=160), more="tune: {model: embedded}\n")
    lora = next(r for r in tunewise.check(task, rungs=["lora"]).rungs if r.rung == "lora")
    assert (lora.usd_low, lora.money) == (None, "no price (tune.usd_per_hour)")
