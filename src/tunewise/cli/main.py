"""The verbs of the command line. Each parses, calls the same function that Python users call, and prints."""

import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.advise import advise
from tunewise.cli.bench import bench
from tunewise.cli.documents import print_json
from tunewise.cli.estimate import estimate
from tunewise.cli.export import export
from tunewise.cli.plan import plan
from tunewise.cli.score import score
from tunewise.cli.train import train
from tunewise.errors import BudgetEnded, DataError, SettingError, TunewiseError, UserError, WorldError

if TYPE_CHECKING:
    from tunewise.planning import Plan

app = typer.Typer(
    name="tunewise",
    help="Find, by measurement, the lightest way to adapt a language model that meets the bar.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Order of certification, draws of examples, training.")
]
TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help="The task file (YAML).")]


_VERBS_THAT_RESUME = {"decide", "train", "bench"}
STOPPED = 130  # 128 + SIGINT, as shells say it


def main() -> None:
    """Entry point: user mistakes exit with 2 and no traceback, failures of the world with 1."""
    try:
        app()
    except TunewiseError as error:
        print(f"tunewise: {error}", file=sys.stderr)
        if isinstance(error, (WorldError, BudgetEnded)):
            _say_what_is_kept()
        raise SystemExit(error.exit_code) from None
    except OSError as error:  # a full disk, a file that may not be written: of the world, and no bug
        where = f"{error.filename}: " if error.filename else ""
        print(f"tunewise: {where}{error.strerror or error}", file=sys.stderr)
        _say_what_is_kept()
        raise SystemExit(1) from None
    except SystemExit as end:
        if end.code == STOPPED:  # what typer makes of Ctrl-C
            resumes = (
                "; the same command goes on from here" if _VERBS_THAT_RESUME & set(sys.argv[1:2]) else ""
            )
            print(f"\ntunewise: stopped{resumes}.", file=sys.stderr)
            leave_calls_behind()
        raise


def leave_calls_behind() -> None:
    """End the process where calls were abandoned: Python would wait for their threads before it ends."""
    from tunewise.models.asking import CALLS

    if any(thread.name.startswith(CALLS) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STOPPED)


def _say_what_is_kept() -> None:
    if _VERBS_THAT_RESUME & set(sys.argv[1:2]):
        said = "What was measured, if anything, is kept; the same command goes on from there."
        print(said, file=sys.stderr)


def _version(asked: bool) -> None:
    if asked:
        from tunewise import __version__

        print(f"tunewise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A file of examples (JSONL, JSON, CSV, Parquet).")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: task.yaml beside the data.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented task file from a data file."""
    from tunewise.scaffold import init_task

    target = out or data.parent / "task.yaml"
    if not data.exists():
        raise DataError(f"{data}: no such file")
    if target.exists() and not force:
        raise SettingError(f"{target} exists already; give another --out, or --force to overwrite it")
    text = init_task(data, target)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{target} cannot be written ({error.strerror}); give another --out") from None
    if as_json:
        print_json({"task_file": str(target), "examples": str(data)})
        return
    print(f"Wrote {target}. Read it, set the target, then: tunewise check {target}")


@app.command()
def check(
    task: TaskFile,
    seed: Seed = 0,
    rungs: Annotated[str | None, typer.Option(help="Only these rungs, comma-separated.")] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Plan for every rung on all items.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Report splits, overlaps, lengths, what the data can prove, and the plan. Sends nothing to a host."""
    from tunewise.api import check as check_task
    from tunewise.cli.tables import print_plan

    plan = check_task(task, seed=seed, rungs=_names(rungs), exhaustive=exhaustive)
    if as_json:
        print_json(plan.to_json())
    else:
        print_plan(plan)


@app.command()
def decide(
    task: TaskFile,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/NAME. The same folder resumes.")
    ] = None,
    seed: Seed = 0,
    rungs: Annotated[str | None, typer.Option(help="Only these rungs, comma-separated.")] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Measure every rung on all items.")
    ] = False,
    max_usd: Annotated[float | None, typer.Option(min=0, help="Never spend more than this.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to calls that cost money.")] = False,
    guard: Annotated[
        str | None, typer.Option(help="Forgetting guard: on, full (no time budget) or off.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Climb the ladder and hand over the lightest rung that provably meets the target."""
    if dry_run:
        check(task, seed=seed, rungs=rungs, exhaustive=exhaustive, as_json=as_json)
        return
    from tunewise.api import decide as decide_task
    from tunewise.cli.tables import print_decision
    from tunewise.cli.terminal import progress_for

    with progress_for(sys.stderr) as progress:
        decision = decide_task(
            task,
            out=out,
            seed=seed,
            rungs=_names(rungs),
            exhaustive=exhaustive,
            max_usd=max_usd,
            guard=guard,
            yes=yes,
            confirm=_ask_at_terminal,
            progress=progress,
        )
    if as_json:
        print_json(decision.to_json())
    else:
        print_decision(decision.to_json(), out or Path("runs") / decision.task)
    raise typer.Exit(decision.exit_code)


@app.command()
def answer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    inputs: Annotated[
        str, typer.Argument(metavar="[FILE | -]", help="JSONL or plain lines; - reads them.")
    ] = "-",
    rung: Annotated[str | None, typer.Option(help="Another rung that the run has built.")] = None,
    max_usd: Annotated[float | None, typer.Option(min=0, help="Never spend more than this.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to calls that cost money.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the winner of a run on new inputs."""
    from tunewise.answering import answered
    from tunewise.cli.documents import json_text
    from tunewise.inputs import read_inputs

    given = read_inputs(inputs, sys.stdin)
    asked = [row for _, row in given]
    found = answered(run, asked, rung=rung, max_usd=max_usd, yes=yes, confirm=_agree_at_terminal)
    answers: list[dict[str, Any]] = []
    try:
        for (text, _), (request, reply) in zip(given, found, strict=True):
            row = {"input": text, "output": reply.text, "status": reply.status, "finish": reply.finish}
            if "passages" in request.tag:
                row["passages"] = request.tag["passages"]
            if reply.error:
                row["error"] = reply.error
            answers.append(row)
            if not as_json:
                print(json_text(row, indent=None), flush=True)
            elif len(answers) % 50 == 0:
                print(f"{len(answers)} of {len(given)} answered", file=sys.stderr)
    finally:
        if as_json and answers:  # also where a cap or a failure ends it: what came is paid for
            print_json(answers)
    if any(row["status"] == "errored" for row in answers):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: AsJson = False,
) -> None:
    """Print the decision of a run and where its page lies."""
    from tunewise.cli.tables import print_decision
    from tunewise.inputs import read_decision

    decision = read_decision(run)
    if as_json:
        print_json(decision)
    else:
        print_decision(decision, run)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that can be used and where they lie."""
    from tunewise.cli.tables import print_models
    from tunewise.models.embedded import embedded_facts

    facts = embedded_facts()
    found = [{**asdict(facts), "folder": str(facts.folder)}]
    if as_json:
        print_json(found)
    else:
        print_models(found)


app.command()(score)
app.command()(advise)
app.command()(plan)
app.command()(estimate)
app.command()(bench)
app.command()(train)
app.command()(export)


def _names(rungs: str | None) -> list[str] | None:
    if rungs is None:
        return None
    names = [name.strip() for name in rungs.split(",") if name.strip()]
    if not names:
        raise SettingError("--rungs: no rung was named; leave it out to have all of them tried")
    return names


def _ask_at_terminal(plan: "Plan") -> bool:
    """A yes from a person; without a terminal the answer is no."""
    if not sys.stdin.isatty():
        return False
    from tunewise.cli.tables import print_plan

    print_plan(plan, to_stderr=True)  # standard output may be on its way to a file
    return typer.confirm("Go on?", default=False, err=True)


def _agree_at_terminal(said: str) -> bool:
    """A yes to what calls would cost; without a terminal, or where it gives the inputs, the answer is no."""
    return sys.stdin.isatty() and typer.confirm(f"{said}. Go on?", default=False, err=True)


__all__ = ["UserError", "app", "main"]
