"""A guessed task file: it reads back as a task, and its guesses fit the data."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.api import read_parts
from tunewise.errors import DataError
from tunewise.scaffold import init_task
from tunewise.task import Task, load_task


def scaffold(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> tuple[str, Task]:
    """The text that init writes beside these rows, and the task it reads back as."""
    data = folder / name
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = init_task(data, folder / "task.yaml")
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    return text, load_task(folder / "task.yaml")


def test_few_different_outputs_are_a_closed_set(tmp_path: Path) -> None:
    choices = ["no", "true", "cash: withdrawal", "012", "# hash", "3", "plain"]
    rows = [{"input": f"message {n}", "output": choices[n % 7]} for n in range(60)]
    text, task = scaffold(tmp_path, rows)
    assert task.metric == "accuracy"
    assert task.output is not None
    assert set(task.output.choices or ()) == set(choices)
    assert "# Guess: 60 rows have only 7 different outputs." in text


def test_objects_are_compared_by_fields_and_copies_are_grouped(tmp_path: Path) -> None:
    rows = [{"input": f"mail {n}", "output": {"id": n // 4, "kind": "x"}} for n in range(300)]
    text, task = scaffold(tmp_path, rows)
    assert (task.metric, task.split.group, task.output) == ("json_fields", "output", None)
    assert "# Guess: 75% of the rows repeat the output of an earlier one" in text


def test_objects_written_as_text_are_objects(tmp_path: Path) -> None:
    rows = [{"prompt": f"mail {n}", "completion": json.dumps({"id": n})} for n in range(20)]
    _, task = scaffold(tmp_path, rows)
    assert (task.metric, task.split.group) == ("json_fields", None)


def test_short_texts_are_exact_and_long_ones_token_f1(tmp_path: Path) -> None:
    short = [{"input": f"question {n}", "output": f"answer {n}"} for n in range(20)]
    long = [{"input": f"question {n}", "output": f"answer {n} " + "and more words " * 9} for n in range(20)]
    several = [{"input": f"question {n}", "references": [f"answer {n}", "x"]} for n in range(20)]
    assert [scaffold(tmp_path, rows)[1].metric for rows in (short, long, several)] == [
        "exact",
        "token_f1",
        "token_f1",
    ]


def test_a_field_named_like_a_group_is_proposed(tmp_path: Path) -> None:
    rows = [{"input": f"mail {n}", "output": f"answer {n}", "customer_id": n % 90} for n in range(400)]
    text, task = scaffold(tmp_path, rows)
    assert task.split.group == "customer_id"
    assert "# Guess: 'customer_id' has 90 different values in 400 rows" in text


def test_groups_too_few_to_certify_on_are_not_proposed(tmp_path: Path) -> None:
    """What init writes must not be refused by check: two labels are no groups, nor are two sources."""
    labels = [{"input": f"mail {n}", "output": {"label": ["yes", "no"][n % 2]}} for n in range(300)]
    sources = [{"input": f"mail {n}", "output": f"a{n}", "source": ["web", "app"][n % 2]} for n in range(300)]
    for rows in (labels, sources):
        _, task = scaffold(tmp_path, rows)
        assert task.split.group is None
        assert len(read_parts(task)[0].certification) > 16


@pytest.mark.parametrize(
    "choice", [".5", "yes", "1e3", "2024-01-01", "0x1F", "~", "./x", "null", "...", "... a"]
)
def test_choices_read_back_as_the_texts_they_are(tmp_path: Path, choice: str) -> None:
    rows = [{"input": f"message {n}", "output": [choice, "other"][n % 2]} for n in range(40)]
    _, task = scaffold(tmp_path, rows)
    assert task.output is not None
    assert set(task.output.choices or ()) == {choice, "other"}


def test_there_is_room_for_the_longest_answer(tmp_path: Path) -> None:
    for length, tokens in ((10, 32), (100, 64), (130, 96), (9000, 1024)):
        rows = [{"input": f"q{n}", "output": f"{n:03}".ljust(length, "x")} for n in range(20)]
        assert scaffold(tmp_path, rows)[1].decoding.max_new_tokens == tokens


@pytest.mark.parametrize("name", ["Rows of May (2).jsonl", "日本.jsonl", "a: b.jsonl", "-x.jsonl"])
def test_any_file_name_gives_a_task_that_reads_back(tmp_path: Path, name: str) -> None:
    rows = [{"input": f"q{n}", "output": f"answer {n}"} for n in range(20)]
    _, task = scaffold(tmp_path, rows, name)
    assert task.examples == tmp_path / name


def test_the_data_are_named_as_seen_from_the_task_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "\nexamples: data/rows.jsonl\n" in init_task("data/rows.jsonl")
    assert "\nexamples: ../data/rows.jsonl\n" in init_task("data/rows.jsonl", "tasks/task.yaml")
    assert "\nexamples: rows.jsonl\n" in init_task("data/rows.jsonl", tmp_path / "data" / "task.yaml")


def test_all_comments_that_are_settings_can_be_taken_as_they_stand(tmp_path: Path) -> None:
    rows = [{"input": f"q{n}", "output": f"answer {n}"} for n in range(20)]
    text, _ = scaffold(tmp_path, rows)
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "a.md").write_text("# A\n", encoding="utf-8")
    keys = tuple(f"# {key}: " for key in ("instruction", "tolerance", "knowledge", "tune", "budget"))
    lines = [line[2:] if line.startswith(keys) else line for line in text.splitlines()]
    (tmp_path / "task.yaml").write_text("\n".join(lines), encoding="utf-8")
    task = load_task(tmp_path / "task.yaml")
    assert None not in (task.instruction, task.tolerance, task.knowledge, task.tune, task.budget)


def test_data_that_cannot_be_read_is_refused_as_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        init_task(tmp_path / "rows.jsonl")


def test_a_group_that_some_rows_lack_is_not_proposed(tmp_path: Path) -> None:
    rows = [{"input": f"mail {n}", "output": f"answer {n}", "user_id": n % 90 or None} for n in range(400)]
    assert scaffold(tmp_path, rows)[1].split.group is None
