"""Every benchmark reads its rows as its docstring says."""

import json
import re
from pathlib import Path

import pytest

from tunewise.benchmarks import tasks
from tunewise.benchmarks.data import items_of
from tunewise.benchmarks.tasks import arc_easy, boolq, choices_file, hellaswag, lambada, mmlu, piqa, text
from tunewise.errors import DataError, SettingError

MMLU_ROW = {
    "subject": "world_geography",
    "question": " Which ocean is the largest? ",
    "choices": ["Atlantic", "Pacific", "Indian", "Arctic"],
    "answer_index": 1,
}


def test_hellaswag_reads_activity_context_and_ending():
    row = {"activity_label": "Baking", "question": "A cook kneads. She", "choices": ["waits.", "flies."],
           "answer_index": 0}  # fmt: skip
    (item,) = hellaswag.read([row], [])
    assert item.context + item.endings[0] == "Baking: A cook kneads. She waits."
    assert item.lengths == (6, 6)


def test_hellaswag_as_published_is_cleaned_as_the_field_does():
    row = {"activity_label": "How to bake", "ctx_a": "[header] How to bake [title] Knead.  Wait.", "ctx_b":
    "the Cook",
           "endings": [" [step] rests. ", "runs."], "label": "1"}  # fmt: skip
    (item,) = hellaswag.read([row], [])
    assert item.context == "How to bake: How to bake. Knead. Wait. The cook"
    assert item.endings == ("  rests.", " runs.")
    assert item.gold == 1


def test_arc_reads_local_rows_and_published_ones_alike():
    local = {"question": "Where?", "choices": ["here", "there"], "answer_index": 1}
    published = {"question": "Where?", "choices": {"text": ["here", "there"], "label": ["A", "B"]},
                 "answerKey": "B"}  # fmt: skip
    one, other = arc_easy.read([local], [])[0], arc_easy.read([published], [])[0]
    assert one == other
    assert one.context + one.endings[1] == "Question: Where?\nAnswer: there"


def test_piqa_and_boolq_read_both_forms_alike():
    local = {"question": "Dry.", "choices": ["fan", "ice"], "answer_index": 0}
    assert piqa.read([local], []) == piqa.read(
        [{"goal": "Dry.", "sol1": "fan", "sol2": "ice", "label": 0}], []
    )
    local = {"question": "Passage: Old.\nQuestion: is it old?", "choices": ["no", "yes"], "answer_index": 1}
    published = {"passage": "Old.", "question": "is it old", "label": 1}
    assert boolq.read([local], []) == boolq.read([published], [])
    assert boolq.read([local], [])[0].context == "Old.\nQuestion: is it old?\nAnswer:"


def test_mmlu_has_a_head_line_per_subject_lettered_choices_and_its_examples():
    (bare,) = mmlu.BENCHMARK.read([MMLU_ROW], [])
    head = "The following are multiple choice questions (with answers) about world geography.\n\n"
    question = "Which ocean is the largest?\nA. Atlantic\nB. Pacific\nC. Indian\nD. Arctic\nAnswer:"
    assert bare.context == head + question
    assert bare.endings == (" A", " B", " C", " D")
    (shown,) = mmlu.FIVE_SHOTS.read([MMLU_ROW], [MMLU_ROW] * 6)
    assert shown.context == head + f"{question} B\n\n" * 5 + question
    assert shown.group == "world_geography"


def test_mmlu_without_enough_examples_says_which_subject():
    with pytest.raises(DataError, match="5 examples are expected for the subject world_geography, 2"):
        mmlu.FIVE_SHOTS.read([MMLU_ROW], [MMLU_ROW] * 2)


def test_lambada_asks_for_the_last_word():
    local = lambada.read([{"context": "He lit the", "continuation": "lamp"}], [])
    assert local == lambada.read([{"text": "He lit the lamp"}], [])
    assert local[0].endings == (" lamp",)


def test_text_is_cut_at_paragraphs_and_nothing_is_lost():
    whole = "\n\n".join(f"Paragraph {n} " + "word " * (n * 7 % 90) for n in range(60)) + "\n\n" + "x" * 5000
    parts = list(text.passages(whole, 500))
    assert all(0 < len(part) <= 500 for part in parts)
    assert "".join("".join(parts).split()) == "".join(whole.split())


@pytest.mark.parametrize("row", [{"choices": ["a", "b"], "answer_index": 0}, {"question": 3}])
def test_a_row_without_its_question_is_named(row):
    with pytest.raises(DataError, match="expected"):
        arc_easy.read([{"id": "row-7", **row}], [])


HELLASWAG = {"activity_label": "x", "ctx_a": "a", "ctx_b": "b", "endings": ["c", "d"], "label": "1"}


@pytest.mark.parametrize(
    ("benchmark", "row", "said"),
    [
        (hellaswag, {**HELLASWAG, "ctx_b": None}, "expected 'ctx_b' as str, got NoneType"),
        (hellaswag, {**HELLASWAG, "label": ""}, "expected 'label' as int, got str ''"),
        (hellaswag, {**HELLASWAG, "endings": ["c", 3]}, "non-empty texts as choices"),
        (hellaswag, {**HELLASWAG, "endings": ["c", "[step]"]}, "non-empty texts as choices"),
        (boolq, {"passage": None, "question": "q", "label": 1}, "expected 'passage' as str"),
        (arc_easy, {"question": "q", "choices": {"text": ["a", "b"]}, "answerKey": "A"}, "label: "),
        (mmlu.BENCHMARK, {**MMLU_ROW, "choices": list("abcdefghijkl")}, "at most 10 choices, got 12"),
        (choices_file.benchmark(Path("own.jsonl")), {**MMLU_ROW, "context": ""}, "'context' is empty"),
    ],
)
def test_published_rows_that_are_broken_are_named_with_what_was_expected(benchmark, row, said):
    with pytest.raises(DataError, match=rf"row-7: .*{re.escape(said)}"):
        benchmark.read([{**row, "id": "row-7"}], [])


def test_a_gold_answer_that_is_no_choice_is_refused():
    with pytest.raises(DataError, match="row-7: the right answer 2 is none of the 2 choices"):
        arc_easy.read([{"id": "row-7", "question": "?", "choices": ["a", "b"], "answer_index": 2}], [])


def test_an_unknown_benchmark_gets_the_nearest_name():
    with pytest.raises(SettingError, match="did you mean 'hellaswag'"):
        tasks.find("helaswag")


def test_a_folder_without_the_file_says_what_is_expected_where(tmp_path):
    with pytest.raises(DataError, match=r"rows of piqa are not there; expected .*piqa/\*\.jsonl"):
        items_of(tasks.find("piqa"), tmp_path)


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "piqa.jsonl").write_text(
        '{"question": "a", "choices": ["b", "c"], "answer_index": 0}\n{oops\n'
    )
    with pytest.raises(DataError, match="line 2: broken JSON"):
        items_of(tasks.find("piqa"), tmp_path)
    assert len(items_of(tasks.find("piqa"), tmp_path, limit=1)) == 1


def test_a_file_of_ones_own_is_a_benchmark(tmp_path):
    path = tmp_path / "lamps.jsonl"
    path.write_text(json.dumps({"question": "How long?", "choices": ["a year", "never"], "answer_index": 0}))
    benchmark = tasks.find(str(path))
    assert benchmark.name == "lamps"
    assert items_of(benchmark, None)[0].context == "Question: How long?\nAnswer:"


def test_names_are_unique():
    assert len(set(tasks.NAMES)) == len(tasks.NAMES)


def test_a_limit_takes_the_first_of_every_subject_in_turn(tmp_path):
    rows = [{**MMLU_ROW, "id": f"{subject}{n}", "subject": subject} for subject in "abc" for n in range(5)]
    (tmp_path / "mmlu_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = items_of(tasks.find("mmlu"), tmp_path, limit=7)
    assert [item.id for item in items] == ["a0", "a1", "a2", "b0", "b1", "c0", "c1"]
