"""``tunewise bench``: general benchmarks of a model, and what a second model lost against it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.benchmarks import tasks
from tunewise.benchmarks.comparison import Comparison, compare, pooled
from tunewise.benchmarks.data import items_of, lies_in
from tunewise.benchmarks.data import left_out as left_out_rows
from tunewise.benchmarks.endpoint_scorer import EndpointScorer, NotOffered
from tunewise.benchmarks.figures import Figure
from tunewise.benchmarks.following import FollowedOutcome, ask
from tunewise.benchmarks.item import Benchmark, Item
from tunewise.benchmarks.kept import KeptAnswers
from tunewise.benchmarks.scorer import LocalScorer, Outcome
from tunewise.benchmarks.scores import at_chance, chance, figures, rights
from tunewise.errors import DataError, SettingError
from tunewise.progress import Progress, Silent
from tunewise.task import EndpointSpec

AnyScorer = LocalScorer | EndpointScorer
FEW = 100  # below that many items an interval is wider than most differences that matter


@dataclass(frozen=True, slots=True)
class Measured:
    """One benchmark of one model. outcome: item by item; guessing: what chance gives, None where nothing can
    be guessed; guesses: the interval of the main figure does not exclude chance."""

    benchmark: Benchmark
    outcome: Outcome | FollowedOutcome
    figures: dict[str, Figure]
    guessing: float | None
    guesses: bool

    @property
    def main(self) -> Figure:
        """The figure that comparisons use."""
        return self.figures[self.benchmark.main]

    def notes(self) -> list[str]:
        """What a reader of the figures has to know."""
        found = []
        n = len(self.outcome.items)
        if self.guesses:
            found.append(
                f"not above chance ({self.guessing:.2f}), so that a drop cannot be seen; hellaswag, piqa, "
                "arc_easy and lambada suit small models"
            )
        if self.outcome.errored:
            shown = ", ".join(self.outcome.errored[:3]) + (", ..." if len(self.outcome.errored) > 3 else "")
            found.append(
                f"{len(self.outcome.errored)} of {n + len(self.outcome.errored)} items got no answer and are "
                f"in no figure ({shown})"
            )
        if self.outcome.cut:
            shown = ", ".join(self.outcome.cut[:3]) + (", ..." if len(self.outcome.cut) > 3 else "")
            found.append(
                f"{len(self.outcome.cut)} of {n} items do not fit into the model and were cut at the "
                f"left, where the examples stand ({shown})"
            )
        if n < FEW:
            found.append(f"only {n} items: read the interval, not the figure")
        return found

    def to_json(self) -> dict[str, Any]:
        """Figures and conditions; items by id are left out."""
        return {
            "benchmark": self.benchmark.name,
            "about": self.benchmark.about,
            "shots": self.benchmark.shots,
            "n": len(self.outcome.items),
            "main": self.benchmark.main,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "chance": self.guessing,
            "at_chance": self.guesses,
            "cut": list(self.outcome.cut),
            "errored": list(self.outcome.errored),
            "known_before": self.outcome.found,
            "seconds": self.outcome.seconds,
            "notes": self.notes(),
        }


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All benchmarks of one model; with a second model, its benchmarks and the paired comparison."""

    model: str
    adapter: str | None
    measured: list[Measured]
    compared_with: str | None = None
    second: list[Measured] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    pooled: Comparison | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document that ``--json`` prints."""
        return {
            "model": self.model,
            "adapter": self.adapter,
            "benchmarks": [measured.to_json() for measured in self.measured],
            "compared_with": self.compared_with,
            "second": [measured.to_json() for measured in self.second],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "pooled": self.pooled.to_json() if self.pooled else None,
            "left_out": [{"benchmark": name, "why": why} for name, why in self.left_out],
        }


def bench(
    model: str | Path,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    tasks: Sequence[str] | None = None,
    data: Path | None = None,
    limit: int | None = None,
    compare_with: str | Path | None = None,
    compare_name: str | None = None,
    keep: bool = True,
    progress: Progress | None = None,
) -> BenchReport:
    """General benchmarks of a local model, scored as lm-evaluation-harness scores them.

    model: ``embedded``, a folder, a hub id, or the address of an endpoint that gives log-probabilities, with
    the model's ``name`` there; adapter: a LoRA adapter on local weights. tasks: names, or paths of .jsonl
    files; None: every benchmark whose rows lie in ``data``. data: a folder of rows; None: the hub. limit: at
    most so many items of each (``data.spread``). compare_with: a second model, or an adapter on ``model``;
    the comparison says what it lost against the first. compare_name: the second model's name at an endpoint
    (None: ``name``); alone, another model at the first one's address. keep: use and fill the scores in the
    user's cache.

    Raises SettingError for an unknown benchmark or a model that cannot be used, DataError for rows that are
    not there or not what they should be, WorldError for a model whose log-probabilities are no numbers.
    """
    if limit is not None and limit < 1:
        raise SettingError(f"limit: expected at least 1 item, got {limit}")
    if compare_with is None and compare_name is not None:
        compare_with = model
    if compare_name is not None and not is_address(compare_with or model):
        raise SettingError(
            f"--compare-name names a model at an endpoint, and {compare_with or model} is none: leave it out"
        )
    told = progress or Silent()
    chosen, left_out = chosen_items(tasks, data, limit)  # first: its mistakes cost no download
    scorer = scorer_of(model, adapter, name, keep)
    other = None
    if compare_with is not None:
        if (str(compare_with), compare_name or name) == (str(model), name) and is_address(model):
            raise SettingError(
                f"{model}: {name} would be compared with itself; say with --compare-name which other model"
            )
        other = second_scorer(model, compare_with, compare_name or name, keep)
    first = measure(scorer, chosen, told, left_out if tasks is None else None)
    named = str(adapter) if adapter else None
    if other is None:
        return BenchReport(str(model), named, first, left_out=left_out)
    items = {benchmark.name: asked for benchmark, asked in chosen}
    second = measure(other, [(one.benchmark, items[one.benchmark.name]) for one in first], told)
    comparisons = [
        compare(a.benchmark, *answered_by_both(a, b), a.guessing, a.guesses)
        for a, b in zip(first, second, strict=True)
    ]
    said = str(compare_with) if compare_name is None else f"{compare_name} at {compare_with}"
    return BenchReport(str(model), named, first, said, second, comparisons, pool(first, second), left_out)


def is_address(model: str | Path) -> bool:
    """Whether a model is named by the address of its endpoint."""
    return str(model).startswith(("http://", "https://"))


def scorer_of(model: str | Path, adapter: Path | None, name: str | None, keep: bool) -> AnyScorer:
    """Local weights, or an endpoint where the model is an address. Raises SettingError."""
    if not is_address(model):
        return LocalScorer(model, adapter, keep=keep)
    if adapter is not None or name is None:
        raise SettingError(f"{model}: an endpoint takes the name of its model (--name), and no adapter")
    return EndpointScorer(EndpointSpec(endpoint=str(model), name=name))


def second_scorer(model: str | Path, compare_with: str | Path, name: str | None, keep: bool) -> AnyScorer:
    """The scorer of the second model: an adapter on the first one's base, or a model of its own."""
    if Path(compare_with, "adapter_config.json").is_file():
        return scorer_of(model, Path(compare_with), name, keep)
    return scorer_of(compare_with, None, name, keep)


def answered_by_both(first: Measured, second: Measured) -> tuple[list[Any], list[Any]]:
    """The outcomes of both models on the items that both answered, in one order."""
    common = {item.id for item in first.outcome.items} & {item.id for item in second.outcome.items}
    one, other = ([item for item in model.outcome.items if item.id in common] for model in (first, second))
    return one, other


def pool(first: Sequence[Measured], second: Sequence[Measured]) -> Comparison | None:
    """All benchmarks of right answers on which the first model can lose something, as one.

    Left out are those at chance, those of which it has nothing right, and the same questions asked a second
    time with examples: an item that counts twice would make the interval narrower than it is.
    """
    outcomes: dict[str, tuple[list[int], list[int]]] = {}
    seen = set()
    for a, b in zip(first, second, strict=True):
        if a.benchmark.kind == "text" or a.guesses or not a.main.estimate or a.benchmark.files in seen:
            continue
        seen.add(a.benchmark.files)
        one, other = answered_by_both(a, b)
        main = a.benchmark.main
        outcomes[a.benchmark.name] = rights(a.benchmark, one)[main], rights(b.benchmark, other)[main]
    return pooled(outcomes)


def rows_left_out(benchmark: Benchmark, data: Path | None) -> list[tuple[str, str]]:
    """What is said of rows that cannot be asked."""
    counted = left_out_rows(benchmark, data)
    if counted is None or counted[0] == 0:
        return []
    why = (
        "the arguments of an instruction are not there or cannot be used, or checking it needs a model "
        "of its own"
    )
    return [(benchmark.name, f"{counted[0]} of {counted[1]} rows: {why}")]


def chosen_items(
    names: Sequence[str] | None, data: Path | None, limit: int | None
) -> tuple[list[tuple[Benchmark, list[Item]]], list[tuple[str, str]]]:
    """Benchmarks with their items, and those left out with the reason. Rows of named ones must be there."""
    if names is not None:
        if not names:
            raise SettingError(f"expected at least one benchmark of {', '.join(tasks.NAMES)}")
        found = [(b, items_of(b, data, limit)) for b in map(tasks.find, dict.fromkeys(names))]
        if twice := sorted({b.name for b, _ in found if [c.name for c, _ in found].count(b.name) > 1}):
            raise SettingError(f"two benchmarks are called {twice[0]!r}; rename one of the files")
        return found, [note for b, _ in found for note in rows_left_out(b, data)]
    if data is None:
        raise SettingError(
            "say which benchmarks (--tasks hellaswag,arc_easy), or in which folder rows lie (--data)"
        )
    chosen, left_out = [], []
    for benchmark in tasks.ALL:
        try:
            chosen.append((benchmark, items_of(benchmark, data, limit)))
            left_out += rows_left_out(benchmark, data)
        except DataError as error:
            if lies_in(benchmark, data):
                raise  # rows that are there and cannot be read are a mistake, not an absence
            left_out.append((benchmark.name, str(error)))
    if not chosen:
        raise DataError(f"{data}: no rows of any benchmark are there. {left_out[0][1]}")
    return chosen, left_out


def follow(scorer: AnyScorer, prompts: Sequence[Any], told: Callable[[int, int], None]) -> FollowedOutcome:
    """Prompts answered by the scorer's model; the weights that score are let go of first."""
    scorer.close()
    keeps = isinstance(scorer, LocalScorer) and scorer.kept is not None  # a host may change what answers
    kept = KeptAnswers(scorer.door.fingerprint) if keeps else None
    outcome = ask(scorer.door, prompts, told, kept=kept)
    scorer.close()
    return outcome


def measure(
    scorer: AnyScorer,
    chosen: Sequence[tuple[Benchmark, list[Item]]],
    progress: Progress,
    left_out: list[tuple[str, str]] | None = None,
) -> list[Measured]:
    """Each benchmark in turn; the weights are let go of afterwards.

    left_out: takes what an endpoint cannot be asked, with the reason; None: that is raised. It is raised as
    well where nothing else is left.
    """
    found: list[Measured] = []
    for benchmark, items in chosen:

        def told(done: int, total: int, name: str = benchmark.name) -> None:
            progress.tell("building", rung=name, text="items", done=done, total=total)

        instructions = benchmark.kind == "instructions"
        try:
            outcome = follow(scorer, items, told) if instructions else scorer.score(items, told)
        except NotOffered as error:
            last = benchmark is chosen[-1][0]
            if left_out is None or (last and not found):
                raise
            left_out.append((benchmark.name, str(error)))
            continue
        guessing = chance(benchmark, items)
        every = figures(benchmark, outcome.items)
        found.append(
            Measured(benchmark, outcome, every, guessing, at_chance(every[benchmark.main], guessing))
        )
    scorer.close()
    return found
