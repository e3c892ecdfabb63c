"""kill -9 at any moment, then the same command: nothing recorded is sent again, the decision is the same.

Counts are small here; TUNEWISE_KILLS=15 runs the full set (15 on the scripted model, 15 on a mock endpoint).
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tunewise.models.mock_server import running_mock

KILLS = int(os.environ.get("TUNEWISE_KILLS", "3"))
RUNGS = "zero-shot,few-shot,few-shot-nearest"


def start(task: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tunewise", "decide", str(task), "--out", str(task.parent / out)]
    return subprocess.Popen(
        [*command, "--rungs", RUNGS], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ)
    )


def finish(task: Path, out: str) -> dict:
    process = start(task, out)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    return json.loads((task.parent / out / "decision.json").read_text())


def what_was_decided(decision: dict) -> dict:
    """The decision without what a clock or an earlier session may change."""
    rungs = [
        {
            key: rung.get(key)
            for key in ("rung", "verdict", "quality", "statuses", "skipped_because", "gap_counts")
        }
        for rung in decision["rungs"]
    ]
    return {"choice": decision["choice"], "verdict": decision["verdict"], "rungs": rungs}


def recorded(run: Path) -> set[str]:
    """Hashes of the requests on record, as the mock server counts them."""
    if not (run / "run.sqlite").exists():
        return set()
    with closing(sqlite3.connect(f"file:{run / 'run.sqlite'}?mode=ro", uri=True)) as store:
        try:
            return {key for (key,) in store.execute("SELECT key FROM calls")}
        except sqlite3.OperationalError:  # killed before the tables were made
            return set()


def kill_at_random(task: Path, out: str, within: float, rng: random.Random) -> None:
    process = start(task, out)
    time.sleep(rng.uniform(0.3, within))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_a_killed_scripted_run_decides_what_an_undisturbed_one_does(reverse_task, monkeypatch, tmp_path):
    task = reverse_task(model='{scripted: "reverse_script:slow_reply"}')
    monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / "home-undisturbed"))
    began = time.monotonic()
    undisturbed = what_was_decided(finish(task, "undisturbed"))
    took = time.monotonic() - began
    rng = random.Random(11)
    for number in range(KILLS):
        monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / f"home-{number}"))
        kill_at_random(task, f"run-{number}", took, rng)
        before = recorded(task.parent / f"run-{number}")
        assert what_was_decided(finish(task, f"run-{number}")) == undisturbed
        assert before <= recorded(task.parent / f"run-{number}")


@pytest.mark.slow
def test_a_killed_run_sends_no_recorded_call_to_the_endpoint_again(reverse_task, monkeypatch, tmp_path):
    in_flight = 8
    rng = random.Random(12)
    log = tmp_path / "requests.log"
    task = reverse_task()
    with running_mock(script="reverse_script:reply", log=log, latency_ms=5) as url:
        model = f"{{endpoint: '{url}', name: mock, concurrency: {in_flight}}}"
        task = reverse_task(model=model)
        monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / "home-undisturbed"))
        began = time.monotonic()
        undisturbed = what_was_decided(finish(task, "undisturbed"))
        took = time.monotonic() - began
        for number in range(KILLS):
            monkeypatch.setenv("TUNEWISE_HOME", str(tmp_path / f"home-{number}"))
            log.write_text("")
            kill_at_random(task, f"run-{number}", took, rng)
            kept = len(recorded(task.parent / f"run-{number}"))
            time.sleep(0.1)
            sent_before = log.read_text().splitlines()
            assert len(sent_before) - kept <= in_flight
            assert what_was_decided(finish(task, f"run-{number}")) == undisturbed
            sent = log.read_text().splitlines()
            twice = len(sent) - len(set(sent))
            assert twice <= in_flight
            assert twice <= len(sent_before) - kept
