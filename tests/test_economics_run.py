"""The economics block of whole runs, checked by hand from what the run recorded."""

import json
from types import SimpleNamespace

import pytest

import tunewise
from tunewise.decision import Build, RungResult
from tunewise.models.door import Answer, Price
from tunewise.models.scripted import ScriptedDoor
from tunewise.running_costs import facts_of

RUNGS = ["zero-shot", "few-shot", "few-shot-nearest"]
ECONOMICS = "economics: {queries_per_day: 1000, today: few-shot, retrain_days: 30}\n"


@pytest.fixture
def hosted(monkeypatch, reverse_task):
    """A task at a priced host whose answers take 0.2 s, 0.05 s for short prompts."""

    def make(text: str = ECONOMICS, price: Price | None = Price(input=2.0, output=4.0)):  # noqa: B008
        task = reverse_task()
        task.write_text(task.read_text() + text)
        import reverse_script

        def script(messages):
            words = sum(len(m.content.split()) for m in messages)
            said = reverse_script.reply(messages)
            return Answer(said, tokens_in=words, tokens_out=1, seconds=0.2 if len(messages) > 12 else 0.05)

        door = ScriptedDoor(script, price=price, host="models.example")
        monkeypatch.setattr("tunewise.api.open_door", lambda spec, **more: door)
        return task

    return make


def decide(task, **more):
    return tunewise.decide(task, out=task.parent / "run", rungs=RUNGS, yes=True, **more)


def test_the_block_follows_from_tokens_prices_and_build_calls(hosted):
    made = decide(hosted())
    block = made.to_json()["economics"]
    assert [entry["rung"] for entry in block["rungs"]] == RUNGS
    for entry in block["rungs"]:
        result = made.result(entry["rung"])
        outcomes = result.evidence.outcomes
        tokens = [(o.tokens_in * 2.0 + o.tokens_out * 4.0) / 1e6 for o in outcomes]
        per_query = sum(tokens) / len(tokens)
        way = entry["ways"][0]
        assert way["usd_per_query"] == pytest.approx(per_query)
        assert way["usd_per_day"] == pytest.approx(1000 * per_query + entry["build_usd"] / 30)
    few, nearest = block["rungs"][1:]
    assert few["build_usd"] > 0
    assert nearest["against_today"]["cost_ratio"] == pytest.approx(
        few["ways"][0]["usd_per_query"] / nearest["ways"][0]["usd_per_query"]
    )


def test_times_are_sampled_for_today_and_for_the_choice_and_kept(hosted):
    task = hosted()
    made = decide(task)
    assert made.choice == "few-shot-nearest"
    for rung in ("few-shot", "few-shot-nearest"):
        assert len(made.result(rung).probe.calls) == 20
    assert made.result("zero-shot").probe is None
    ratio = made.economics["rungs"][2]["against_today"]["latency_ratio"]
    times = [made.result(rung).probe.latency_ms(0.5).estimate for rung in ("few-shot", "few-shot-nearest")]
    assert ratio == pytest.approx(times[0] / times[1])
    again = decide(task)
    assert again.spent["calls"] == made.spent["calls"]
    assert again.economics == made.economics


def test_other_economics_on_the_same_run_are_only_another_block(hosted):
    task = hosted()
    made = decide(task)
    task.write_text(task.read_text().replace("queries_per_day: 1000", "queries_per_day: 5"))
    again = decide(task)
    assert again.economics["queries_per_day"] == 5
    assert again.spent["calls"] == made.spent["calls"]


def test_without_a_price_costs_are_absent_with_a_reason(hosted):
    block = decide(hosted(price=None)).economics
    assert all(entry["ways"] == [] and "usd_per_million" in entry["why"] for entry in block["rungs"])
    assert json.dumps(block, allow_nan=False)


def test_a_rung_of_today_that_was_not_measured_is_named(hosted):
    block = decide(hosted("economics: {queries_per_day: 10, today: lora}\n")).economics
    assert block["rungs"][0]["ways"][0]["break_even_why"] == "lora was not measured in this run"


def test_without_the_section_there_is_no_block_and_no_extra_call(hosted):
    made = decide(hosted(""))
    assert made.economics is None
    assert all(result.probe is None for result in made.rungs)


def test_the_page_and_the_terminal_show_the_block(hosted, capsys):
    from tunewise.cli.tables import print_decision

    task = hosted(ECONOMICS + "limits: {latency_ms: 900}\n")
    made = decide(task)
    page = (task.parent / "run/report.html").read_text()
    for wanted in (
        "<h2>Economics</h2>",
        "<h2>Limits and times</h2>",
        "latency limit 900 ms holds",
        "polyline",
    ):
        assert wanted in page
    print_decision(json.loads((task.parent / "run/decision.json").read_text()), task.parent / "run")
    said = capsys.readouterr().out
    assert "Economics at 1000 queries a day, today: few-shot" in said
    assert "(today)" in said
    assert "latency limit 900 ms holds" in said
    assert made.choice == "few-shot-nearest"


def test_a_page_without_limits_and_economics_says_nothing_of_them(hosted):
    task = hosted("")
    decide(task)
    page = (task.parent / "run/report.html").read_text()
    assert "<h2>Economics</h2>" not in page
    assert "<h2>Limits and times</h2>" not in page


@pytest.mark.parametrize(
    ("host", "price", "calls", "expected"),
    [
        (None, None, None, 3.0),  # a teacher on the machine whose hours are paid
        ("api.example", "listed", 12.5, 15.5),
        ("api.example", None, None, None),  # what the teacher took is not known
    ],
)
@pytest.mark.parametrize("training", [3.0, None])
def test_a_student_costs_its_teachers_answers_and_the_hours_of_its_machine(
    host, price, calls, expected, training
):
    from tunewise.run import Run

    door = SimpleNamespace(host=None, price=None, name="small", usd_per_hour=1.5)
    run = SimpleNamespace(
        candidates={"distilled": SimpleNamespace(door=door)},
        teacher_door=SimpleNamespace(host=host, price=price),
        store=SimpleNamespace(usd_of_building=lambda rung: calls, frozen=lambda name: training),
        task=SimpleNamespace(tune=None),
    )
    run.builder_without_price = lambda rung: Run.builder_without_price(run, rung)
    usd = Run.usd_of_building(run, "distilled", run.candidates["distilled"])
    assert usd == (None if training is None else expected)
    evidence = SimpleNamespace(outcomes=())
    result = RungResult("distilled", evidence=evidence, build=Build(7200.0, usd))
    assert facts_of(run, result).build_usd == expected  # 2 hours at 1.5 USD, and the answers once
