"""``tunewise train``: parse, call, print."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tunewise.tuning import Shown, TrainingRun

TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help="The task file (YAML).")]


def train(
    task: TaskFile,
    method: Annotated[
        str | None, typer.Option(help="lora, qlora or full; default: tune.method, else lora.")
    ] = None,
    stage: Annotated[str, typer.Option(help="sft: supervised fine-tuning on the train part.")] = "sft",
    out: Annotated[
        Path | None, typer.Option(help="Folder; default runs/NAME/train. The same folder goes on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Order of rows, first weights of an adapter.")] = 0,
    show: Annotated[
        bool, typer.Option("--show", help="Show rendered examples with what is learnt; train nothing.")
    ] = False,
    rows: Annotated[int, typer.Option(help="How many examples --show shows.")] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the exact launch command; train nothing.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Processes (GPUs) on each node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes.")] = 1,
    strategy: Annotated[str, typer.Option(help="With several processes: ddp, fsdp2 or deepspeed.")] = "ddp",
    host: Annotated[str | None, typer.Option(help="Address of the first node.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Tune a model on the task's train part and check the result."""
    from tunewise import tuning as package
    from tunewise.cli.terminal import progress_for
    from tunewise.training.launch import Launch

    chosen: dict[str, Any] = {"method": method, "stage": stage, "seed": seed}
    launch = Launch(processes, nodes, strategy, host)  # type: ignore[arg-type]
    if show:
        shown = package.show(task, rows=rows, **chosen)
        _print(shown.to_json()) if as_json else print_shown(shown)
        return
    if dry_run:
        plan = package.launch_command(task, out=out, launch=launch, **chosen)
        _print(plan) if as_json else print_plan(plan)
        return
    with progress_for(sys.stderr) as progress:
        run = package.train(task, out=out, launch=launch, progress=progress, **chosen)
    _print(run.to_json()) if as_json else print_run(run)


def _print(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_shown(shown: "Shown") -> None:
    """Examples, what is learnt in green (between « and » where there is no colour), checks, causes."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    plain = not console.is_terminal
    for row in shown.examples:
        console.print(f"--- {row.place}: {row.tokens} tokens, {row.loss_tokens} of them learnt", style="dim")
        text = Text()
        for piece in row.pieces:
            said = f"«{piece.text}»" if plain and piece.loss else piece.text
            text.append(said, style="bold green" if piece.loss else "dim")
        console.print(text)
    console.print(
        f"\n{shown.method} on {shown.base}: {shown.rows} rows, {shown.tokens:,} tokens in one pass, "
        f"{shown.loss_tokens:,} of them learnt, the longest row {shown.longest}"
    )
    for said in shown.passed:
        console.print(f"  holds: {said}")
    for note in shown.notes:
        console.print(f"  note: {note}")
    for cause in shown.causes:
        console.print(f"  known cause of forgetting: {cause['says']}")


def print_plan(plan: dict[str, Any]) -> None:
    """The command and what it would do."""
    print(plan["command"])
    print(
        f"# {plan['method']}, {plan['steps']} steps of {plan['batch_size']} rows, "
        f"{plan['rows_of_each_process']} in each of {plan['processes']} processes ({plan['strategy']}); "
        f"reads {plan['job']}"
    )
    for note in plan["notes"]:
        print(f"# {note}")


def print_run(run: "TrainingRun") -> None:
    """What was trained, where it lies, how it does on selection."""
    facts = run.facts
    score = facts["selection_score"]
    said = (
        "not measured (no selection items)" if score is None else f"{score:.3f} on {facts['selection_items']}"
    )
    print(f"{run.method} on {run.base}: {run.folder}")
    print(
        f"  {facts['trainable_parameters']:,} weights trained ({facts['share']:.2%}), "
        f"{facts['steps']} steps, {facts['tokens_per_second'] or 0:.0f} tokens/s, {facts['seconds']:.0f} s"
    )
    print(f"  checkpoint of step {facts['checkpoint']['step']}; selection: {said}")
    held = [row for row in facts["tried"] if row["held_out_loss"] is not None]
    if held:
        losses = ", ".join(f"{row['held_out_loss']:.3f} (step {row['step']})" for row in held)
        print(f"  held-out loss per token: {losses}")
    checks = ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in facts["checks"].items())
    print(f"  checks: {checks}")
    for cause in run.causes:
        print(f"  known cause of forgetting: {cause['says']}")
