"""Would more data help? A tuned rung again on a quarter and on half of its train rows.

The smaller sets are prefixes of one random order, so that each holds the one before; rate, epochs and choice
of the checkpoint are those of the whole set, and every point answers the same selection items. With equal
epochs fewer rows are fewer steps, as they would be with fewer rows in hand.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewise.data import Example
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.paired import Paired, compare_binary, compare_graded
from tunewise.progress import Progress
from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Workbench
from tunewise.rungs.search import selection_items
from tunewise.rungs.tuned_settings import FEWEST_ROWS
from tunewise.training import checkpoints

SHARES = (0.25, 0.5)
ITEMS = 200  # selection items that every point answers, at most
MARGIN = 0.02
FILE = "curve.json"
Build = Callable[[Workbench], PromptCandidate]


def outlook_epochs(curve: bool) -> float:
    """Passes over the train rows that a training with its curve takes, as a multiple of one without."""
    return 1.0 + (sum(SHARES) if curve else 0.0)


def not_measured(facts: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the place of the curve, with what it would cost."""
    seconds = sum(SHARES) * facts["seconds"]
    said = (
        "whether more rows would help was not measured; training.curve: true trains on 25 and 50 % of the "
        f"rows too, about {seconds:.0f} s more"
    )
    return {"not_measured": said}


def learning_curve(bench: Workbench, home: Path, whole: PromptCandidate, build: Build) -> dict[str, Any]:
    """The points at 25, 50 and 100 %, the paired difference of the last two, and what it says; JSON-able.

    home: the folder of the whole build. build: builds the rung on a workbench. A finished curve is found
    again. Raises what ``build`` raises.
    """
    facts = whole.facts()
    items = selection_items(bench, ITEMS)
    depends = {"of": facts, "items": [item.key for item in items]}
    mark = hashlib.sha256(repr(depends).encode()).hexdigest()
    found = checkpoints.read_json(home / FILE)
    if found is not None and found["mark"] == mark:
        return {name: value for name, value in found.items() if name != "mark"}
    if (why := weakened(facts)) is not None:
        return {"not_measured": f"whether more rows would help is unknown: {why}"}
    if not items:
        return {"not_measured": "whether more rows would help is unknown: there are no selection items"}
    rows = shuffled(bench)
    if (fewest := round(SHARES[0] * len(rows))) < FEWEST_ROWS:
        said = f"whether more rows would help is unknown: a quarter of {len(rows)} rows is {fewest}, too few"
        return {"not_measured": said}
    points, scores = [], []
    for share in SHARES:
        some = tuple(rows[: round(share * len(rows))])
        folder = home / "curve" / f"{share:.0%}"
        candidate = build(part_of(bench, some, folder))
        scores.append(scores_of(bench, candidate, items))
        points.append(point(share, len(some), scores[-1], candidate.facts()))
        candidate.door.close()
    scores.append(scores_of(bench, whole, items))
    points.append(point(1.0, len(rows), scores[-1], facts))
    gain = difference(bench, scores[-2], scores[-1])
    curve = {"items": len(items), "points": points, "gain": asdict(gain), "says": says(gain)}
    checkpoints.write_json(home / FILE, {"mark": mark, **curve})
    shutil.rmtree(home / "curve", ignore_errors=True)
    return curve


def weakened(facts: Mapping[str, Any]) -> str | None:
    """Why the whole build is no point of a curve, whose parts are trained to their end and not repaired."""
    guard = facts.get("guard") or {}
    if guard.get("stopped_at") is not None or guard.get("kept", {}).get("scale", 1.0) < 1:
        return "the guard ended the training or weakened what it made, and parts of the rows are not guarded"
    return None


def shuffled(bench: Workbench) -> list[Example]:
    """The train rows in an order that only the seed decides."""

    def place(example: Example) -> str:
        return hashlib.sha256(f"curve {bench.seed} {example.key}".encode()).hexdigest()

    return sorted(bench.parts.train, key=place)


def part_of(bench: Workbench, rows: Sequence[Example], folder: Any) -> Workbench:
    """The workbench with these train rows, without guard and without a curve of its own."""
    training = bench.task.training.model_copy(update={"curve": False})
    task = bench.task.model_copy(update={"training": training, "guard": None})
    parts, aside = replace(bench.parts, train=tuple(rows)), Aside(bench.progress, len(rows))
    return replace(bench, task=task, parts=parts, folder=folder, progress=aside)


class Aside:
    """Tells of the steps of a part's training as of something tried. ``trains`` keeps clock and caps."""

    def __init__(self, progress: Progress, rows: int) -> None:
        self.progress, self.rows = progress, rows

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        if event != "training":
            self.progress.tell(event, **facts)
            return
        text = f"learning curve, {self.rows} rows: step {facts['step']} of {facts['steps']}"
        self.progress.tell("building", rung=facts.get("rung"), text=text, trains=True)


def scores_of(bench: Workbench, candidate: PromptCandidate, items: Sequence[Example]) -> list[float]:
    """The task's metric for each item; 0 where no answer came."""
    answers = bench.ask(candidate.door, [candidate.request(item) for item in items], "curve")
    values = [bench.score(item, answer).value for item, answer in zip(items, answers, strict=True)]
    return [0.0 if value is None else value for value in values]


def point(share: float, rows: int, scores: Sequence[float], facts: Mapping[str, Any]) -> dict[str, Any]:
    """One point of the curve."""
    return {"share": share, "rows": rows, "quality": fmean(scores), "seconds": facts["seconds"]}


def difference(bench: Workbench, a: Sequence[float], b: Sequence[float]) -> Paired:
    """The difference b - a on the same items."""
    compare = compare_binary if metric_of(bench.task).kind == "binary" else compare_graded
    return compare(a, b, MARGIN)


def says(gain: Paired) -> str:
    """Would more rows help? From the gain of the last doubling, in a sentence."""
    figures = f"{gain.difference:+.3f}, between {gain.low:+.3f} and {gain.high:+.3f} on {gain.n} items"
    if gain.low > 0:
        return f"More rows would probably help: the last doubling gained {figures}."
    if gain.high <= MARGIN:
        return f"More rows would hardly help: the last doubling gained {figures}."
    return f"Whether more rows would help cannot be told: the last doubling gained {figures}."
