"""Training in several processes: the printed command, what passes between them, and how they fail."""

import json
import shlex
import shutil
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("trl")

from tunewise.errors import OutOfMemory, SettingError, StoreError, WorldError
from tunewise.training.launch import Launch, command, in_words
from tunewise.tuning import launch_command, train


def test_the_dry_run_prints_a_command_and_writes_the_job_that_it_reads(task_file, capsys):
    plan = launch_command(task_file(), out="here", launch=Launch(2))
    words = shlex.split(plan["command"])
    assert words[words.index("--num_processes") + 1] == "2"
    assert words[-3:-1] == ["-m", "tunewise.training.worker"]
    assert json.loads(Path(plan["job"], "job.json").read_text(encoding="utf-8"))["recipe"]["method"] == "lora"
    assert (plan["steps"], plan["rows_of_each_process"]) == (4, 4)


def test_a_job_that_nobody_ran_is_written_anew_with_other_settings(task_file):
    launch_command(task_file(), out="here", launch=Launch(2))
    plan = launch_command(task_file(", weight_decay: 0.0"), out="here", launch=Launch(2))
    recipe = json.loads(Path(plan["job"], "job.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["weight_decay"] == 0


def test_what_the_printed_command_trained_is_found_and_chosen_from_not_trained_again(task_file, monkeypatch):
    from tunewise.training import launch, worker

    plan = launch_command(task_file(), out="here", launch=Launch(2))
    worker.main(Path(plan["job"]))  # as one process of the command does
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *a, **k: pytest.fail("launched again"))
    run = train("task.yaml", out="here", launch=Launch(2))
    assert run.facts["steps"] == 4
    assert run.folder.is_dir()


def test_processes_without_memory_are_started_again_with_half_the_rows_in_a_pass(task_file, monkeypatch):
    from tunewise.progress import Silent
    from tunewise.training import launch, worker

    class Told(Silent):
        notes: ClassVar[list[str]] = []

        def tell(self, event, **facts):
            if event == "note":
                self.notes.append(facts["text"])

    tried = []

    def in_place_of_processes(self, words, work, progress):
        tried.append(launch.read_job(work / "job")["recipe"].rows_per_pass)
        if len(tried) == 3:
            worker.main(work / "job")
            return 0
        said = {"kind": "OutOfMemory", "says": "Out of memory", "rows": 8 // 2 ** len(tried)}
        (work / launch.FAILED).write_text(json.dumps(said), encoding="utf-8")
        return 1

    monkeypatch.setattr(launch.Launched, "run", in_place_of_processes)
    run = train(task_file(), out="here", launch=Launch(2), progress=Told())
    assert tried == [0, 2, 1]
    assert run.facts["steps"] == 4
    assert len([note for note in Told.notes if "out of memory with 4 rows in a pass" in note]) == 1


def test_a_process_without_memory_for_a_row_says_what_helps(task_file, monkeypatch):
    from tunewise.training import launch, trainer, worker

    def full(model, inputs):
        raise RuntimeError("can't allocate memory")

    plan = launch_command(task_file(), out="here", launch=Launch(2))
    monkeypatch.setattr(trainer, "pack_loss", full)
    with pytest.raises(SystemExit):
        worker.main(Path(plan["job"]))
    work = Path(plan["job"]).parent
    assert type(launch.why_failed(work, 1)) is OutOfMemory
    assert launch.rows_tried(work) == 1  # alone a process has halved down to one row by itself


def test_of_several_processes_each_ends_with_the_rows_that_did_not_fit():
    from types import SimpleNamespace

    from tunewise.training.trainer import PackedTrainer

    stub = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    with pytest.raises(OutOfMemory, match="4 rows in a pass") as found:
        PackedTrainer.make_smaller(stub, RuntimeError("can't allocate memory"), 4, 100)
    assert found.value.rows == 4


@pytest.mark.parametrize(("share", "most", "rows"), [(4, 2, 2), (5, 2, 1), (6, 5, 3), (6, 0, 0), (1, 0, 0)])
def test_the_passes_of_a_process_make_up_its_share_of_a_step(share, most, rows):
    from tunewise.training.recipe import largest_divisor

    assert largest_divisor(share, most) == rows


@pytest.mark.parametrize(
    ("batch", "processes", "rows", "expected"),
    [(24, 4, 4, (3, 2)), (12, 2, 4, (3, 2)), (16, 4, 4, (4, 1)), (8, 2, 8, (4, 1))],
)
def test_where_the_model_is_sharded_passes_make_up_the_whole_batch(
    tmp_path, monkeypatch, batch, processes, rows, expected
):
    from types import SimpleNamespace

    from tunewise.training.recipe import Recipe
    from tunewise.training.trainer import config_of

    monkeypatch.setenv("WORLD_SIZE", str(processes))
    monkeypatch.setattr("tunewise.training.trainer.sharded", lambda: True)
    made = {}
    monkeypatch.setattr("tunewise.training.trainer.SFTConfig", lambda **settings: made.update(settings))
    recipe = Recipe(1e-3, 1.0, 0.0, 1.0, 4, batch, 0, "fp32", rows_per_pass=rows)
    config_of(recipe, SimpleNamespace(work=tmp_path, wanted=10))
    found = made["per_device_train_batch_size"], made["gradient_accumulation_steps"]
    assert found == expected
    assert found[0] * found[1] * processes == batch


def test_one_process_may_be_launched_by_the_printed_command_and_gone_on_with_by_the_plain_one(task_file):
    plan = launch_command(task_file(), out="here", launch=Launch())
    work = Path(plan["job"]).parent
    (work / "steps" / "checkpoint-1").mkdir(parents=True)
    assert launch_command("task.yaml", out="here", launch=Launch())["command"] == plan["command"]
    shutil.rmtree(work / "steps" / "checkpoint-1")
    assert train("task.yaml", out="here").facts["steps"] == 4


def test_a_process_that_fails_says_why_in_its_own_words_not_in_the_launchers(task_file, tmp_path):
    from tunewise.training.launch import FAILED, why_failed
    from tunewise.training.worker import main as work

    plan = launch_command(task_file(", max_grad_norm: 1.0e+30"), out="here", launch=Launch(2))
    job = Path(plan["job"])
    said = json.loads((job / "job.json").read_text(encoding="utf-8"))
    said["recipe"]["learning_rate"] = 1e30
    (job / "job.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(SystemExit):
        work(job)
    found = why_failed(job.parent, 1)
    assert type(found) is WorldError
    assert "Training diverged" in str(found)
    assert "train.jsonl:" in str(found)
    (job.parent / FAILED).write_text('{"kind": "StoreError", "says": "full"}', encoding="utf-8")
    assert type(why_failed(job.parent, 1)) is StoreError
    (job.parent / FAILED).unlink()
    traceback = "Traceback (most recent call last):\n  File x\n"
    log = f"{traceback}ImportError: no nccl\n\n{traceback}ChildFailedError"
    (job.parent / "processes.log").write_text(log, encoding="utf-8")
    assert "ImportError: no nccl" in str(why_failed(job.parent, 1))
    assert "ChildFailedError" not in str(why_failed(job.parent, 1))


@pytest.mark.parametrize("says", ["training.kl", "guard"])
def test_a_dry_run_refuses_what_only_this_process_can_do(task_file, tmp_path, says):
    rows = "".join(f'{{"input": "a {n}", "output": "b"}}\n' for n in range(9))
    (tmp_path / "general.jsonl").write_text(rows, encoding="utf-8")
    path = task_file(", kl: {general: general.jsonl}" if says == "training.kl" else "")
    if says == "guard":
        (tmp_path / "benchmarks").mkdir()
        with path.open("a", encoding="utf-8") as file:
            file.write("guard: {data: benchmarks}\n")
    with pytest.raises(SettingError, match=says):
        launch_command(path, out="here", launch=Launch(1))


def test_a_curve_is_refused_on_several_nodes_before_anything_is_trained(task_file):
    with pytest.raises(SettingError, match="learning curve"):
        train(task_file(), out="here", curve=True, launch=Launch(1, nodes=2, host="10.0.0.1"))


def test_launch_settings_become_accelerates_words(tmp_path):
    from argparse import Namespace

    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    launches = {
        "one": Launch(), "ddp": Launch(4), "fsdp2": Launch(8, strategy="fsdp2"),
        "deepspeed": Launch(8, strategy="deepspeed"), "nodes": Launch(8, 2, "fsdp2", "10.0.0.1"),
    }  # fmt: skip
    read: dict[str, Namespace] = {}
    for name, launch in launches.items():
        words = command(launch, tmp_path, cpu=False)
        assert words[:2] == ["accelerate", "launch"]
        read[name] = parser.parse_args([word.replace("$NODE_RANK", "1") for word in words[2:]])
        assert read[name].module
        assert read[name].num_processes == launch.processes * launch.nodes
    assert (read["ddp"].multi_gpu, read["one"].multi_gpu) == (True, False)
    assert (read["fsdp2"].use_fsdp, str(read["fsdp2"].fsdp_version)) == (True, "2")
    assert (read["deepspeed"].use_deepspeed, read["deepspeed"].zero_stage) == (True, 3)
    assert (read["nodes"].num_machines, read["nodes"].machine_rank) == (2, 1)
    assert read["nodes"].main_process_ip == "10.0.0.1"
    assert "--machine_rank $NODE_RANK" in in_words(command(launches["nodes"], tmp_path, cpu=False))


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        (Launch(3), "batch_size 8 cannot be shared by 3"),
        (Launch(2, 2), "--host"),
        (Launch(2, 1, "zero"), "unknown strategy 'zero'"),
    ],
)
def test_launches_that_cannot_be_are_refused(launch, says):
    with pytest.raises(SettingError, match=says):
        launch.check(8)


def test_more_processes_than_gpus_are_refused_before_they_are_started(task_file, monkeypatch):
    monkeypatch.setattr("tunewise.training.launch.gpus_there", lambda: 1)
    with pytest.raises(
        SettingError, match=r"--processes 2.*shows 1.*Take --processes 1, or set CUDA_VISIBLE"
    ):
        train(task_file(), out="two", launch=Launch(2))
    Launch(2).check_gpus(0)  # they share the CPU
    Launch(2).check_gpus(2)


@pytest.mark.slow
def test_two_processes_follow_the_losses_of_one(task_file):
    alone = train(task_file(), out="alone")
    two = train("task.yaml", out="two", launch=Launch(2))
    assert two.facts["losses"] == pytest.approx(alone.facts["losses"], abs=5e-5)
    assert two.facts["tried"][-1]["held_out_loss"] == pytest.approx(
        alone.facts["tried"][-1]["held_out_loss"], rel=1e-3
    )
