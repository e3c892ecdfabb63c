"""``tunewise train --compare``: methods on the same rows, each at the best of a few rates."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewise.errors import SettingError
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.paired import Paired, compare_binary, compare_graded
from tunewise.progress import Progress, Silent
from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Workbench
from tunewise.tuning import prepare

if TYPE_CHECKING:
    from tunewise.training.methods import Method

# Around the method's default, so that methods and not rates are compared; a factor of three is the usual
# step of a coarse search.
RATE_FACTORS = (1.0, 1 / 3, 3.0)
ITEMS = 200  # selection items that the chosen candidates answer
MARGIN = 0.03  # "within 1-3 % of full tuning", the common claim, as a difference of the metric
SCHEDULE = "cosine"  # of all methods, where the task names none
TASKS = 10
CLAIMS = {
    "memory": "tuning with adapters takes a tenth of the memory of full tuning",
    "share": "adapters train 0.1-2 % of the parameters",
    "quality": "adapters come within 1-3 % of full tuning",
    "bytes": "adapters take 50-200 MB at 7B",
}


@dataclass(frozen=True)
class MethodRow:
    """One method at its best rate. Sizes in bytes.

    memory_bytes: peak of tensors in the steps that were watched.
    scores: one value per selection item. difference: against the first method, None for itself.
    """

    method: str
    learning_rate: float
    tried: tuple[Mapping[str, Any], ...]
    trainable_parameters: int
    share: float
    memory_bytes: int | None
    seconds: float
    tokens_per_second: float | None
    checkpoint_bytes: int
    quality: float | None
    items: int
    held_out_loss: float | None
    difference: Paired | None
    scores: tuple[float, ...]


@dataclass(frozen=True)
class MethodComparison:
    """All methods.

    ten_tasks: disk of ten adapters beside one base against ten models; swap_seconds: to another
    adapter on a loaded base, None without an adapter. claims: the common claims beside what was measured.
    """

    task: str
    metric: str
    rows: tuple[MethodRow, ...]
    base_bytes: int
    ten_tasks: Mapping[str, int]
    swap_seconds: float | None
    claims: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_methods(
    path_or_task: Any,
    methods: Sequence[str],
    *,
    out: str | Path | None = None,
    seed: int = 0,
    rates: int = len(RATE_FACTORS),
    progress: Progress | None = None,
) -> MethodComparison:
    """Train each method at ``rates`` rates (1 to 3, the default first), keep the best on selection, compare.

    The same call on the same folder goes on where it ended. Raises as ``tuning.train``.
    """
    if not 1 <= rates <= len(RATE_FACTORS):
        raise SettingError(f"one to {len(RATE_FACTORS)} rates were expected, got {rates}")
    if len(set(methods)) != len(methods) or len(methods) < 2:
        raise SettingError(f"two or three different methods were expected, got {', '.join(methods)}")
    progress = progress or Silent()
    found: list[MethodRow] = []
    adapter: Path | None = None
    for name in methods:
        method, bench, _ = prepare(path_or_task, name, "sft", out, seed, progress)
        best, tried = best_rate(bench, method, rates)
        row = measured(bench, method, best, tried, found[0] if found else None)
        found.append(row)
        adapter = best.adapter if method != "full" else adapter
    base = base_folder(bench)
    base_bytes = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return MethodComparison(
        task=bench.task.name,
        metric=bench.task.metric,
        rows=tuple(found),
        base_bytes=base_bytes,
        ten_tasks={
            row.method: TASKS * row.checkpoint_bytes + (0 if row.method == "full" else base_bytes)
            for row in found
        },
        swap_seconds=None if adapter is None else swap_seconds(base, adapter),
        claims=claims_beside(found),
    )


def best_rate(bench: Workbench, method: "Method", rates: int) -> tuple[PromptCandidate, list[dict[str, Any]]]:
    """The candidate of the rate with the best score on selection, ties to the lower held-out loss."""
    from tunewise.rungs.tuned import build
    from tunewise.training.methods import DEFAULTS

    built: list[PromptCandidate] = []
    tried: list[dict[str, Any]] = []
    training = bench.task.training
    for factor in RATE_FACTORS[:rates]:
        rate = float(f"{DEFAULTS[method].learning_rate * factor:.1e}")
        settings = training.model_copy(
            update={"learning_rate": rate, "schedule": training.schedule or SCHEDULE}
        )
        own = replace(
            bench,
            task=bench.task.model_copy(update={"training": settings}),
            folder=bench.folder / f"rate-{rate:g}",
        )
        candidate = build(own, method)
        facts = candidate.facts()
        built.append(candidate)
        tried.append(
            {
                "learning_rate": rate,
                "selection_score": facts["selection_score"],
                "held_out_loss": loss_of(facts),
            }
        )
    order = sorted(range(len(built)), key=lambda place: rank_of(tried[place]))
    return built[order[0]], tried


def rank_of(tried: Mapping[str, Any]) -> tuple[float, float]:
    """Sorts better rates first."""
    score, loss = tried["selection_score"], tried["held_out_loss"]
    return (-1.0 if score is None else -score, float("inf") if loss is None else loss)


def loss_of(facts: Mapping[str, Any]) -> float | None:
    """Held-out loss of the chosen checkpoint."""
    step = facts["checkpoint"]["step"]
    loss: float | None = next(row["held_out_loss"] for row in facts["tried"] if row["step"] == step)
    return loss


def measured(
    bench: Workbench,
    method: str,
    best: PromptCandidate,
    tried: Sequence[Mapping[str, Any]],
    first: MethodRow | None,
) -> MethodRow:
    """Answer the selection items with the candidate, and put its figures together."""
    from tunewise.rungs.search import selection_items

    items = selection_items(bench, ITEMS)
    answers = bench.ask(best.door, [best.request(item) for item in items], "selection") if items else []
    best.door.close()
    values = [bench.score(item, answer).value for item, answer in zip(items, answers, strict=True)]
    scores = tuple(0.0 if value is None else value for value in values)
    facts = best.facts()
    size: int = facts["model_bytes"] if method == "full" else facts["adapter_bytes"]
    return MethodRow(
        method=method,
        learning_rate=facts["learning_rate"],
        tried=tuple(tried),
        trainable_parameters=facts["trainable_parameters"],
        share=facts["share"],
        memory_bytes=(facts.get("memory") or {}).get("peak_bytes"),
        seconds=facts["seconds"],
        tokens_per_second=facts["tokens_per_second"],
        checkpoint_bytes=size,
        quality=fmean(scores) if scores else None,
        items=len(scores),
        held_out_loss=loss_of(facts),
        difference=None if first is None or not scores else paired(bench, first.scores, scores),
        scores=scores,
    )


def paired(bench: Workbench, a: Sequence[float], b: Sequence[float]) -> Paired:
    """The difference b - a on the same items."""
    if metric_of(bench.task).kind == "binary":
        return compare_binary(a, b, MARGIN)
    return compare_graded(a, b, MARGIN)


def base_folder(bench: Workbench) -> Path:
    """Where the base's weights lie."""
    from tunewise.rungs.tuned import opened

    door: Any = opened(bench, None)
    folder: Path = door.folder
    return folder


def swap_seconds(base: Path, adapter: Path) -> float:
    """Seconds to load another adapter from disk onto a base in memory and to switch to it."""
    from peft import PeftModel

    from tunewise.models.weights import load_model
    from tunewise.training.recipe import quiet

    with quiet():
        model = PeftModel.from_pretrained(load_model(base), str(adapter), adapter_name="first")
        began = time.perf_counter()
        model.load_adapter(str(adapter), adapter_name="second")
        model.set_adapter("second")
        return time.perf_counter() - began


def claims_beside(rows: Sequence[MethodRow]) -> dict[str, str]:
    """The common claims, each with what was measured; only those that both sides were measured for."""
    full = next((row for row in rows if row.method == "full"), None)
    said = {}
    for row in rows:
        if row.method == "full":
            continue
        shares = f"{row.method} {row.share:.2%}"
        said[f"{row.method}: {CLAIMS['share']}"] = f"measured: {shares}"
        said[f"{row.method}: {CLAIMS['bytes']}"] = (
            f"measured on this base: {row.checkpoint_bytes / 1e6:.1f} MB"
        )
        if full is not None and row.memory_bytes and full.memory_bytes:
            ratio = full.memory_bytes / row.memory_bytes
            said[f"{row.method}: {CLAIMS['memory']}"] = f"measured: 1/{ratio:.2f}"
        if full is not None and row.quality is not None and full.quality is not None:
            gap = full.quality - row.quality
            said[f"{row.method}: {CLAIMS['quality']}"] = f"measured: {gap:+.3f} below full"
    return said
