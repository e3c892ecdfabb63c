"""``tunewise train --compare``: methods on the same rows, each at the best of a few rates."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from tunewise.errors import RunError, SettingError
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.paired import Paired, compare_binary, compare_graded
from tunewise.progress import Progress, Silent
from tunewise.rungs import learning_curve
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rung import Workbench
from tunewise.training import checkpoints
from tunewise.tuning import prepare

if TYPE_CHECKING:
    from tunewise.training.methods import Method

# Around the method's default, so that methods and not rates are compared; a factor of three is the usual
# step of a coarse search.
RATE_FACTORS = (1.0, 1 / 3, 3.0)
RATE_ROWS = (
    128  # of the train part, for one epoch: what orders the rates is seen early, at a tenth of the time
)
GENERAL_ROWS = 64
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

    general_loss: nats per answer token on general rows, for the base and each method; empty without a file.
    ten_tasks, ten_tasks_memory: bytes on disk and in memory of ten adapters beside one base against ten
    models; swap_seconds: to another adapter on a loaded base, None without an adapter. rate_rows: rows that
    the rates were tried on, 0 for all. claims: the common claims beside what was measured.
    """

    task: str
    metric: str
    rows: tuple[MethodRow, ...]
    base_bytes: int
    general_loss: Mapping[str, float]
    ten_tasks: Mapping[str, int]
    ten_tasks_memory: Mapping[str, int]
    swap_seconds: float | None
    rate_rows: int
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
    rate_rows: int = RATE_ROWS,
    general: str | Path | None = None,
    progress: Progress | None = None,
) -> MethodComparison:
    """Train each method at the best of ``rates`` rates (1 to 3, its default first), and compare.

    The rate is chosen on selection after one epoch on ``rate_rows`` rows; 0: after trainings in full, of
    which the best stands for its method. general: a file of general rows whose loss is measured, by default
    that of ``training.mix``. The same call on the same folder goes on where it ended. Raises as ``train``.
    """
    from tunewise.rungs.tuned_settings import FEWEST_ROWS

    if not 1 <= rates <= len(RATE_FACTORS):
        raise SettingError(f"one to {len(RATE_FACTORS)} rates were expected, got {rates}")
    if len(set(methods)) != len(methods) or len(methods) < 2:
        raise SettingError(f"two or three different methods were expected, got {', '.join(methods)}")
    told = progress or Silent()
    if rate_rows and rate_rows < FEWEST_ROWS:
        raise SettingError(f"rates are tried on {FEWEST_ROWS} rows or more, got {rate_rows}; 0 takes all")

    first = prepare(path_or_task, methods[0], "sft", out, seed, told)[:2]

    def one(name: str) -> tuple["Method", Workbench]:
        return first if name == methods[0] else prepare(path_or_task, name, "sft", out, seed, told)[:2]

    with checkpoints.alone_in(first[1].folder):
        return compared(methods, one, rates, rate_rows, general)


def compared(
    methods: Sequence[str],
    prepared: Callable[[str], tuple["Method", Workbench]],
    rates: int,
    rate_rows: int,
    general: str | Path | None,
) -> MethodComparison:
    """The table, of methods by name that ``prepared`` makes ready; the rest as ``compare_methods``."""
    from tunewise.rungs.tuned import build

    found: list[MethodRow] = []
    adapters: dict[str, Path] = {}
    for name in methods:
        method, bench = prepared(name)
        tried = tried_rates(bench, method, rates, rate_rows)
        best = build(at_rate(bench, min(tried, key=rank_of)["learning_rate"], 0), method)
        found.append(measured(bench, method, best, tried, found[0] if found else None))
        assert best.adapter is not None
        adapters[method] = best.adapter
    base = base_folder(bench)
    base_bytes = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    memory, swap = in_memory(base, adapters)
    return MethodComparison(
        task=bench.task.name,
        metric=bench.task.metric,
        rows=tuple(found),
        base_bytes=base_bytes,
        general_loss=general_losses(bench, base, adapters, general),
        ten_tasks={
            row.method: TASKS * row.checkpoint_bytes + (0 if row.method == "full" else base_bytes)
            for row in found
        },
        ten_tasks_memory=memory,
        swap_seconds=swap,
        rate_rows=rate_rows,
        claims=claims_beside(found),
    )


def tried_rates(bench: Workbench, method: "Method", rates: int, rows: int) -> list[dict[str, Any]]:
    """Score on selection and held-out loss of each rate. What was tried on a part of the rows is removed."""
    from tunewise.rungs.tuned import build, opened
    from tunewise.rungs.tuned_settings import settings_of
    from tunewise.training.methods import DEFAULTS

    tried: list[dict[str, Any]] = []
    for factor in RATE_FACTORS[:rates]:
        rate = float(f"{DEFAULTS[method].learning_rate * factor:.1e}")
        part = at_rate(bench, rate, rows)
        base: Any = opened(bench, None)
        settings = json.loads(json.dumps(settings_of(part, base, layout_of(part), method)))
        kept = part.folder.parent / f"{part.folder.name}-{method}.json"
        said = checkpoints.read_json(kept)
        if said is not None and bench.task.training.precision == "auto":  # as another machine began it
            settings["recipe"]["precision"] = said["settings"]["recipe"]["precision"]
        if said is not None and (changed := checkpoints.changes(said.get("settings", {}), settings)):
            why = "\n".join(f"  - {line}" for line in changed)
            raise RunError(
                f"{kept} was made with other settings:\n{why}\nName another folder with --out, or put the "
                "settings back."
            )
        if said is None:
            facts = build(part, method).facts()
            said = {
                "settings": settings,
                "learning_rate": rate,
                "selection_score": facts["selection_score"],
                "held_out_loss": loss_of(facts),
                "seconds": facts["seconds"],
            }
            checkpoints.write_json(kept, said)
            if rows:
                shutil.rmtree(part.folder / method, ignore_errors=True)
        tried.append({name: value for name, value in said.items() if name != "settings"})
    return tried


def at_rate(bench: Workbench, rate: float, rows: int) -> Workbench:
    """The workbench for this rate: all rows and epochs, or one epoch on ``rows`` random train rows."""
    training = bench.task.training
    settings: dict[str, Any] = {
        "learning_rate": rate,
        "schedule": training.schedule or SCHEDULE,
        "curve": False,
    }
    parts, folder = bench.parts, bench.folder / f"rate-{rate:g}"
    if rows:
        settings |= {"epochs": min(1.0, training.epochs)}
        some = tuple(learning_curve.shuffled(bench)[:rows])  # a file may be sorted by its answers
        parts, folder = replace(parts, train=some), bench.folder / f"rate-{rate:g}-{rows}"
    changed: dict[str, Any] = {"training": training.model_copy(update=settings)}
    task = bench.task.model_copy(update=changed | ({"guard": None} if rows else {}))
    return replace(bench, task=task, parts=parts, folder=folder)


def rank_of(tried: Mapping[str, Any]) -> tuple[float, float]:
    """Sorts better rates first."""
    score, loss = tried["selection_score"], tried["held_out_loss"]
    return (-1.0 if score is None else -score, float("inf") if loss is None else loss)


def loss_of(facts: Mapping[str, Any]) -> float | None:
    """Held-out loss of the chosen checkpoint; None at a part of its strength, where nobody took it."""
    checkpoint = facts["checkpoint"]
    if checkpoint.get("scale", 1.0) < 1:
        return None
    found = (row["held_out_loss"] for row in facts["tried"] if row["step"] == checkpoint["step"])
    loss: float | None = next(found, None)
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
    facts = best.facts()
    kept = bench.folder / f"{method}-scores.json"
    depends = hashlib.sha256(repr((facts, [item.key for item in items])).encode()).hexdigest()
    said = checkpoints.read_json(kept)
    if said is None or said["mark"] != depends:
        said = {"mark": depends, "scores": learning_curve.scores_of(bench, best, items) if items else []}
        checkpoints.write_json(kept, said)
    best.door.close()
    scores = tuple(said["scores"])
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


def general_losses(
    bench: Workbench, base: Path, tuned: Mapping[str, Path], file: str | Path | None
) -> dict[str, float]:
    """Loss on general rows, in nats per answer token, of the base and of what each method made of it.

    The first ``GENERAL_ROWS`` rows of the file; nothing without a file. Raises DataError where no row can be
    used.
    """
    from tunewise.models.precision import products
    from tunewise.models.weights import load_model
    from tunewise.rungs.tuned import opened
    from tunewise.rungs.tuned_rows import rows_held
    from tunewise.rungs.tuned_settings import recipe_of
    from tunewise.training.held_out import held_out_loss
    from tunewise.training.recipe import quiet

    mix = bench.task.training.mix
    place = Path(file) if file is not None else None if mix is None else mix.general
    if place is None:
        return {}
    door: Any = opened(bench, None)
    rows = rows_held(bench, door, place).rows[:GENERAL_ROWS]
    losses: dict[str, float] = {}
    with quiet(), products("fp32"):
        for name, folder in {"base": None, **tuned}.items():
            whole = folder is not None and name == "full"
            model = load_model(folder, None) if whole and folder is not None else load_model(base, folder)
            # row by row under the model's own mask: whether its rows could share a pass is not tried here
            recipe = replace(recipe_of(bench, "lora"), rows_per_pass=1, packed=False)
            loss = held_out_loss(model, rows, recipe)
            assert loss is not None
            losses[name] = loss
            del model
    return losses


def in_memory(base: Path, tuned: Mapping[str, Path]) -> tuple[dict[str, int], float | None]:
    """Bytes of weights in memory for ten tasks by method, and the seconds to another adapter.

    Ten adapters are loaded beside one base; of ten models one is loaded and counted ten times. Without an
    adapter there is nothing to change to: None.
    """
    from peft import PeftModel

    from tunewise.models.weights import load_model
    from tunewise.training.recipe import quiet

    sizes: dict[str, int] = {}
    swaps = []
    with quiet():
        for method, folder in tuned.items():
            if method == "full":
                sizes[method] = TASKS * weight_bytes(load_model(folder))
                continue
            model = PeftModel.from_pretrained(load_model(base), str(folder), adapter_name="task-0")
            for number in range(1, TASKS):
                began = time.perf_counter()
                model.load_adapter(str(folder), adapter_name=f"task-{number}")
                model.set_adapter(f"task-{number}")
                swaps.append(time.perf_counter() - began)
            sizes[method] = weight_bytes(model)
    return sizes, median(swaps) if swaps else None


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters, shared ones once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


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
