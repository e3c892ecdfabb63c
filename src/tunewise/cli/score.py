"""``tunewise score``: outputs that exist already -> figures with intervals, or a paired comparison."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.documents import print_json
from tunewise.errors import SettingError

if TYPE_CHECKING:
    from tunewise.evidence.intervals import Figure
    from tunewise.scoring.compare import Comparison
    from tunewise.scoring.score import ScoreReport

SHOWN_FAILURES = 10


def score(
    outputs: Annotated[
        list[Path],
        typer.Argument(metavar="OUTPUTS...", help="JSONL with output, reference, id; two with --compare."),
    ],
    metric: Annotated[str | None, typer.Option(help="accuracy, exact, json_fields, rouge_l, ...")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE of the metric, such as tolerance=0.01; repeatable.")
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(help="One of the closed set for accuracy; repeatable.")
    ] = None,
    schema: Annotated[Path | None, typer.Option(help="JSON Schema for json_schema.")] = None,
    assert_format: Annotated[
        bool, typer.Option("--assert-format", help="Assert format in --schema (date, email, ...) too.")
    ] = False,
    xsd: Annotated[Path | None, typer.Option(help="XML Schema for xml_schema.")] = None,
    style_reference: Annotated[
        list[Path] | None, typer.Option(help="Texts of the voice for style; repeatable.")
    ] = None,
    style_base: Annotated[
        list[Path] | None, typer.Option(help="The base model's texts, to tell the voice from; repeatable.")
    ] = None,
    task: Annotated[
        Path | None, typer.Option(help="Take metric, options and output forms from this task file.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Is the second file better than the first, item by item?")
    ] = False,
    margin: Annotated[float, typer.Option(help="With --compare: 'not worse' means by at most this.")] = 0.02,
    seed: Annotated[int, typer.Option(help="With --compare: of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Score outputs with the metrics of decide, or compare two files of outputs."""
    from tunewise.scoring.compare import compare as compare_files
    from tunewise.scoring.score import score as score_file

    if len(outputs) != (2 if compare else 1):
        wanted = "two files (a, then b)" if compare else "one file; two are compared with --compare"
        raise SettingError(f"tunewise score: {wanted} expected, got {len(outputs)}")
    settings: dict[str, Any] = {
        "options": dict(_pair(text) for text in option or []),
        "choices": tuple(choice or ()),
        "schema": schema,
        "assert_format": assert_format,
        "xsd": xsd,
        "style_references": tuple(style_reference or ()),
        "style_bases": tuple(style_base or ()),
        "task": _task(task),
    }
    if compare:
        compared = compare_files(outputs[0], outputs[1], metric, margin=margin, seed=seed, **settings)
        print_json(compared.to_json()) if as_json else _print_comparison(compared)
        return
    report = score_file(outputs[0], metric, **settings)
    print_json(report.to_json()) if as_json else _print_report(report)


def _task(path: Path | None) -> Any:
    if path is None:
        return None
    from tunewise.task import load_task

    return load_task(path)


def _pair(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise SettingError(f"--option: KEY=VALUE was expected, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _print_report(report: "ScoreReport") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    _line(console, f"{report.file}: {report.rows} rows, metric {report.metric}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("figure", "mean", "95 % interval", "n", "method"):
        table.add_column(heading, no_wrap=True)
    for name, figure in {report.metric: report.quality, **report.figures}.items():
        table.add_row(*_cells(name, figure))
    console.print(table)
    for name, value in report.summary.items():
        said = f"{value:.3f}" if isinstance(value, float) else "undefined" if value is None else str(value)
        _line(console, f"{name}: {said}")
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(report.statuses.items()))
    _line(console, f"statuses: {statuses or 'none'}")
    for name, figure in {report.metric: report.quality, **report.figures}.items():
        if figure.why:
            _line(console, f"{name}: {figure.why}")
    if not report.failures:
        return
    _line(console, f"{len(report.failures)} below 1, the worst first:")
    for failure in report.failures[:SHOWN_FAILURES]:
        value = failure.status if failure.value is None else f"{failure.value:.2f}"
        name = f" ({failure.id})" if failure.id else ""
        _line(console, f"  line {failure.line}{name}: {value}: {failure.why}")
    if len(report.failures) > SHOWN_FAILURES:
        _line(console, f"  ... and {len(report.failures) - SHOWN_FAILURES} more, all with --json")


def _cells(name: str, figure: "Figure") -> tuple[str, str, str, str, str]:
    mean = "undefined" if figure.estimate is None else f"{figure.estimate:.3f}"
    between = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
    return name, mean, between, str(figure.n), figure.method


def _line(console: Any, text: str, style: str | None = None) -> None:
    from tunewise.cli.terminal import one_line

    console.print(one_line(text), style=style, soft_wrap=True, markup=False, highlight=False)


def _print_comparison(found: "Comparison") -> None:
    from rich.console import Console

    console, paired = Console(), found.paired
    _line(console, found.sentence, "bold")
    _line(console, f"a: {found.a}: {paired.mean_a:.3f} {found.metric}")
    _line(console, f"b: {found.b}: {paired.mean_b:.3f} {found.metric}")
    between = f"95 % interval {paired.low:+.3f} to {paired.high:+.3f}"
    _line(console, f"b - a: {paired.difference:+.3f}, {between} ({paired.method})")
    if paired.p is not None:
        _line(
            console,
            f"right for both {paired.both}, for a alone {paired.only_a}, for b alone {paired.only_b},"
            f" for neither {paired.neither}; McNemar p = {paired.p:.3g}",
        )
    _line(console, f"{found.common} items in common, matched by {found.matched_by}")
    sides = (("only in a", found.only_in_a), ("only in b", found.only_in_b), ("errored", found.errored))
    for name, keys in sides:
        if keys:
            more = f", ... and {len(keys) - 10} more (all with --json)" if len(keys) > 10 else ""
            _line(console, f"{name}: {len(keys)} left out: {', '.join(keys[:10])}{more}")
