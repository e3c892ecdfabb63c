"""``tunewise.plan``: what every rung of a task would take, on paper, before anything runs.

Calls and tokens come from the plan of ``decide``; time of a model on this machine, memory and disk from
``estimation``; money from the task's prices. Nothing is asked, nothing is loaded, nothing is sent.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import SettingError
from tunewise.estimation.estimate import Estimate, estimate
from tunewise.estimation.hardware import CPU, Gpu, find_gpu, load_hardware
from tunewise.estimation.inference import Inference, inference
from tunewise.estimation.lengths import model_of, of_texts, tokenizer_of
from tunewise.estimation.memory import Range
from tunewise.estimation.models import find_model
from tunewise.estimation.setup import as_trained_here
from tunewise.plan_beside import TEACHER, Beside
from tunewise.plan_rungs import PlannedRung
from tunewise.planning import Plan, make_plan

if TYPE_CHECKING:
    from tunewise.api import Opened
    from tunewise.task import Task

TRAINED = {"lora": "lora", "qlora": "qlora", "full": "full"}  # the others train as tune.method says
SHOWS_ROWS = ("few-shot", "few-shot-nearest", "rag", "rag-lora")
SHOWS_PASSAGES = ("rag", "rag-lora")
OTHER_ROWS = ("distilled", "cpt-sft")  # train on more than the train rows
DAYS_KEPT = 90.0  # a tuned model is trained again after so long, unless the task says otherwise
DRAWN_TODAY = "few-shot"  # what a rung is compared with, unless the task says otherwise


@dataclass(frozen=True, slots=True)
class BreakEven:
    """From how many queries on a rung is cheaper than ``today``.

    queries: over the life of one build; per_day: over ``days``. None where it never is or a price is
    missing: ``why`` says which.
    """

    today: str
    queries: float | None
    per_day: float | None
    days: float
    why: str | None = None


@dataclass(frozen=True, slots=True)
class RungForecast:
    """One rung of a plan; ranges are (low, high), None where not known, with the reason in ``notes``.

    seconds: of the whole rung, building and asking. memory_gib: the larger of answering and training.
    usd: of the whole rung. usd_per_query: of answering. build_usd: of building once. leaves: what goes to
    ``host``; empty where nothing leaves this machine.
    """

    rung: str
    skipped_because: str | None
    calls: tuple[int, int] | None = None
    tokens_in: tuple[int, int] | None = None
    tokens_out: tuple[int, int] | None = None
    train_tokens: int = 0
    seconds: tuple[float, float] | None = None
    memory_gib: tuple[float, float] | None = None
    disk_gib: float | None = None
    usd: tuple[float, float] | None = None
    usd_per_query: tuple[float, float] | None = None
    build_usd: tuple[float, float] | None = None
    break_even: BreakEven | None = None
    host: str | None = None
    leaves: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """The plan of a task. hardware: what time and memory of local models are estimated for.

    beside: calls that belong to no rung's own row: a judge, a teacher, limits, why rungs fail.
    """

    task: str
    hardware: str
    headline: str
    lines: tuple[str, ...]
    rungs: tuple[RungForecast, ...]
    warnings: tuple[str, ...]
    beside: tuple[Beside, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where not known. Keys are added, never renamed."""
        return {
            "task": self.task,
            "hardware": self.hardware,
            "headline": self.headline,
            "lines": list(self.lines),
            "rungs": [asdict(rung) for rung in self.rungs],
            "beside": [asdict(row) for row in self.beside],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Paper:
    """What the figures of one task are worked out from."""

    opened: "Opened"
    gpu: Gpu
    days: float
    today: str

    @property
    def task(self) -> "Task":
        """The task."""
        return self.opened.task

    @property
    def answers_here(self) -> str | None:
        """The local model that answers prompts; None where a host or a script does."""
        return self.task.model if isinstance(self.task.model, str) else None

    @property
    def usd_per_hour(self) -> float | None:
        """Price of the machine that local models run on: the task's, else the GPU's."""
        given = self.task.tune.usd_per_hour if self.task.tune is not None else None
        if given is not None:
            return given
        return None if self.gpu.price is None else self.gpu.price.expected


def plan(
    path_or_task: "str | Path | Task",
    *,
    seed: int = 0,
    rungs: Sequence[str] | None = None,
    gpu: str = CPU,
    today: str | None = None,
    days: float | None = None,
) -> Forecast:
    """What every rung of a task would take, before anything runs.

    gpu: what local models run on: ``cpu`` (this machine) or a name of the catalogue. today: the rung that
    break-even volumes are against (default: the task's ``economics.today``, else few-shot). days: how long
    one build is used (default: ``economics.retrain_days``, else 90). Raises UserError for what the user can
    mend.
    """
    from tunewise.api import open_task
    from tunewise.left_out import static_reasons
    from tunewise.progress import Silent
    from tunewise.rungs.names import WEIGHTS
    from tunewise.rungs.order import rungs_for

    if rungs is not None:
        rungs_for(rungs)
    opened = open_task(path_or_task, seed)
    economics = getattr(opened.task, "economics", None)
    today = today or getattr(economics, "today", None) or DRAWN_TODAY
    if today not in WEIGHTS:
        raise SettingError(f"--today: a rung was expected ({', '.join(WEIGHTS)}), got {today!r}")
    days = days or getattr(economics, "retrain_days", None) or DAYS_KEPT
    bench = opened.bench(Path(), seed, Silent())
    reasons = static_reasons(rungs_for(), bench, rungs)
    planned = make_plan(opened, rungs_for(), reasons, bench)
    paper = Paper(opened, find_gpu(gpu, load_hardware()), days, today)
    return _forecast(paper, planned)


def _forecast(paper: Paper, planned: Plan) -> Forecast:
    taught = next((row for row in planned.beside if row.what == TEACHER), None)
    bare = [_with_teacher(_rung(paper, rung), taught, paper) for rung in planned.rungs]
    reference = next((r for r in bare if r.rung == paper.today and not r.skipped_because), None)
    return Forecast(
        task=paper.task.name,
        hardware=paper.gpu.name if paper.gpu.name != CPU else f"this machine ({paper.gpu.specs})",
        headline=planned.headline,
        lines=planned.lines,
        rungs=tuple(_with_break_even(rung, reference, paper) for rung in bare),
        warnings=planned.warnings,
        beside=tuple(row for row in planned.beside if row is not taught),  # it stands in the rung's own row
    )


def _with_teacher(rung: RungForecast, taught: Beside | None, paper: Paper) -> RungForecast:
    """``distilled`` with what its teacher is paid; without any money where the teacher's is not known."""
    if rung.rung != "distilled" or taught is None or rung.build_usd is None:
        return rung
    if taught.host is None:
        return rung  # it answers on this machine
    if taught.usd_low is None or taught.usd_high is None:
        note = f"money: the teacher {taught.door} has no price"
        return replace(rung, usd=None, build_usd=None, notes=(*rung.notes, note))
    more = (taught.usd_low, taught.usd_high)
    usd = None if rung.usd is None else (rung.usd[0] + more[0], rung.usd[1] + more[1])
    build = (rung.build_usd[0] + more[0], rung.build_usd[1] + more[1])
    return replace(rung, usd=usd, build_usd=build)


def _rung(paper: Paper, planned: PlannedRung) -> RungForecast:
    """One rung without its break-even volume."""
    if planned.skipped_because:
        return RungForecast(planned.rung, planned.skipped_because)
    tokens_in = (planned.tokens_in_low or 0, planned.tokens_in_high or 0)
    tokens_out = (planned.tokens_out_low or 0, planned.tokens_out_high or 0)
    calls = (planned.calls_low, planned.calls_high)
    trains = planned.train_tokens > 0
    model = model_of(paper.task) if trains else paper.answers_here
    host, leaves = _to_teacher(paper, planned.rung) if trains else _leaving(paper, planned.rung)
    shared = {
        "rung": planned.rung,
        "skipped_because": None,
        "calls": calls,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "train_tokens": planned.train_tokens,
        "host": host,
        "leaves": leaves,
    }
    if model is None:
        return _at_a_host(paper, planned, shared)
    answering = _answering(paper, model, calls, tokens_in, tokens_out)
    training = _training(paper, planned, model) if trains else None
    return _on_this_machine(paper, answering, training, shared)


def on_this_machine(opened: "Opened", planned: PlannedRung) -> RungForecast:
    """A rung that trains, on this machine; money at ``tune.usd_per_hour`` alone. Raises as ``plan``."""
    return _rung(Paper(opened, find_gpu(CPU, load_hardware()), DAYS_KEPT, DRAWN_TODAY), planned)


def _to_teacher(paper: Paper, rung: str) -> tuple[str | None, tuple[str, ...]]:
    """Where the building of a tuned rung sends data, and which: ``distilled`` asks its teacher."""
    section, door = paper.task.teacher, paper.opened.teacher_door or paper.opened.door
    if rung != "distilled" or section is None:
        return None, ()
    host, sent = _sent(door.host, section.rung)
    return host, (*sent, "inputs that the teacher answers") if sent else ()


def _leaving(paper: Paper, rung: str) -> tuple[str | None, tuple[str, ...]]:
    """Where a prompting rung sends data, and which; nothing for a model on this machine."""
    return _sent(paper.opened.door.host, rung)


def _sent(host: str | None, rung: str) -> tuple[str | None, tuple[str, ...]]:
    """The host and what a prompt of this rung holds; nothing leaves for a host on this machine."""
    if host is None or host.split(":")[0] in ("127.0.0.1", "localhost") or host.startswith("[::1]"):
        return host, ()
    sent = ["the instruction", "inputs of selection and certification rows"]
    if rung in SHOWS_ROWS:
        sent.append("train rows with their answers")
    if rung in SHOWS_PASSAGES:
        sent.append("passages of the documents")
    return host, tuple(sent)


def _at_a_host(paper: Paper, planned: PlannedRung, shared: dict[str, Any]) -> RungForecast:
    """A rung that only sends prompts: money from the price, time not known before the first call."""
    price = paper.opened.door.price
    notes = ["time: the speed of the host is not known before the first call"]
    usd: tuple[float, float] | None = None
    per_query: tuple[float, float] | None = None
    build: tuple[float, float] | None = None
    if price is None:
        notes.append("money: the model has no price (model.usd_per_million)")
    else:
        usd = (planned.usd_low or 0.0, planned.usd_high or 0.0)
        per_query = _each(usd, shared["calls"])
        build = (per_query[0] * planned.build_calls, per_query[1] * planned.build_calls)
    return RungForecast(**shared, usd=usd, usd_per_query=per_query, build_usd=build, notes=tuple(notes))


def _each(total: tuple[float, float], calls: tuple[int, int]) -> tuple[float, float]:
    """Per call, the least and the most."""
    found = sorted(amount / max(count, 1) for amount, count in zip(total, calls, strict=True))
    return found[0], found[-1]


@dataclass(frozen=True, slots=True)
class Answering:
    """Seconds of all calls and of one, and memory, of a local model that answers."""

    seconds: tuple[float, float]
    per_call: tuple[float, float]
    found: Inference


def _answering(
    paper: Paper,
    model: str,
    calls: tuple[int, int],
    tokens_in: tuple[int, int],
    tokens_out: tuple[int, int],
) -> Answering:
    """Prompts read and answers written one after the other: batching makes it faster, never slower."""
    per_in = max(1, round(max(_each(tokens_in, calls))))
    per_out = max(1, round(max(_each(tokens_out, calls))))
    found = inference(
        find_model(model),
        context=per_in + per_out,
        prompt=per_in,
        weights="fp32" if paper.gpu.name == CPU else "bf16",
        gpu=paper.gpu,
    )
    assert found.prefill_seconds is not None
    assert found.decode_seconds is not None
    read = (found.prefill_seconds.low / per_in, found.prefill_seconds.high / per_in)
    write = (found.decode_seconds.low, found.decode_seconds.high)
    seconds = tuple(tokens_in[end] * read[end] + tokens_out[end] * write[end] for end in (0, 1))
    return Answering((seconds[0], seconds[1]), _each((seconds[0], seconds[1]), calls), found)


def method_named(task: "Task") -> str:
    """How rungs train that are not named after a method."""
    return (task.tune.method if task.tune is not None else None) or "lora"


def _training(paper: Paper, planned: PlannedRung, model: str) -> Estimate:
    """What training this rung takes on the hardware, on the task's own train rows.

    Rows with passages are longer by the mean of what the plan counts for them.
    """
    from tunewise.rungs.learning_curve import outlook_epochs

    task = paper.task
    texts = []
    for example in paper.opened.parts.train:
        turns = [task.instruction or "", *(turn.content for turn in example.turns), example.answer]
        texts.append(("\n".join(turns), 1 + len(turns)))
    lengths = of_texts(texts, tokenizer_of(model))
    epochs = task.training.epochs * outlook_epochs(task.training.curve is True)
    if planned.rung in SHOWS_PASSAGES and len(texts):
        mean = planned.train_tokens / (len(texts) * epochs)
        more = max(0, round(mean - lengths.mean))
        lengths = replace(lengths, values=tuple(value + more for value in lengths.values))
    method = TRAINED.get(planned.rung) or method_named(task)
    if planned.rung in OTHER_ROWS and lengths.values:  # a teacher's answers, documents that are read
        lengths = replace(lengths, rows=max(1, round(planned.train_tokens / (lengths.mean * epochs))))
    return estimate(
        model,
        method=method,
        lengths=lengths,
        epochs=epochs,
        gpu=paper.gpu.name,
        **as_trained_here(method, task),
    )


def _on_this_machine(
    paper: Paper, answering: Answering, training: Estimate | None, shared: dict[str, Any]
) -> RungForecast:
    """A rung on local weights: time and memory from the estimates, money from the machine's price."""
    seconds, memory = answering.seconds, _pair(answering.found.total_gib)
    notes = [f"time and memory: estimated for {paper.gpu.name}, one call after the other"]
    build_seconds, disk = (0.0, 0.0), 0.0
    if training is not None:
        run = training.run
        build_seconds = (0.0, 0.0) if run is None else (run.seconds.low, run.seconds.high)
        needed = _pair(training.memory.device)
        memory = (max(memory[0], needed[0]), max(memory[1], needed[1]))
        disk = training.disk.run
        seconds = (seconds[0] + build_seconds[0], seconds[1] + build_seconds[1])
        if memory[1] > paper.gpu.usable_gib:
            notes.append(f"memory: may not fit {paper.gpu.name} ({paper.gpu.usable_gib:g} GiB usable)")
    rate = paper.usd_per_hour
    if rate is None:
        notes.append("money: this machine has no price (tune.usd_per_hour)")
        return RungForecast(**shared, seconds=seconds, memory_gib=memory, disk_gib=disk, notes=tuple(notes))
    return RungForecast(
        **shared,
        seconds=seconds,
        memory_gib=memory,
        disk_gib=disk,
        usd=_paid(seconds, rate),
        usd_per_query=_paid(answering.per_call, rate),
        build_usd=_paid(build_seconds, rate),
        notes=tuple(notes),
    )


def _paid(seconds: tuple[float, float], usd_per_hour: float) -> tuple[float, float]:
    return seconds[0] / 3600 * usd_per_hour, seconds[1] / 3600 * usd_per_hour


def _pair(found: Range) -> tuple[float, float]:
    return found.low, found.high


def _with_break_even(rung: RungForecast, today: RungForecast | None, paper: Paper) -> RungForecast:
    """The rung with the volume from which it pays, by the middle of each range."""
    if rung.skipped_because or rung.rung == paper.today:
        return rung
    return replace(rung, break_even=break_even(rung, today, paper.today, paper.days))


def break_even(rung: RungForecast, today: RungForecast | None, name: str, days: float) -> BreakEven:
    """build_usd / (usd per query of today - usd per query of the rung), by the middle of each range."""
    if today is None:
        return BreakEven(name, None, None, days, f"{name} is not in play")
    if rung.usd_per_query is None or today.usd_per_query is None or rung.build_usd is None:
        return BreakEven(name, None, None, days, "a price is missing")
    saved = _middle(today.usd_per_query) - _middle(rung.usd_per_query)
    if saved <= 0:
        return BreakEven(name, None, None, days, f"a query costs no less than with {name}")
    queries = _middle(rung.build_usd) / saved
    return BreakEven(name, queries, queries / days, days)


def _middle(found: tuple[float, float]) -> float:
    return (found[0] + found[1]) / 2


__all__ = ["BreakEven", "Forecast", "RungForecast", "break_even", "plan"]
