"""``tunewise train``: parse, call, print."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.consoles import table_console
from tunewise.cli.documents import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunewise.tuning import Shown, TrainingRun
    from tunewise.tuning_compared import MethodComparison

TaskFile = Annotated[Path, typer.Argument(metavar="TASK", help="The task file (YAML).")]


def train(
    task: TaskFile,
    method: Annotated[
        str | None, typer.Option(help="lora, qlora or full; default: tune.method, else lora.")
    ] = None,
    stage: Annotated[
        str,
        typer.Option(help="sft: tuning on the train part; cpt: reading the task's documents; cpt+sft: both."),
    ] = "sft",
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
    compare: Annotated[
        str | None, typer.Option(help="Methods to compare, e.g. full,lora,qlora: one measured table.")
    ] = None,
    rates: Annotated[int, typer.Option(help="With --compare: rates to choose from on selection.")] = 3,
    rate_rows: Annotated[
        int, typer.Option(help="With --compare: rates are tried for one epoch on so many rows; 0: in full.")
    ] = 128,
    general: Annotated[
        Path | None,
        typer.Option(help="With --compare: general rows whose loss is measured; default: the mix's."),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Train on 25 and 50 % of the rows too: would more help?")
    ] = False,
    mlflow: Annotated[
        str | None,
        typer.Option(help="Write loss and figures to this MLflow store, e.g. sqlite:///mlflow.db."),
    ] = None,
    report_to: Annotated[
        str | None, typer.Option(help="Trackers that TRL reports each step to, e.g. wandb,tensorboard.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address of the first node.")] = None,
    guard: Annotated[
        str | None, typer.Option(help="Forgetting guard: on, full (no time budget) or off.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Tune a model on the task's train part and check the result."""
    from tunewise import tuning as package
    from tunewise.cli.terminal import progress_for
    from tunewise.training.launch import Launch

    chosen: dict[str, Any] = {"method": method, "stage": stage, "seed": seed, "guard": guard}
    launch = Launch(processes, nodes, strategy, host)  # type: ignore[arg-type]
    if show:
        shown = package.show(task, rows=rows, **chosen)
        print_json(shown.to_json()) if as_json else print_shown(shown)
        return
    if compare is not None:
        refuse_beside_compare(
            {
                "--method": method is not None, "--stage": stage != "sft", "--curve": curve,
                "--mlflow": mlflow is not None, "--report-to": report_to is not None, "--dry-run": dry_run,
                "--processes": processes != 1, "--nodes": nodes != 1, "--strategy": strategy != "ddp",
                "--host": host is not None, "--guard": guard is not None,
            }
        )  # fmt: skip
        tried = {"rates": rates, "rate_rows": rate_rows, "general": general}
        show_comparison(task, listed(compare), as_json, out=out, seed=seed, **tried)
        return
    refuse_without_compare(
        {"--rates": rates != 3, "--rate-rows": rate_rows != 128, "--general": general is not None}
    )
    if dry_run:
        plan = package.launch_command(task, out=out, launch=launch, **chosen)
        print_json(plan) if as_json else print_plan(plan)
        return
    with progress_for(sys.stderr) as progress:
        run = package.train(
            task, out=out, curve=curve, launch=launch, mlflow=mlflow, report_to=listed(report_to or ""),
            progress=progress, **chosen,
        )  # fmt: skip
    print_json(run.to_json()) if as_json else print_run(run)


def show_comparison(task: Path, methods: "Sequence[str]", as_json: bool, **options: Any) -> None:
    """Train the methods and print their table. options: as ``compare_methods`` has them."""
    from tunewise.cli.terminal import progress_for
    from tunewise.tuning_compared import compare_methods

    with progress_for(sys.stderr) as progress:
        table = compare_methods(task, methods, progress=progress, **options)
    print_json(table.to_json()) if as_json else print_comparison(table)


def listed(text: str) -> list[str]:
    """The names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def refuse_beside_compare(given: "Mapping[str, bool]") -> None:
    """Raise SettingError for options that --compare does not know: ignored, they would mislead."""
    from tunewise.errors import SettingError

    if unknown := [name for name, is_given in given.items() if is_given]:
        raise SettingError(
            f"--compare trains each method in one process, stage sft; leave out {', '.join(unknown)}"
        )


def refuse_without_compare(given: "Mapping[str, bool]") -> None:
    """Raise SettingError for options that only --compare knows."""
    from tunewise.errors import SettingError

    if unknown := [name for name, is_given in given.items() if is_given]:
        raise SettingError(f"{', '.join(unknown)}: only with --compare, which tries rates and measures both")


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
        f"# {plan['stage']}, {plan['method']}, {plan['steps']} steps of {plan['batch_size']} rows, "
        f"{plan['rows_of_each_process']} in each of {plan['processes']} processes ({plan['strategy']}); "
        f"reads {plan['job']}"
    )
    for note in plan["notes"]:
        print(f"# {note}")


def print_run(run: "TrainingRun") -> None:
    """What was trained, where it lies, how it does on selection."""
    facts = run.facts
    reading = facts if facts["stage"] == "cpt" else facts.get("cpt")
    if reading is not None:
        print_reading(reading)
    if facts["stage"] == "cpt":
        print(f"{run.method} on {run.base}: {run.folder}")
        return
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
    if "learning_curve" in facts:
        print_curve(facts["learning_curve"])
    for cause in run.causes:
        print(f"  known cause of forgetting: {cause['says']}")
    if guard := facts.get("guard"):
        from tunewise.cli.guard_table import print_rung

        print_rung(table_console(highlight=False), run.method, guard)


def print_curve(curve: "Mapping[str, Any]") -> None:
    """Quality over train rows, or what it would cost to know."""
    if "not_measured" in curve:
        print(f"  {curve['not_measured']}")
        return
    points = ", ".join(f"{p['quality']:.3f} with {p['rows']} rows" for p in curve["points"])
    print(f"  learning curve on {curve['items']} selection items: {points}")
    print(f"  {curve['says']}")


def print_reading(facts: "Mapping[str, Any]") -> None:
    """What continual pre-training read and did, and whether its gate opened."""
    print(
        f"read {facts['train_tokens']:,} tokens of {facts['documents']:,} documents, {facts['epochs']:g} "
        f"epochs: {facts['steps']} steps, {facts['seconds']:.0f} s"
    )
    for name, found in facts["perplexity"].items():
        if found is None:
            print(f"  perplexity on {name} text: not measured, {facts['general_missing']}")
        else:
            print(f"  perplexity on held-out {name} text: {found['before']:.2f} -> {found['after']:.2f}")
    print(f"  gate {'open' if facts['passed'] else 'closed'}: {facts['why']}")


def _loss(value: float | None) -> str:
    """A held-out loss in words; of weights that the guard made weaker none was measured."""
    return "not measured" if value is None else f"{value:.3f}"


def print_comparison(found: "MethodComparison") -> None:
    """One table, what ten tasks take, the claims beside what was measured."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=f"{found.task}: {found.metric}", title_justify="left")
    for heading in (
        "method",
        "rate",
        "trained",
        "memory",
        "seconds",
        "tokens/s",
        "MB",
        "quality",
        "difference",
    ):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for row in found.rows:
        memory = "" if row.memory_bytes is None else f"{row.memory_bytes / 2**30:.2f} GiB"
        other = row.difference
        table.add_row(
            row.method,
            f"{row.learning_rate:g}",
            f"{row.trainable_parameters:,} ({row.share:.2%})",
            memory,
            f"{row.seconds:.0f}",
            f"{row.tokens_per_second or 0:.0f}",
            f"{row.checkpoint_bytes / 1e6:.1f}",
            "" if row.quality is None else f"{row.quality:.3f} (n {row.items})",
            "" if other is None else f"{other.difference:+.3f} [{other.low:+.3f}, {other.high:+.3f}]",
        )
    console = table_console()
    console.print(table)
    if found.general_loss:
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in found.general_loss.items())
        print(f"loss on general rows, nats per token: {losses}")
    for where, sizes in (("on disk", found.ten_tasks), ("in memory", found.ten_tasks_memory)):
        ten = ", ".join(f"{method} {size / 1e6:.0f} MB" for method, size in sizes.items())
        print(f"ten tasks {where}, base included: {ten}")
    tried = {
        row.method: ", ".join(
            f"{t['learning_rate']:g}: {t['selection_score']:.3f}, loss {_loss(t['held_out_loss'])}"
            for t in row.tried
            if t["selection_score"] is not None
        )
        for row in found.rows
    }
    print(f"rates, each for one epoch on {found.rate_rows} rows" if found.rate_rows else "rates, in full")
    for method, figures in tried.items():
        print(f"  {method}: {figures}")
    if found.swap_seconds is not None:
        print(f"to another adapter on a loaded base: {found.swap_seconds:.2f} s")
    for claim, value in found.claims.items():
        print(f"  {claim}; {value}")
