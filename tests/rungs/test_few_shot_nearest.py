"""Nearest shots: looked up for each input, their number chosen on the selection part."""

from tunewise.rungs.few_shot_nearest import FewShotNearest


def copier(messages):
    """Answers as the nearest shot did, when it has seen at least three."""
    shots = [m.content for m in messages if m.role == "assistant"]
    return shots[-1] if len(shots) >= 3 else "too few"


def rows_of(make_row, start, count):
    return [
        make_row(f"topic{i % 10} request number {i}", f"queue{i % 10}") for i in range(start, start + count)
    ]


def test_it_needs_train_rows(make_bench):
    assert "no train rows" in FewShotNearest().cannot_help(make_bench(copier))


def test_the_number_of_shots_is_the_smallest_of_the_best(make_bench, make_row):
    bench = make_bench(copier, train=rows_of(make_row, 0, 60), selection=rows_of(make_row, 60, 60))
    candidate = FewShotNearest().build(bench)
    facts = candidate.facts()
    assert (facts["k"], facts["selection_score"], facts["looked_up_in"]) == (3, 1.0, 60)
    assert {row["k"] for row in facts["tried"]} == {1, 3, 5, 8}
    assert len(bench.calls.sent) <= FewShotNearest().outlook(bench).build_calls == 144
    request = candidate.request(make_row("topic7 please"))
    assert request.messages[-2].content == "queue7"
    assert len(request.tag["shots"]) == 3


def test_fewer_rows_than_shots_are_all_shown(make_bench, make_row):
    bench = make_bench(copier, train=rows_of(make_row, 0, 2), selection=rows_of(make_row, 60, 5))
    assert FewShotNearest().build(bench).facts()["k"] == 1
    assert FewShotNearest().outlook(bench).shots == (1, 1)
