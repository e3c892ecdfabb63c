"""Comparing two files of outputs on the ids they share."""

import json

import pytest

import tunewise
from tunewise.errors import DataError, SettingError


def write(tmp_path, name, rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def files(tmp_path, right_a, right_b, count=100):
    """a is right on the first ``right_a`` items, b on the last ``right_b``."""
    a = [{"id": n, "output": "y" if n < right_a else "n", "reference": "y"} for n in range(count)]
    b = [{"id": n, "output": "y" if n >= count - right_b else "n"} for n in range(count)]
    return write(tmp_path, "a.jsonl", a), write(tmp_path, "b.jsonl", b[::-1])


def test_the_paired_difference_with_discordant_counts(tmp_path):
    found = tunewise.compare(*files(tmp_path, 60, 90), "exact")
    paired = found.paired
    assert (paired.both, paired.only_a, paired.only_b, paired.neither) == (50, 10, 40, 0)
    assert paired.answer == "better"
    assert found.sentence.startswith("b is better than a (+30.0 points of exact, between ")
    assert found.matched_by == "id"
    assert found.to_json()["only_a"] == 10


def test_ids_that_do_not_match_are_counted_and_named(tmp_path):
    a = write(tmp_path, "a.jsonl", [{"id": n, "output": "y", "reference": "y"} for n in range(20)])
    b = write(tmp_path, "b.jsonl", [{"id": n, "output": "y", "reference": "y"} for n in range(3, 22)])
    found = tunewise.compare(a, b, "exact")
    assert (found.common, found.only_in_a, found.only_in_b) == (17, ("0", "1", "2"), ("20", "21"))


def test_no_common_id_is_the_user_s_mistake(tmp_path):
    a = write(tmp_path, "a.jsonl", [{"id": "x", "output": "y", "reference": "y"}])
    b = write(tmp_path, "b.jsonl", [{"id": "z", "output": "y", "reference": "y"}])
    with pytest.raises(DataError, match=r"no id in common: 1 and 1 rows, such as 'x' and 'z'"):
        tunewise.compare(a, b, "exact")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "output": "y"}, {"id": 1, "output": "n"}], r"2 rows share their id .* \(lines 1, 2\)"),
        ([{"id": 1, "output": "y"}, {"output": "n"}], r"1 rows have no id \(lines 2\)"),
        ([{"output": "y"}], r"have no id"),
    ],
)
def test_rows_that_cannot_be_paired_are_named(tmp_path, rows, message):
    a = write(tmp_path, "a.jsonl", [{"id": 1, "output": "y", "reference": "y"}])
    with pytest.raises(DataError, match=message):
        tunewise.compare(a, write(tmp_path, "b.jsonl", rows), "exact")


def test_other_references_for_one_id_are_refused(tmp_path):
    a = write(tmp_path, "a.jsonl", [{"id": 1, "output": "y", "reference": "y"}])
    b = write(tmp_path, "b.jsonl", [{"id": 1, "output": "y", "reference": "n"}])
    with pytest.raises(DataError, match="the two files have other references"):
        tunewise.compare(a, b, "exact")


def test_without_ids_rows_are_paired_by_conversation_and_turn_and_a_conversation_is_one_unit(tmp_path):
    def rows(share):
        return [
            {"conversation": c, "turn": t, "output": "y" if t < share else "n", "reference": "y"}
            for c in range(12)
            for t in range(4)
        ]

    found = tunewise.compare(
        write(tmp_path, "a.jsonl", rows(2)), write(tmp_path, "b.jsonl", rows(3)), "exact"
    )
    assert (found.matched_by, found.unit, found.paired.n) == ("conversation and turn", "conversation", 12)
    assert found.paired.difference == pytest.approx(0.25)
    assert found.paired.p is None


def test_without_ids_rows_are_paired_by_input(tmp_path):
    rows = [{"input": f"q{n}", "output": "y", "reference": "y"} for n in range(4)]
    found = tunewise.compare(write(tmp_path, "a.jsonl", rows), write(tmp_path, "b.jsonl", rows), "exact")
    assert (found.matched_by, found.common) == ("input", 4)
    assert found.paired.answer == "cannot_tell"


def test_an_errored_answer_leaves_its_pair_out_and_is_named(tmp_path):
    a, b = files(tmp_path, 60, 90)
    rows = [json.loads(line) for line in b.read_text().splitlines()]
    rows[0] |= {"status": "errored", "output": ""}
    found = tunewise.compare(a, write(tmp_path, "b.jsonl", rows), "exact")
    assert (found.common, found.paired.n, found.errored) == (100, 99, ("99",))


def test_graded_metrics_are_compared_by_bootstrap(tmp_path):
    a = [{"id": n, "output": "a b c d"[: 1 + 2 * (n % 4)], "reference": "a b c d"} for n in range(40)]
    b = [{"id": n, "output": "a b c d" if n % 2 else "a b c", "reference": "a b c d"} for n in range(40)]
    found = tunewise.compare(write(tmp_path, "a.jsonl", a), write(tmp_path, "b.jsonl", b), "rouge_l")
    assert found.paired.method.startswith("BCa bootstrap")
    assert found.paired.answer == "better"


def test_a_margin_outside_0_to_1_is_refused(tmp_path):
    with pytest.raises(SettingError, match="margin: a number from 0 to below 1"):
        tunewise.compare(*files(tmp_path, 60, 90), "exact", margin=2)


def test_what_turns_on_items_that_errored_is_not_decided(tmp_path):
    """a is right on 60 of 100; b on 50, and 50 of b errored: of the others b has 15 more right."""
    a = [{"id": n, "output": "y" if n < 60 else "n", "reference": "y"} for n in range(100)]
    b = [{"id": n, "output": "y"} for n in range(25, 75)]
    b += [{"id": n, "output": "", "status": "errored"} for n in (*range(25), *range(75, 100))]
    found = tunewise.compare(write(tmp_path, "a.jsonl", a), write(tmp_path, "b.jsonl", b), "exact")
    assert (found.paired.only_a, found.paired.only_b) == (0, 15)
    assert found.paired.answer == "cannot_tell"
    assert "50 items errored on one side, and it turns on what they would have been" in found.sentence


def test_two_inputs_of_one_id_are_two_items(tmp_path):
    a = [{"id": 1, "input": "q", "output": "y", "reference": "y"}]
    b = [{"id": 1, "input": "other", "output": "y"}]
    with pytest.raises(DataError, match="other inputs"):
        tunewise.compare(write(tmp_path, "a.jsonl", a), write(tmp_path, "b.jsonl", b), "exact")
