"""What a rung may learn from where parts that the user gave overlap with certification."""

import pytest

from tunewise.data import Example, Message, example_key
from tunewise.left_out import without_overlap
from tunewise.splits import Parts, parts_from_files


def row(text: str, line: int = 1) -> Example:
    turns = (Message("user", text),)
    return Example(example_key(turns, ["x"]), turns, ("x",), source="rows.jsonl", line=line)


def parts(selection: list[str]) -> Parts:
    certification = [row(f"a{n} b{n} c{n} d{n}") for n in range(20)]
    return parts_from_files([row("t1 t2 t3 t4")], [row(text) for text in selection], certification)


@pytest.mark.parametrize("rung", ["rag", "constrained"])
def test_a_rung_without_rows_of_its_own_chooses_on_selection_rows_that_do_not_leak(rung):
    leaky = parts(["s1 s2 s3 s4", "A3 B3 C3 D3!", "s5 s6 s7 s8"])
    left = without_overlap(leaky, rung)
    assert [r.input for r in left.selection] == ["s1 s2 s3 s4", "s5 s6 s7 s8"]
    assert left.train == ()
    assert without_overlap(leaky, "lora") is leaky  # left out altogether, with the reason


def test_parts_without_a_leak_stay_as_they_are():
    clean = parts(["s1 s2 s3 s4"])
    assert without_overlap(clean, "rag") is clean
