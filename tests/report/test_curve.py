"""The report's section of the learning curve."""

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

CURVE = {
    "items": 40,
    "points": [{"share": 0.25, "rows": 50, "quality": 0.4, "seconds": 10.0},
               {"share": 1.0, "rows": 200, "quality": 0.6, "seconds": 41.0}],
    "says": "More rows would probably help: the last doubling gained +0.100.",
}  # fmt: skip


def rendered(rungs):
    environment = Environment(
        loader=PackageLoader("tunewise.report"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("curve.html").render(rungs=rungs)


def test_the_points_and_what_they_say_stand_on_the_page():
    page = rendered(
        [{"rung": "few-shot"}, {"rung": "lora", "build": {"seconds": 9, "learning_curve": CURVE}}]
    )
    assert "Learning curve of lora" in page
    assert "50 (25 %)" in page
    assert "0.600" in page
    assert "More rows would probably help" in page
    assert "few-shot" not in page


@pytest.mark.parametrize(
    "rungs", [[{"rung": "rag", "build": None}], [{"rung": "rag", "build": {"seconds": 1}}], []]
)
def test_rungs_without_training_have_no_section(rungs):
    assert rendered(rungs).strip() == ""


def test_a_curve_that_was_not_measured_says_what_it_would_cost():
    curve = {"not_measured": "whether more rows would help was not measured; training.curve: true trains on"}
    page = rendered([{"rung": "lora", "build": {"learning_curve": curve}}])
    assert "Whether more rows would help was not measured; training.curve: true" in page
