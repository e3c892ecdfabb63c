"""What the command says, in one process: broken files of a run, parts that overlap, plans, options."""

import io
import json
import sys
from pathlib import Path

import pytest

import tunewise
from tunewise.cli.main import main
from tunewise.errors import SettingError, StoreError

PARTS = {"train": "train.jsonl", "selection": "selection.jsonl", "certification": "certification.jsonl"}
FILL = [" ".join(f"w{n * 31 + k}" for k in range(14)) for n in range(120)]  # no word stands in two texts


@pytest.fixture
def say(monkeypatch, capsys, tmp_path):
    """Runs the command in the test's folder: ``say(*arguments) -> (exit code, stdout, stderr)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunewise", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return int(str(code or 0)), out, err

    return run


def write(path: Path, inputs: list[str]) -> None:
    rows = [{"input": text, "output": text.split()[0]} for text in inputs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parts(folder: Path, train: list[str], selection: list[str], certification: list[str]) -> None:
    for name, inputs in zip(PARTS, (train, selection, certification), strict=True):
        write(folder / f"{name}.jsonl", inputs)
    task = {"name": "t", "instruction": "Say it.", "examples": PARTS, "metric": "exact", "target": 0.5}
    task["model"] = {"scripted": "reverse_script:reply"}
    (folder / "task.yaml").write_text(json.dumps(task), encoding="utf-8")


@pytest.fixture
def scripted(reverse_task):
    reverse_task()


def test_check_reports_every_kind_of_overlap_and_warns_of_near_ones_with_both_places(say, scripted, tmp_path):
    near = [f"{text} end{n}" for n, text in enumerate(FILL[:2])]
    parts(tmp_path, FILL[:40], [*FILL[40:60], FILL[60].upper()], [*near, *FILL[60:100]])
    code, out, _ = say("check", "task.yaml", "--rungs", "zero-shot")
    assert code == 0
    assert "overlap, near: 2 certification rows with train" in out
    assert "overlap, normalised: 1 certification rows with selection" in out
    assert "Warning: 2 certification rows are nearly the same as train or selection rows (the first: " in out
    assert "certification.jsonl, line 1, and" in out
    assert "parts as given" in out
    found = json.loads(say("check", "task.yaml", "--rungs", "zero-shot", "--json")[1])["overlaps"]
    assert [(o["kind"], o["part"]) for o in found] == [
        ("near", "train"),
        ("near", "train"),
        ("normalised", "selection"),
    ]
    assert found[0]["certification"]["place"].endswith("certification.jsonl, line 1")


def test_parts_without_overlap_are_neither_listed_nor_warned_of(say, scripted, tmp_path):
    parts(tmp_path, FILL[:40], FILL[40:60], FILL[60:100])
    out = say("check", "task.yaml", "--rungs", "zero-shot")[1]
    assert "overlap" not in out
    assert "Warning" not in out


def test_a_plan_of_exhaustive_counts_all_items_at_least_and_at_most(say, scripted, tmp_path):
    write(tmp_path / "many.jsonl", [f"{n} {FILL[n % 120]} {n * 7}x {n * 13}y {n * 17}z" for n in range(1100)])
    parts(tmp_path, FILL[:40], FILL[40:60], [])
    (tmp_path / "certification.jsonl").write_text((tmp_path / "many.jsonl").read_text())
    options = ("check", "task.yaml", "--rungs", "zero-shot", "--json")
    [quick, full] = [json.loads(say(*options, *more)[1])["rungs"][0] for more in ((), ("--exhaustive",))]
    assert (quick["calls_low"], quick["calls_high"]) == (16, 1000)  # the test never reads more
    assert (full["calls_low"], full["calls_high"]) == (1100, 1100)


def test_rungs_that_are_skipped_for_one_reason_share_a_line(say, scripted):
    out = say("check", "task.yaml", "--rungs", "zero-shot,few-shot")[1]
    [line] = [line for line in out.splitlines() if "not asked for" in line]
    assert line.startswith("few-shot-nearest, constrained, rag, lora,")


@pytest.mark.parametrize("text", ["{broken", "[]", '{"task": "t"}'])
def test_a_decision_that_cannot_be_read_is_named_with_what_writes_it_again(say, tmp_path, text):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/decision.json").write_text(text)
    for verb in ("report", "answer", "export"):
        code, out, err = say(verb, "run", stdin=b"x\n")
        assert (code, out) == (2, "")
        assert "decision.json is not a decision that tunewise wrote" in err
        assert "tunewise decide TASK --out run" in err


def test_a_task_file_that_cannot_be_written_names_the_place(say, tmp_path):
    write(tmp_path / "rows.jsonl", FILL)
    code, _, err = say("init", "rows.jsonl", "--out", "no/such/folder/task.yaml")
    assert code == 2
    assert "no/such/folder/task.yaml cannot be written" in err


def test_standard_input_that_is_not_utf8_is_named(say, scripted):
    assert say("decide", "task.yaml", "--out", "run", "--rungs", "few-shot-nearest")[0] == 0
    code, out, err = say("answer", "run", stdin=b"kind1 caf\xe9\n")
    assert (code, out) == (2, "")
    assert "standard input: not UTF-8 (byte 9)" in err


def test_a_page_that_cannot_be_written_is_a_failure_of_the_world_and_resumes(say, scripted, tmp_path):
    (tmp_path / "run/report.html").mkdir(parents=True)
    options = ("decide", "task.yaml", "--out", "run", "--rungs", "zero-shot")
    code, _, err = say(*options)
    assert code == 1
    assert "report.html: Is a directory" in err
    assert "the same command goes on from there" in err
    (tmp_path / "run/report.html").rmdir()
    assert say(*options)[0] == 3
    assert (tmp_path / "run/report.html").is_file()


def test_python_users_get_a_store_error_where_a_rung_cannot_be_saved(scripted, tmp_path):
    import tunewise

    (tmp_path / "run").mkdir()
    (tmp_path / "run/rungs").write_text("in the way")
    with pytest.raises(StoreError, match="rungs/zero-shot"):
        tunewise.decide(tmp_path / "task.yaml", out=tmp_path / "run", rungs=["zero-shot"])


def test_json_that_is_one_object_over_lines_is_one_message_with_its_keys(say, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"data": [{"input": "a", "output": "b"}]}, indent=1))
    code, _, err = say("init", "rows.json")
    assert code == 2
    assert "one JSON object over several lines with the keys data" in err
    assert err.count("\n") == 1


def test_a_misspelt_embedded_is_a_mistake_of_the_file_and_not_looked_for_on_the_hub(say, scripted, tmp_path):
    text = (tmp_path / "task.yaml").read_text()
    (tmp_path / "task.yaml").write_text(text.replace('{scripted: "reverse_script:reply"}', "embeded"))
    code, _, err = say("check", "task.yaml")
    assert code == 2
    assert "model: 'embeded' is no folder here; did you mean 'embedded'?" in err


def test_more_calls_at_once_than_the_endpoint_takes_cannot_be_timed(say, scripted, tmp_path):
    text = (tmp_path / "task.yaml").read_text()
    door = "{endpoint: 'https://models.invalid/v1', name: m}\nlimits: {latency_ms: 100, concurrency: 16}"
    (tmp_path / "task.yaml").write_text(text.replace('{scripted: "reverse_script:reply"}', door))
    code, _, err = say("check", "task.yaml")
    assert code == 2
    assert "limits.concurrency: 16 calls at once cannot be timed where the model takes 8" in err


def test_a_seed_below_zero_is_refused_before_anything_is_read(say, scripted):
    code, _, err = say("check", "task.yaml", "--seed", "-1")
    assert code == 2
    assert "--seed" in err


def test_a_seed_below_zero_is_refused_in_python_and_where_files_are_compared(say, scripted, tmp_path):
    with pytest.raises(SettingError, match="seed: a whole number from 0"):
        tunewise.check("task.yaml", seed=-1)
    for name, texts in (("a", FILL[:12]), ("b", FILL[12:24])):
        rows = [{"id": str(n), "output": text, "reference": FILL[n]} for n, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = say("score", "--compare", "a.jsonl", "b.jsonl", "--metric", "rouge_l", "--seed", "-1")
    assert code == 2
    assert "seed" in err


def test_ctrl_c_says_that_the_same_command_goes_on(say, scripted, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tunewise.api.open_task", interrupted)
    code, _, err = say("decide", "task.yaml", "--out", "run")
    assert code == 130
    assert "tunewise: stopped; the same command goes on from here." in err
