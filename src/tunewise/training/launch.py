"""Training in several processes: how accelerate is told, and what passes between them and this one.

One process, several GPUs and several nodes are settings of the launch and not other code: the same recipe
runs in each process (``training.worker``). What is trained on lies in a job folder before the launch, and
what was trained comes back through the run's work folder.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tunewise import errors
from tunewise.errors import SettingError, TunewiseError, WorldError
from tunewise.progress import Progress
from tunewise.training import checkpoints
from tunewise.training.masks import TrainRow
from tunewise.training.mixing import Mix
from tunewise.training.recipe import Recipe, Trained, largest_divisor, snapshots_in, total_steps

Strategy = Literal["ddp", "fsdp2", "deepspeed"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp2", "deepspeed")
PORT = 29500
FAILED = "failed.json"  # why a process ended, in words for the user
LOG_SHOWN = 1500  # last characters of the first traceback in the processes' log
ZERO_STAGE = 3  # weights, gradients and optimizer states sharded, as FSDP2 does


@dataclass(frozen=True, slots=True)
class Launch:
    """How many processes train, on how many nodes, and what they share.

    processes: of each node. ddp: each holds the whole model. fsdp2, deepspeed: it is sharded. host: address
    of the first node, needed with several.
    """

    processes: int = 1
    nodes: int = 1
    strategy: Strategy = "ddp"
    host: str | None = None

    @property
    def alone(self) -> bool:
        """True for one process, which needs no launcher."""
        return self.processes == self.nodes == 1 and self.strategy == "ddp"

    def check(self, batch_size: int) -> None:
        """Raise SettingError for settings that cannot be launched."""
        if self.processes < 1 or self.nodes < 1:
            raise SettingError(
                f"at least one process and one node are needed, got {self.processes} and {self.nodes}"
            )
        if self.strategy not in STRATEGIES:
            raise SettingError(f"unknown strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}")
        everyone = self.processes * self.nodes
        if batch_size % everyone:
            raise SettingError(
                f"training.batch_size {batch_size} cannot be shared by {everyone} processes: take a multiple"
            )
        if self.nodes > 1 and not self.host:
            raise SettingError("with several nodes, name the first node's address with --host")

    def check_gpus(self, there: int) -> None:
        """Raise SettingError for more processes than the machine's GPUs; without GPUs they share the CPU."""
        if there and self.processes > there:
            raise SettingError(
                f"--processes {self.processes}: each process trains on a GPU of its own, and this machine "
                f"shows {there}. Take --processes {there}, or set CUDA_VISIBLE_DEVICES= (empty) to train on "
                "its CPU"
            )


def command(launch: Launch, job: Path, *, cpu: bool) -> list[str]:
    """The exact launch command. With several nodes it is run on each, NODE_RANK set to 0, 1, ... there."""
    words = [
        *("accelerate", "launch", "--num_processes", str(launch.processes * launch.nodes)),
        *("--num_machines", str(launch.nodes), "--mixed_precision", "no", "--dynamo_backend", "no"),
    ]
    if launch.nodes > 1:
        words += ["--machine_rank", "$NODE_RANK", "--main_process_ip", str(launch.host)]
        words += ["--main_process_port", str(PORT)]
    if launch.strategy == "fsdp2":
        words += ["--use_fsdp", "--fsdp_version", "2", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"]
        words += ["--fsdp_state_dict_type", "FULL_STATE_DICT"]
    elif launch.strategy == "deepspeed":
        words += ["--use_deepspeed", "--zero_stage", str(ZERO_STAGE)]
    elif launch.processes * launch.nodes > 1:
        words.append(
            "--multi_gpu"
        )  # accelerate's name for DDP, also on CPUs, where --cpu would start one process
    words += ["-m", "tunewise.training.worker", str(job)]
    return (["env", "ACCELERATE_USE_CPU=true", *words]) if cpu else words


def gpus_there() -> int:
    """How many GPUs processes of this machine can train on; 0 where they share its CPU."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def in_words(words: Sequence[str]) -> str:
    """A command as it is typed; NODE_RANK stays a variable."""
    return " ".join(word if word == "$NODE_RANK" else shlex.quote(word) for word in words)


def write_job(
    job: Path,
    base: Path,
    rows: Sequence[TrainRow],
    held_out: Sequence[TrainRow],
    recipe: Recipe,
    mix: Mix | None,
) -> None:
    """Write what is trained on into the folder ``job``."""
    checkpoints.write_json(
        job / "job.json",
        {
            "base": str(base),
            "work": str(job.parent),
            "recipe": asdict(recipe),
            "mix": None if mix is None else asdict(mix),
            "rows": [asdict(row) for row in rows],
            "held_out": [asdict(row) for row in held_out],
        },
    )


def read_job(job: Path) -> dict[str, Any]:
    """What ``write_job`` wrote, as the arguments of ``recipe.train`` but its progress."""
    said = json.loads((job / "job.json").read_text(encoding="utf-8"))
    recipe = {**said["recipe"], "targets": tuple(said["recipe"]["targets"])}
    return {
        "base": Path(said["base"]),
        "rows": [row_of(row) for row in said["rows"]],
        "held_out": [row_of(row) for row in said["held_out"]],
        "recipe": Recipe(**recipe),
        "work": Path(said["work"]),
        "mix": None if said["mix"] is None else Mix(**said["mix"]),
    }


def row_of(said: dict[str, Any]) -> TrainRow:
    """A row from its JSON form."""
    earlier = tuple((start, end) for start, end in said["earlier"])
    return TrainRow(
        said["key"], tuple(said["prompt"]), tuple(said["answer"]), earlier, said["place"], said["cut"]
    )


class Rehearsal(Exception):
    """Ends a run where its processes would start: ``plan`` is what would be launched, JSON-able."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(plan["command"])
        self.plan = plan


@dataclass(frozen=True, slots=True)
class Launched:
    """``recipe.train`` in the processes of a launch: takes its arguments, gives its result.

    rehearsing: write the job and launch nothing; raises Rehearsal.
    """

    launch: Launch
    rehearsing: bool = False

    @property
    def in_words(self) -> str:
        """What a run that is gone on with has to be launched as again."""
        if self.launch.alone:
            return checkpoints.ALONE
        nodes = f" on each of {self.launch.nodes} nodes" if self.launch.nodes > 1 else ""
        return f"{self.launch.processes} processes{nodes}, {self.launch.strategy}"

    def __call__(
        self,
        base: Path,
        rows: Sequence[TrainRow],
        held_out: Sequence[TrainRow],
        recipe: Recipe,
        work: Path,
        progress: Progress,
        mix: Mix | None = None,
        general: Sequence[TrainRow] | None = None,
    ) -> Trained:
        """Train, and tell the progress of the first process. Raises WorldError when a process fails.

        Raises SettingError for what the processes of a launch cannot do.
        """
        import torch

        self.launch.check(recipe.batch_size)
        if general is not None:
            raise SettingError("training.kl is computed in one process, without a launch: leave it out")
        job = work.absolute() / "job"
        words = command(self.launch, job, cpu=not torch.cuda.is_available())
        if self.rehearsing:
            write_job(job, base, rows, held_out, recipe, mix)
            steps = total_steps(len(rows) if mix is None else mix.total, recipe)
            raise Rehearsal(plan_of(self.launch, words, job, recipe, steps))
        facts = checkpoints.read_json(work / "trained.json")
        if facts is not None and any(s.step == facts["steps"] for s in snapshots_in(work)):
            return Trained(snapshots_in(work), facts)  # the command of --dry-run was run before
        if self.launch.nodes > 1:
            raise SettingError(
                "several nodes: run the command that --dry-run prints on each of them, then this one "
                "again: it chooses the checkpoint and checks it"
            )
        self.launch.check_gpus(gpus_there())
        told = False
        while True:
            write_job(job, base, rows, held_out, recipe, mix)
            code = self.run(words, work, progress)
            if not code:
                break
            tried = rows_tried(work)
            fewer = largest_divisor(
                recipe.batch_size // (self.launch.processes * self.launch.nodes), tried // 2
            )
            if not fewer:
                raise why_failed(work, code)
            recipe = replace(recipe, rows_per_pass=fewer)
            if not told:
                progress.tell("note", text=smaller_in_words(tried, fewer))
            told = True
        facts = checkpoints.read_json(work / "trained.json") or {}
        return Trained(snapshots_in(work), facts)

    def run(self, words: Sequence[str], work: Path, progress: Progress) -> int:
        """Start the processes and wait for them: their exit code."""
        threads = max(1, (os.cpu_count() or 1) // self.launch.processes)
        env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env.get('PATH', '')}"
        (work / FAILED).unlink(missing_ok=True)
        with (work / "processes.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
            relay(process, progress)
        return process.returncode


def plan_of(launch: Launch, words: Sequence[str], job: Path, recipe: Recipe, steps: int) -> dict[str, Any]:
    """What would be launched, for people and programs."""
    processes = launch.processes * launch.nodes
    return {
        "command": in_words(words),
        "job": str(job),
        "method": recipe.method,
        "processes": processes,
        "nodes": launch.nodes,
        "strategy": launch.strategy,
        "steps": steps,
        "batch_size": recipe.batch_size,
        "rows_of_each_process": recipe.batch_size // processes,
    }


def rows_tried(work: Path) -> int:
    """Rows in a pass for which a process had no memory; 0 where it failed of something else."""
    said = checkpoints.read_json(work / FAILED) or {}
    return int(said.get("rows", 0))


def smaller_in_words(tried: int, rows: int) -> str:
    """What is told, once, of memory that ran out."""
    return (
        f"training: out of memory with {tried} rows in a pass of a process; the processes start again from "
        f"the last checkpoint with {rows} and more passes in a step (fewer rows still where needed, without "
        "another word). Results stay the same."
    )


def why_failed(work: Path, code: int) -> TunewiseError:
    """What a process said when it failed, as the error it was; else the first traceback of the log.

    The launcher's own traceback, which comes last, says only that a process ended.
    """
    said = checkpoints.read_json(work / FAILED)
    if said is not None:
        kind: Any = getattr(errors, said["kind"], WorldError)  # others: of the world
        found: TunewiseError = kind(said["says"])
        return found
    log = (work / "processes.log").read_text(encoding="utf-8", errors="replace")
    start = log.find("Traceback (most recent call last)")
    first = log[start:].split("\n\n")[0] if start >= 0 else log
    return WorldError(
        f"The training processes ended with {code}; the last checkpoint is kept. What they wrote is in "
        f"{work / 'processes.log'}; first:\n{first[-LOG_SHOWN:].strip()}"
    )


def relay(process: "subprocess.Popen[str]", progress: Progress) -> None:
    """Hand on what the first process tells, one JSON object per line, until it ends; end it with this one."""
    assert process.stdout is not None
    with process:  # waits, and closes its output
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    said = json.loads(line)
                    progress.tell(said.pop("event"), **said)
        except BaseException:
            process.terminate()
            raise
