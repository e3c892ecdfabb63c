"""Before a training rung the reader is told what it would cost to know whether a lighter one is enough."""

from tunewise.before_training import what_knowing_costs
from tunewise.decision import RungResult
from tunewise.evidence.records import Evidence, Outcome
from tunewise.rungs.rung import Outlook

TRAINS = Outlook(train_rows=80, epochs=3.0)


def result(rung, verdict, more, usd=0.002):
    outcomes = tuple(Outcome(f"e{n}", n, "scored", 1.0, "x", 9, 1, 0.1, usd, {}) for n in range(4))
    return RungResult(rung, evidence=Evidence("binary", outcomes, verdict, 4, 1.0, 0.4, 1.0, 4, 0.01, more))


def test_more_items_stand_with_their_price_against_the_training_before_it_begins():
    results = [result("zero-shot", "falls_short", 10), result("few-shot", "not_proved", 150)]
    said = what_knowing_costs(results, "lora", TRAINS, "4.0-9.0 min", "0.04-0.09")
    assert said == (
        "few-shot may be enough: about 150 more certification items would settle it (150 calls, about 0.3000"
        " USD). lora, which is trained now, learns from 80 rows for 3 epochs (4.0-9.0 min; 0.04-0.09)."
    )


def test_what_is_not_known_is_said_and_is_no_number():
    said = what_knowing_costs([result("rag", "not_proved", 7, usd=None)], "lora", TRAINS, "", "")
    assert "(7 calls, no price)" in said
    assert "its time is not known before it runs; no price" in said


def test_nothing_is_said_before_rungs_that_do_not_train_or_when_no_number_of_items_would_settle_it():
    undecided = [result("few-shot", "not_proved", 150)]
    assert what_knowing_costs(undecided, "rag", Outlook(), "", "") is None
    assert what_knowing_costs([result("few-shot", "not_proved", None)], "lora", TRAINS, "", "") is None
    assert what_knowing_costs([result("few-shot", "falls_short", 9)], "lora", TRAINS, "", "") is None
