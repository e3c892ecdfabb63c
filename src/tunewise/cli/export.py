"""``tunewise export``: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from tunewise.cli.documents import print_json


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder of decide or train.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Add the adapter to its base: a whole model.")
    ] = False,
    rung: Annotated[str | None, typer.Option(help="Which, where several were tuned.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default RUN/export.")] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="An adapter exported before, to be served on the same base; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Write what a run tuned in a form that other programs load."""
    from tunewise.exporting import export as export_run

    done = export_run(run, rung=rung, merge=merge, out=out, beside=beside or ())
    if as_json:
        print_json(done.to_json())
        return
    print(f"{done.kind} of {done.base}: {done.folder} ({done.bytes / 2**20:.1f} MiB)")
    for problem in done.problems:
        print(f"  vLLM would not serve it: {problem}")
    if done.serve is not None:
        print(f"  {done.serve}")
