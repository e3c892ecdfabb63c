"""``guard`` in the task file: what is taken, and what is refused with what to do."""

import pytest

from tunewise.errors import TaskFileError
from tunewise.task import load_task

HEAD = "name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\n"


@pytest.fixture
def read(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    (tmp_path / "general").mkdir()

    def make(text):
        (tmp_path / "task.yaml").write_text(HEAD + text, encoding="utf-8")
        return load_task(tmp_path / "task.yaml")

    return make


def test_a_section_and_the_short_words_are_taken(read, tmp_path):
    guard = read("guard: {data: general, benchmarks: [hellaswag, piqa, lambada], time_share: 0.2}\n").guard
    assert guard.data == str(tmp_path / "general")
    assert (guard.mode, guard.time_share, guard.max_relative_drop, guard.forgetting) == (
        "on",
        0.2,
        0.05,
        "stop",
    )
    assert read("guard: full\n").guard.mode == "full"
    assert read("guard: off\n").guard.mode == "off"
    assert read("guard: {data: hub, forgetting: ignore}\n").guard.data == "hub"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guard: {benchmarks: [hellaswag, piqua, lambada]}", "'piqua'; did you mean 'piqa'"),
        ("guard: {benchmarks: [hellaswag, piqa]}", "at least 3 different benchmarks were expected, got 2"),
        ("guard: {benchmarks: [hellaswag, piqa, ifeval]}", "ifeval has no right and wrong items"),
        ("guard: {benchmarks: [hellaswag, piqa, mmlu, mmlu_5shot]}", "ask the same questions"),
        ("guard: {data: nowhere}", r"'nowhere' is no folder .*hellaswag/\*\.jsonl"),
        ("guard: fully", "on, full, off or a section was expected, got 'fully'; did you mean 'full'"),
        ("guard: {max_relative_drops: 0.1}", "did you mean 'max_relative_drop'"),
    ],
)
def test_mistakes_are_named_with_their_line(read, text, said):
    with pytest.raises(TaskFileError, match=said) as error:
        read(text + "\n")
    assert "line 5" in str(error.value)


def test_a_task_without_a_guard_has_the_settings_it_had_before_there_was_one(read):
    assert "guard" not in read("").settings()
    said = read("guard: {data: general}\n").settings()["guard"]
    assert "data" not in said


def test_where_an_own_benchmark_lies_is_no_setting(read, tmp_path):
    (tmp_path / "mine.jsonl").write_text("{}\n", encoding="utf-8")
    guard = read("guard: {data: general, benchmarks: [hellaswag, piqa, mine.jsonl]}\n").guard
    assert guard.benchmarks[-1] == str(tmp_path / "mine.jsonl")
    assert guard.settings()["benchmarks"] == ["hellaswag", "piqa", "mine.jsonl"]
