"""Before a training rung the reader is told what it would cost to know whether a lighter one is enough."""

import tunewise
from tunewise.before_training import what_knowing_costs
from tunewise.decision import RungResult
from tunewise.evidence.records import Evidence, Outcome
from tunewise.ladder import NotBuilt
from tunewise.plan_rungs import PlannedRung
from tunewise.progress import Silent
from tunewise.rungs.lora import Lora
from tunewise.rungs.rung import Outlook

TRAINS = Outlook(train_rows=80, epochs=3.0)
LORA = PlannedRung("lora", usd_low=0.04, usd_high=0.09, time="4.0-9.0 min", money="0.04-0.09")


def result(rung, verdict, more, usd=0.002):
    outcomes = tuple(Outcome(f"e{n}", n, "scored", 1.0, "x", 9, 1, 0.1, usd, {}) for n in range(4))
    return RungResult(rung, evidence=Evidence("binary", outcomes, verdict, 4, 1.0, 0.4, 1.0, 4, 0.01, more))


def test_more_items_stand_with_their_price_against_the_training_before_it_begins():
    results = [result("zero-shot", "falls_short", 10), result("few-shot", "not_proved", 150)]
    said = what_knowing_costs(results, "lora", TRAINS, LORA)
    assert said == (
        "few-shot may be enough: about 150 more certification items would settle it (150 calls, about 0.3000"
        " USD). lora, which is trained now, learns from 80 rows for 3 epochs, and takes by the plan:"
        " 4.0-9.0 min, 0.04-0.09 USD."
    )


def test_what_is_not_known_is_said_and_is_no_number():
    absent = PlannedRung("lora", time_why="not estimated", money="no price (tune.usd_per_hour)")
    said = what_knowing_costs([result("rag", "not_proved", 7, usd=None)], "lora", TRAINS, absent)
    assert "(7 calls, no price)" in said
    assert "takes by the plan: time not known (not estimated), no price (tune.usd_per_hour)." in said


def test_nothing_is_said_before_rungs_that_do_not_train_or_when_no_number_of_items_would_settle_it():
    undecided = [result("few-shot", "not_proved", 150)]
    assert what_knowing_costs(undecided, "rag", Outlook(), LORA) is None
    assert what_knowing_costs([result("few-shot", "not_proved", None)], "lora", TRAINS, LORA) is None
    assert what_knowing_costs([result("few-shot", "falls_short", 9)], "lora", TRAINS, LORA) is None


class Told(Silent):
    def __init__(self):
        self.lines = []

    def tell(self, event, **facts):
        self.lines.append(facts.get("text") or f"{facts.get('rung')} {facts.get('state')}")


def test_a_run_says_it_after_a_rung_that_is_not_proved_and_before_it_trains(reverse_task, monkeypatch):
    def refuse(self, bench):
        raise NotBuilt("not here")

    monkeypatch.setattr(Lora, "build", refuse)
    task = reverse_task(target=0.32, rows=200)
    task.write_text(task.read_text() + "tune: {model: embedded, usd_per_hour: 0.6}\n")
    told = Told()
    made = tunewise.decide(
        task, out=task.parent / "run", rungs=["zero-shot", "lora"], progress=told, max_usd=1.0
    )
    assert made.result("zero-shot").verdict == "not_proved"
    [place] = [n for n, line in enumerate(told.lines) if "zero-shot may be enough" in line]
    assert told.lines.index("zero-shot done") < place < told.lines.index("lora building")
