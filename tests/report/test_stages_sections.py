"""What was read before tuning, and what a student keeps of its teacher, on the page."""

from jinja2 import Environment, PackageLoader, StrictUndefined

CPT = {
    "train_tokens": 200_000, "documents": 480, "epochs": 1.0, "held_out_tokens": 9_800,
    "documents_left_out": 2, "starts_from_instruct": True,
    "why": "held-out domain perplexity 12.00 before, 9.00 after",
    "perplexity": {"domain": {"before": 12.0, "after": 9.0}, "general": None},
    "general_missing": "none is named",
}  # fmt: skip
SIDE = {
    "model": "m",
    "quality": 0.9,
    "tokens_in": 400.0,
    "tokens_out": 3.0,
    "usd_per_query": None,
    "p50_ms": 310.0,
}
TEACHER = {
    "items": 200, "kept": 0.95,
    "difference": {"difference": -0.045, "low": -0.09, "high": 0.0, "answer": "x"},
    "teacher": SIDE, "student": SIDE | {"quality": 0.855, "tokens_in": 40.0},
}  # fmt: skip


def page(name, *entries):
    environment = Environment(
        loader=PackageLoader("tunewise.report"), autoescape=True, undefined=StrictUndefined
    )
    skipped = {"rung": "zero-shot", "skipped_because": "x"}
    return environment.get_template(name).render(rungs=[skipped, *entries])


def test_tokens_perplexities_and_what_was_not_measured_stand_on_the_page():
    said = page(
        "reading.html",
        {"rung": "lora", "build": {"seconds": 1.0}},
        {"rung": "cpt-sft", "build": {"cpt": CPT}},
    )
    for words in (
        "200,000 tokens of 480 documents",
        "12.00",
        "9.00",
        "not measured: none is named",
        "2 documents give",
    ):
        assert words in said, words
    assert said.count("<h2>") == 1


def test_what_is_kept_and_what_a_query_takes_stand_beside_each_other():
    said = page("teacher.html", {"rung": "lora", "teacher": None}, {"rung": "distilled", "teacher": TEACHER})
    for words in ("keeps 95 %", "same 200 items", "-0.045", "0.855", "400", "40", "310", "not known"):
        assert words in said, words


def test_without_such_rungs_there_is_no_section():
    assert page("reading.html", {"rung": "lora", "build": None}).strip() == ""
    assert page("teacher.html", {"rung": "lora", "teacher": None}).strip() == ""
