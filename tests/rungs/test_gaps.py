"""Scripted models with each gap: what is measured is the gap that was built in."""

import json

import pytest

from tunewise.evidence.records import Score
from tunewise.rungs.gaps import measure_gap, right_from
from tunewise.rungs.zero_shot import ZeroShot


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "docs.jsonl"
    rows = [{"id": f"d{i}", "text": f"Room {i} has the code code-of-room-{i:04}."} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def rows(make_row):
    return [make_row(f"code of room {i}", f"code-of-room-{i:04}", passages=(f"d{i}",)) for i in range(40)]


def quotes(example, answer):
    """Right when the answer is the reference; told apart from a fenced one, which repair would mend."""
    value = float(answer.text == example.references[0])
    if answer.text.startswith("```"):
        repaired = answer.text.strip("`\n")
        detail = {"repaired_value": float(repaired == example.references[0])}
        return Score("unparseable", 0.0, detail)
    if not answer.text:
        return Score("unparseable", 0.0)
    return Score("scored", value)


def number_of(messages):
    return int(messages[-1].content.removesuffix("Answer:").split()[-1])


def fenced(messages):
    """Knows the code, but writes it in a code fence."""
    return f"```\ncode-of-room-{number_of(messages):04}\n```"


def ignorant(messages):
    """Copies the code from a passage when there is one."""
    text = messages[-1].content
    return text.split("has the code ")[1].split(".")[0] if "has the code" in text else "code-unknown"


def stubborn(messages):
    """Says something else whatever is in the prompt."""
    return "open sesame"


def gap_of(make_bench, script, **more):
    bench = make_bench(script, score=quotes, **more)
    return measure_gap(bench, "zero-shot", ZeroShot().build(bench)), bench


def test_format_gap_right_only_after_repair(make_bench, documents, rows):
    gap, bench = gap_of(make_bench, fenced, selection=rows, documents=documents)
    assert (gap.kind, gap.checked) == ("format", 30)
    assert gap.counts == {"format": 30, "knowledge": 0, "behaviour": 0}
    assert len(bench.calls.sent) == 30  # what repair mends is not asked again


def test_knowledge_gap_right_with_the_passage_and_wrong_without(make_bench, documents, rows):
    gap, bench = gap_of(make_bench, ignorant, selection=rows, documents=documents)
    assert gap.counts == {"format": 0, "knowledge": 30, "behaviour": 0}
    assert gap.kind == "knowledge"
    assert len(bench.calls.sent) == 60


def test_knowledge_gap_is_found_by_quotes_where_rows_name_no_passage(make_bench, make_row, documents):
    rows = [make_row(f"code of room {i}", f"code-of-room-{i:04}") for i in range(12)]
    gap, _ = gap_of(make_bench, ignorant, selection=rows, documents=documents)
    assert (gap.kind, gap.counts["knowledge"], gap.checked) == ("knowledge", 12, 12)


def test_behaviour_gap_is_what_neither_repair_nor_passage_mends(make_bench, documents, rows):
    gap, _ = gap_of(make_bench, stubborn, selection=rows, documents=documents)
    assert (gap.kind, gap.counts["behaviour"]) == ("behaviour", 30)


def test_without_documents_missing_knowledge_cannot_be_told_from_behaviour(make_bench, rows):
    gap, bench = gap_of(make_bench, ignorant, selection=rows)
    assert (gap.kind, gap.counts["knowledge"]) == ("behaviour", 0)
    assert len(bench.calls.sent) == 30


def test_an_invalid_answer_that_the_passage_mends_is_a_knowledge_gap_and_else_one_of_format(
    make_bench, documents, rows
):
    def silent(messages):
        text = ignorant(messages)
        return "" if text == "code-unknown" else text

    assert gap_of(make_bench, silent, selection=rows, documents=documents)[0].kind == "knowledge"
    assert gap_of(make_bench, lambda m: "", selection=rows, documents=documents)[0].kind == "format"


def test_mixed_failures_are_counted_each_and_the_most_frequent_names_the_gap(make_bench, documents, rows):
    def mixed(messages):
        number = number_of(messages)
        return [fenced, ignorant, ignorant, lambda m: f"code-of-room-{number:04}"][number % 4](messages)

    gap, _ = gap_of(make_bench, mixed, selection=rows[:20], documents=documents)
    assert gap.counts == {"format": 5, "knowledge": 10, "behaviour": 0}
    assert (gap.kind, gap.checked) == ("knowledge", 20)


def test_where_nothing_fails_there_is_no_gap(make_bench, rows):
    gap, _ = gap_of(make_bench, lambda m: f"code-of-room-{number_of(m):04}", selection=rows)
    assert (gap.kind, sum(gap.counts.values())) == (None, 0)


def test_a_graded_answer_is_right_from_the_target_on(make_bench, rows):
    graded = make_bench(stubborn, metric="token_f1", target=0.7)
    assert right_from(graded) == 0.7
    assert right_from(make_bench(stubborn, metric="exact", target=0.7)) == 0.999
    half = make_bench(
        stubborn, metric="token_f1", target=0.5, selection=rows, score=lambda e, a: Score("scored", 0.5)
    )
    assert measure_gap(half, "zero-shot", ZeroShot().build(half)).kind is None


def test_calls_that_errored_are_not_counted(make_bench, rows):
    bench = make_bench(stubborn, selection=rows, score=lambda e, a: Score("errored", None))
    gap = measure_gap(bench, "zero-shot", ZeroShot().build(bench))
    assert (gap.kind, gap.checked) == (None, 0)


def test_with_a_metric_of_form_every_failure_is_one_of_format(make_bench, rows, documents):
    """Whatever the status: Markdown without its headings is scored 0, not unparseable."""
    for script in (stubborn, ignorant):
        gap, bench = gap_of(make_bench, script, selection=rows, documents=documents, metric="markdown")
        assert gap.kind == "format"
        assert gap.counts == {"format": gap.checked, "knowledge": 0, "behaviour": 0}
        assert all("has the code" not in request.messages[-1].content for request in bench.ask.__self__.sent)
