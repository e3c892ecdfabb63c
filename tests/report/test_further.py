"""What a metric measures beside its value is told for every rung, on the terminal and on the page."""

from tunewise.decision import RungResult, rung_json
from tunewise.evidence.limits import LimitResult, Probe
from tunewise.evidence.records import Evidence, Outcome
from tunewise.report import page
from tunewise.report.further import further_figures, how_often


def measured(verdict: str = "meets", **more) -> RungResult:
    read = tuple(
        Outcome(f"k{n}", n, "scored", 1.0, "", 3, 3, 0.1, None, {"field_recall": n % 2, "why": "x"})
        for n in range(4)
    )
    return RungResult(
        "few-shot", evidence=Evidence("graded", read, verdict, 4, 1.0, 0.5, 1.0, None, 0.01), **more
    )


def test_means_of_details_and_figures_over_all_answers_stand_in_one_line():
    plain = rung_json(measured(figures={"macro_f1": 0.75, "total": 4, "avg_x": None}))
    assert further_figures(plain) == "macro_f1 0.750, total 4, avg_x undefined, field_recall 0.500"


def test_a_count_over_all_answers_stands_for_the_detail_of_its_name():
    figures = {"valid_json": 3, "avg_completeness": 0.5}
    rung = {"figures": figures, "details": {"valid_json": 0.75, "completeness": 0.5}}
    assert further_figures(rung) == "valid_json 3, avg_completeness 0.500"
    assert further_figures({"figures": {}, "details": {}}) == ""
    assert further_figures({"details": {"repaired_value": 0.5}}) == "with answers repaired 0.500"


def test_openings_are_told_in_words():
    assert [how_often(number) for number in (1, 2, 3)] == ["once", "twice", "3 times"]


def test_a_rung_that_a_limit_leaves_unproved_is_not_drawn_as_one_that_meets():
    limit = LimitResult("cost", 0.01, "not_proved", None, 4, None, 0.01, "no price")
    result = measured(probe=Probe((), 1, 0, 1.0, (), (limit,)))
    assert [bar.verdict for bar in page._bars([result])[0]] == ["not_proved"]
    assert [bar.verdict for bar in page._bars([measured()])[0]] == ["meets"]
