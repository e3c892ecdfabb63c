"""``tunewise train --stage``: documents alone, both stages with a gate between, kill -9 in each."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

from tests.training.conftest import TASK

from tunewise.cli.train import print_run
from tunewise.errors import SettingError
from tunewise.tuning import launch_command, show, train
from tunewise.tuning_stages import GateClosed

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

CPT = ", cpt: {documents: docs, general: general.jsonl, length: 32, learning_rate: 0.01}"

# Runs both stages with a checkpoint at every step and says each; it is killed on the way.
SCRIPT = """
import sys
from tunewise.training import recipe
from tunewise.tuning import train

recipe.train.__defaults__ = (0.0, *recipe.train.__defaults__[1:])

class Say:
    def tell(self, event, **facts):
        if event == "training":
            print(facts["step"], facts["steps"], flush=True)

train(sys.argv[1], stage="cpt+sft", out=sys.argv[2], progress=Say())
"""


@pytest.fixture
def task_file(tiny, make_example, tmp_path, monkeypatch):
    def write(name, numbers):
        rows = [{"input": e.input, "output": e.answer} for e in map(make_example, numbers)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    write("train.jsonl", range(16))
    write("selection.jsonl", range(20, 28))
    write("certification.jsonl", range(100, 140))
    write("general.jsonl", range(200, 240))
    (tmp_path / "docs").mkdir()
    for number in range(40):
        said = ["The Red Lion in Norwich is cheap", "The Old Ship in Ely is high", "pub food town"]
        text = ". ".join(said[(number + n) % 3] for n in range(6)) + f" {number}"
        (tmp_path / "docs" / f"{number:03}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "task.yaml").write_text(TASK.format(tiny=tiny, more=CPT), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "task.yaml"


def test_reading_alone_hands_over_a_model_with_perplexities_and_no_mix(task_file, capsys):
    run = train(task_file, stage="cpt", out="here")
    assert run.folder == Path("here/cpt/model")
    assert (run.folder / "model.safetensors").is_file()
    assert run.facts["passed"]
    assert run.facts["perplexity"]["domain"]["after"] < run.facts["perplexity"]["domain"]["before"]
    assert run.facts["perplexity"]["general"]["before"] > 1
    assert "mix" not in run.facts  # general text is measured, not trained on
    print_run(run)
    said = capsys.readouterr().out
    assert "perplexity on held-out domain text" in said
    assert "gate open" in said


def test_reading_is_never_said_to_be_done_by_a_method_that_does_not_read(task_file):
    with pytest.raises(SettingError, match=r"reads with lora or full.*Leave out --method qlora"):
        show(task_file, stage="cpt", method="qlora")
    said = task_file.read_text(encoding="utf-8")
    task_file.write_text(f"{said}tune: {{method: qlora}}\n", encoding="utf-8")
    assert show(task_file, stage="cpt").method == "lora"


def test_what_is_read_is_shown_with_loss_on_every_token_but_the_first_mark(task_file):
    shown = show(task_file, stage="cpt", rows=2)
    for row in shown.examples:
        assert [piece.loss for piece in row.pieces] == [False, True]
        assert row.loss_tokens == row.tokens - 1
    assert any("instruct model" in note for note in shown.notes)


def test_both_stages_are_one_run_that_is_found_again(task_file):
    rungs = []

    def tell(event, **facts):
        rungs.extend([facts["rung"]] if event == "training" else [])

    run = train(task_file, stage="cpt+sft", out="here", progress=SimpleNamespace(tell=tell))
    assert list(dict.fromkeys(rungs)) == ["cpt", "lora"]  # the first stage's steps under its own name
    assert run.folder == Path("here/cpt-sft/model")
    assert run.facts["cpt"]["passed"]
    assert run.facts["method"] == "lora"
    assert train(task_file, stage="cpt+sft", out="here").facts == run.facts


def test_the_second_stage_does_not_start_behind_a_closed_gate(task_file, monkeypatch):
    monkeypatch.setattr("tunewise.training.pretraining.gate", lambda before, after: (False, "worse"))
    with pytest.raises(GateClosed, match=r"the second stage did not start: worse\. The first stage is kept"):
        train(task_file, stage="cpt+sft", out="here")
    assert not Path("here/cpt-sft/sft").exists()


def test_on_several_nodes_each_stage_is_launched_by_hand_and_gone_on_from(task_file):
    from tunewise.training import worker
    from tunewise.training.launch import Launch

    both = {"stage": "cpt+sft", "out": "here", "launch": Launch(1, nodes=2, host="10.0.0.1")}
    plans = []
    for stage in ("cpt", "sft"):
        plans.append(launch_command(task_file, **both))
        job = Path(plans[-1]["job"])
        assert stage in job.parts
        assert str(job) in plans[-1]["command"]
        worker.main(job)  # as one process of the command does
        if stage == "cpt":
            with pytest.raises(SettingError, match="run the command that --dry-run prints"):
                train(task_file, **both)
    assert plans[0]["job"] != plans[1]["job"]
    run = train(task_file, **both)
    assert run.facts["cpt"]["steps"] == plans[0]["steps"]
    with pytest.raises(SettingError, match="nothing to launch"):
        launch_command(task_file, **both)


def test_stages_that_cannot_run_say_why(task_file):
    with pytest.raises(SettingError, match="there are sft, cpt, cpt"):
        train(task_file, stage="dpo")
    bare = task_file.read_text(encoding="utf-8").replace(CPT, "")
    task_file.write_text(bare, encoding="utf-8")
    with pytest.raises(SettingError, match="names no documents to read"):
        train(task_file, stage="cpt")


def killed(task_file, out, stage_steps, step):
    """Run both stages in a process and kill it at ``step`` of the stage with so many steps."""
    script = task_file.parent / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script, task_file, out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.split() == [str(step), str(stage_steps)]:
                process.send_signal(signal.SIGKILL)
                break
        process.wait(timeout=300)
        assert process.returncode == -signal.SIGKILL, process.stderr.read()


@pytest.mark.slow
def test_killed_in_both_stages_and_started_again_it_hands_over_the_same_bytes(task_file, monkeypatch):
    whole = train(task_file, stage="cpt+sft", out="whole")
    first, second = whole.facts["cpt"]["steps"], whole.facts["steps"]
    assert first != second
    killed(task_file, "cut", first, 2)
    assert not Path("cut/cpt-sft/cpt/done.json").exists()
    killed(task_file, "cut", second, 3)
    assert Path("cut/cpt-sft/cpt/done.json").is_file()
    assert not Path("cut/cpt-sft/done.json").exists()
    resumed = train(task_file, stage="cpt+sft", out="cut")
    one, other = (run.folder / "model.safetensors" for run in (whole, resumed))
    assert one.read_bytes() == other.read_bytes()
    assert whole.facts["losses"] == resumed.facts["losses"]
