"""A run killed at any step and started again gives the weights of an undisturbed run, bit for bit."""

import json
import pickle
import signal
import subprocess
import sys

import pytest

from tunewise.progress import Silent
from tunewise.training import checkpoints
from tunewise.training.recipe import Recipe, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=2.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", rows_per_pass=4,
)  # fmt: skip

# Trains like the test does, says each step, and saves at every step; it is killed on the way.
SCRIPT = """
import pickle, sys
from pathlib import Path
from tunewise.training.recipe import train

class Say:
    def tell(self, event, **facts):
        print(facts["step"], flush=True)

base, rows, recipe = pickle.loads(Path(sys.argv[1]).read_bytes())
train(base, rows, (), recipe, Path(sys.argv[2]), Say(), save_seconds=0.0)
"""


def weights(work):
    places = sorted((work / "epochs").glob("checkpoint-*"), key=checkpoints.step_of)
    return [(place / "adapter_model.safetensors").read_bytes() for place in places]


@pytest.fixture(scope="module")
def undisturbed(tiny, rows, tmp_path_factory):
    work = tmp_path_factory.mktemp("undisturbed")
    run = train(tiny, rows[:24], (), RECIPE, work, Silent())
    return weights(work), run.facts["losses"]


def killed_at(step, tiny, rows, tmp_path):
    """Train in a process of its own and kill it, without warning, when it says ``step``."""
    script, given, work = tmp_path / "script.py", tmp_path / "given.pickle", tmp_path / "work"
    script.write_text(SCRIPT, encoding="utf-8")
    given.write_bytes(pickle.dumps((tiny, rows[:24], RECIPE)))
    with subprocess.Popen(
        [sys.executable, script, given, work], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if int(line) >= step:
                process.send_signal(signal.SIGKILL)
                break
        process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
    return work


@pytest.mark.parametrize("step", [2, 5])
def test_killed_in_either_epoch_and_resumed_gives_the_same_bytes(step, tiny, rows, undisturbed, tmp_path):
    work = killed_at(step, tiny, rows, tmp_path)
    saved = checkpoints.newest_whole(work / "steps")
    assert saved is not None
    assert 0 < checkpoints.step_of(saved) <= step
    resumed = train(tiny, rows[:24], (), RECIPE, work, Silent())
    assert weights(work) == undisturbed[0]
    assert resumed.facts["losses"] == undisturbed[1]


def test_a_damaged_last_checkpoint_is_passed_over(tiny, rows, undisturbed, tmp_path):
    class Stop(Exception):
        """Ends a run from within, as a kill would, but cheaper."""

    class StopAtFive:
        def tell(self, event, **facts):
            if facts["step"] == 5:
                raise Stop

    with pytest.raises(Stop):
        train(tiny, rows[:24], (), RECIPE, tmp_path, StopAtFive(), save_seconds=0.0)
    last = checkpoints.newest_whole(tmp_path / "steps")
    optimizer = last / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:1000])
    assert checkpoints.step_of(checkpoints.newest_whole(tmp_path / "steps")) < checkpoints.step_of(last)
    train(tiny, rows[:24], (), RECIPE, tmp_path, Silent())
    assert weights(tmp_path) == undisturbed[0]


def test_a_finished_run_is_not_trained_again(tiny, rows, undisturbed, tmp_path):
    class Count:
        steps = 0

        def tell(self, event, **facts):
            self.steps += 1

    count = Count()
    train(tiny, rows[:24], (), RECIPE, tmp_path, count)
    assert count.steps == 6
    again = train(tiny, rows[:24], (), RECIPE, tmp_path, count)
    assert count.steps == 6
    assert again.facts["losses"] == undisturbed[1]
    assert json.loads((again.snapshots[-1].folder / "snapshot.json").read_text())["step"] == 6
