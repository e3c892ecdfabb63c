"""Shared by all tests: a private ledger of openings, and a small scripted task that runs in a second."""

import json
import os
import random
from pathlib import Path

import pytest

# Figures are checked to fp32's rounding, and local models run in bf16 where there is a GPU: tests use the CPU
# everywhere. Before CUDA is first asked for, hence here.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

SCRIPT = '''
"""A model whose quality depends on how many examples its prompt shows."""
import hashlib
import time


def reply(messages):
    """Reverses the last word; right for 30 % of inputs bare, 60 % with examples, 99 % with near ones."""
    question = messages[-1].content
    shown = [m.content for m in messages[:-1] if m.role == "user"]
    kind = question.split()[0]
    near = bool(shown) and all(text.split()[0] == kind for text in shown)
    share = 0.99 if near else 0.6 if shown else 0.3
    draw = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 1000 / 1000
    return question.split()[-1][::-1] if draw < share else "wrong"


def slow_reply(messages):
    time.sleep(0.004)
    return reply(messages)
'''

TASK = """\
name: reverse
instruction: Reverse the last word.
examples: rows.jsonl
metric: exact
target: {target}
model: {model}
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Openings of certification items are counted in a folder of the test's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TUNEWISE_HOME", str(home))
    return home


def write_rows(path: Path, count: int) -> None:
    rng = random.Random(5)
    kinds = [f"kind{n}" for n in range(8)]
    fill = ["amber", "birch", "cedar", "daisy", "elder", "fern", "grape", "hazel", "iris", "oak"]
    rows = []
    for number in range(count):
        word = "".join(rng.choice("abcdefgh") for _ in range(7))
        text = " ".join([kinds[number % 8], *[kinds[number % 8] + w for w in rng.sample(fill, 5)], word])
        rows.append({"input": text, "output": word[::-1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def reverse_task(tmp_path, monkeypatch):
    """Makes a task folder with a scripted model: ``make(model=..., target=..., rows=...) -> task file``."""

    def make(model: str = '{scripted: "reverse_script:reply"}', target: float = 0.9, rows: int = 400) -> Path:
        (tmp_path / "reverse_script.py").write_text(SCRIPT, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        path = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{path}" if path else str(tmp_path))
        write_rows(tmp_path / "rows.jsonl", rows)
        (tmp_path / "task.yaml").write_text(TASK.format(model=model, target=target), encoding="utf-8")
        return tmp_path / "task.yaml"

    return make
