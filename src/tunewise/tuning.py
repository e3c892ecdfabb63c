"""``tunewise train``: tune a model on a task's train part, outside of a climb.

What it trains is what the rung of the same name trains: the same prompt, recipe, checks and choice of
checkpoint.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.api import Opened, open_task, with_guard, write_json
from tunewise.errors import DataError, SettingError
from tunewise.progress import Progress, Silent
from tunewise.rungs.prompt import layout_of, too_long
from tunewise.rungs.rung import Workbench

if TYPE_CHECKING:
    from tunewise.training.launch import Launch
    from tunewise.training.masks import TrainRow
    from tunewise.training.methods import Method
    from tunewise.training.recipe import Trained

SHOWN_ROWS = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tokens as text; ``loss``: they are learnt."""

    text: str
    loss: bool


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One rendered example: ``pieces`` together are exactly what the model reads."""

    place: str
    tokens: int
    loss_tokens: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Shown:
    """What ``train --show`` shows: nothing was trained.

    rows, tokens, loss_tokens: of one pass over the task's rows. passed: the checks that held. causes: of
    forgetting, that settings and data show. notes: rows that do not fit, the mix.
    """

    task: str
    method: str
    base: str
    rows: int
    tokens: int
    loss_tokens: int
    longest: int
    recipe: Mapping[str, Any]
    examples: tuple[ShownRow, ...]
    passed: tuple[str, ...]
    causes: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class TrainingRun:
    """A finished run. folder: what answers (an adapter, or a whole model). facts: as reports show them."""

    task: str
    method: str
    base: str
    folder: Path
    facts: Mapping[str, Any]
    causes: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass
class Notes:
    """Hands progress on and keeps the notes."""

    progress: Progress
    said: list[str] = field(default_factory=list)

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        if event == "note":
            self.said.append(str(facts.get("text", "")))
        self.progress.tell(event, **facts)


def train(
    path_or_task: Any,
    *,
    method: str | None = None,
    stage: str = "sft",
    out: str | Path | None = None,
    seed: int = 0,
    guard: str | None = None,
    curve: bool = False,
    launch: "Launch | None" = None,
    mlflow: str | None = None,
    report_to: Sequence[str] = (),
    progress: Progress | None = None,
) -> TrainingRun:
    """Tune the task's local weights on its train part, choose the checkpoint on selection, check the result.

    method: ``lora``, ``qlora`` or ``full``; by default ``tune.method``, else ``lora``. stage: ``sft``, or
    ``cpt``, which reads the task's documents, or ``cpt+sft``: both, the second only when the first passed
    (else GateClosed). out: the folder (``runs/NAME/train``); the same call on the same folder goes on from
    the last checkpoint; with other data, base or settings, or while another training is at work in it, it is
    refused (RunError says why); other library versions are warned of. guard: ``on``, ``full`` or ``off``, in
    place of ``guard.mode``. curve: train on 25 and 50 % of the rows too (as ``training.curve``). launch: more
    processes. mlflow: a store that loss and figures are written to as well (``tracking``). report_to:
    trackers that TRL reports every step to (wandb, tensorboard, ...), in one process. Raises UserError for
    what the user can mend, before anything is trained, and WorldError for what ended the run; checkpoints are
    kept.
    """
    from tunewise.tracking import mlflow_run
    from tunewise.training.checkpoints import alone_in
    from tunewise.tuning_stages import known_stage, run_stage

    notes = Notes(progress or Silent())
    chosen, bench, opened = prepare(path_or_task, method, stage, out, seed, notes, guard)
    known = known_stage(stage)
    bench = with_curve(bench, curve or bench.task.training.curve is True)
    if launch is not None:
        check_launch(launch, bench)
        if launch.nodes > 1 and bench.task.training.curve is True:
            raise SettingError("a learning curve is trained on one node: leave out the curve, or --nodes")
    trainer = trainer_of(launch, report_to)
    found = causes_of(bench, chosen, stage)
    for cause in found:
        notes.tell("note", text=f"{chosen}: {cause['says']}")
    several = launch is not None and launch.nodes > 1  # each of which starts its own processes here
    with contextlib.nullcontext() if several else alone_in(bench.folder):
        if mlflow is None:
            folder, facts = run_stage(bench, chosen, known, trainer)
        else:
            with mlflow_run(mlflow, opened.task.name, f"{chosen} {stage}", notes) as told:
                folder, facts = run_stage(replace(bench, progress=told), chosen, known, trainer)
                told.finish(facts)
    run = TrainingRun(
        opened.task.name,
        chosen,
        base_of(bench).name,
        folder,
        {"stage": stage, **facts},
        tuple(found),
        tuple(notes.said),
    )
    write_json(bench.folder / "train.json", {"model": run.base, **run.to_json()})
    return run


def trainer_of(launch: "Launch | None", report_to: Sequence[str]) -> Callable[..., "Trained"]:
    """``recipe.train``, here or in the processes of a launch. Raises SettingError for unknown trackers."""
    from tunewise.training.launch import Launched
    from tunewise.training.recipe import train as train_here
    from tunewise.training.reporting import known_reporters

    if launch is not None and not launch.alone:
        if report_to:
            raise SettingError("--report-to works in one process: leave out --report-to, or --processes")
        return Launched(launch)
    return partial(train_here, report_to=known_reporters(report_to)) if report_to else train_here


def show(
    path_or_task: Any,
    *,
    method: str | None = None,
    stage: str = "sft",
    seed: int = 0,
    guard: str | None = None,
    rows: int = SHOWN_ROWS,
) -> Shown:
    """Rendered examples with their mask, and every check that needs no training. Trains nothing.

    Raises what ``train`` would raise before its first step, but for what loaded weights or the disk show.
    """
    from tunewise.rungs.tuned_rows import check_before, prepared
    from tunewise.rungs.tuned_settings import recipe_of
    from tunewise.training import methods
    from tunewise.tuning_stages import show_reading

    chosen, bench, opened = prepare(path_or_task, method, stage, None, seed, Silent(), guard)
    if stage == "cpt":
        shown = show_reading(bench, opened.task.name, rows)
        return replace(shown, causes=tuple(causes_of(bench, chosen, stage)))
    base = base_of(bench)
    methods.check(base.folder, recipe_of(bench, chosen))
    layout = layout_of(bench)
    mix = bench.task.training.mix
    unasked: tuple[str, ...] = ()
    if mix is not None and mix.replay:  # the base model would be asked, for hours perhaps
        training = bench.task.training.model_copy(update={"mix": None})
        bench = replace(bench, task=bench.task.model_copy(update={"training": training}))
        unasked = (REPLAY_UNASKED,)
    ready = prepared(bench, base, layout)
    check_before(bench, base, layout, ready)
    own = ready.own.rows
    return Shown(
        task=opened.task.name,
        method=chosen,
        base=base.name,
        rows=len(own),
        tokens=ready.own.tokens,
        loss_tokens=ready.own.loss_tokens,
        longest=max(map(len, own)),
        recipe=asdict(recipe_of(bench, chosen)),
        examples=tuple(shown_row(base.tokenizer, row) for row in spread(own, rows)),
        passed=(
            f"every one of {len(own)} examples has tokens under loss",
            "the stop token of every answer is under loss",
            "no answer is cut",
            "prompts have the token ids that serving sends",
            f"none of {len(bench.parts.certification)} certification items is among them",
        ),
        causes=tuple(causes_of(bench, chosen, stage)),
        notes=(*ready.notes(chosen), *unasked),
    )


REPLAY_UNASKED = (
    "the general rows of mix.replay are not shown: the base model answers them when training begins"
)


def launch_command(
    path_or_task: Any,
    *,
    method: str | None = None,
    stage: str = "sft",
    out: str | Path | None = None,
    seed: int = 0,
    guard: str | None = None,
    launch: "Launch",
) -> dict[str, Any]:
    """What ``--dry-run`` prints: the exact launch command, and the job folder that it reads, written.

    Renders and checks as ``train`` does, up to where the processes would start. After the command has run,
    ``train`` on the same folder chooses the checkpoint and checks it, without training again; then, of two
    stages, the same call shows the launch of the second. Raises as ``train``, and SettingError where all is
    trained.
    """
    from tunewise.rungs.tuned_settings import recipe_of
    from tunewise.training import methods
    from tunewise.training.checkpoints import alone_in
    from tunewise.training.launch import Launched, Rehearsal
    from tunewise.tuning_stages import known_stage, run_stage

    notes = Notes(Silent())
    chosen, bench, _ = prepare(path_or_task, method, stage, out, seed, notes, guard)
    check_launch(launch, bench)
    methods.check(base_of(bench).folder, recipe_of(bench, chosen))
    try:
        with alone_in(bench.folder):
            run_stage(with_curve(bench, False), chosen, known_stage(stage), Launched(launch, rehearsing=True))
    except Rehearsal as found:
        due = "cpt" if Path(found.plan["job"]).parent.parent.name == "cpt" else "sft"
        watch = bench.task.guard
        if launch.alone and due == "sft" and watch is not None and watch.data and watch.mode != "off":
            raise SettingError(
                "the guard watches a training without a launch, whose settings then differ: name "
                "--processes, or set guard.mode: off (--guard off)"
            ) from None
        return {**found.plan, "stage": due, "notes": notes.said}
    raise SettingError(
        f"{bench.folder} holds this training from its beginning to its end: there is nothing to launch. "
        "tunewise train with the same options shows it; --out names another folder"
    )


def with_curve(bench: Workbench, curve: bool) -> Workbench:
    """The workbench with a learning curve or without; ``auto`` asks what only a decision has to know."""
    settings = bench.task.training.model_copy(update={"curve": curve})
    return replace(bench, task=bench.task.model_copy(update={"training": settings}))


def check_launch(launch: "Launch", bench: Workbench) -> None:
    """Raise SettingError for a launch that cannot be, or that this training cannot have."""
    launch.check(bench.task.training.batch_size)
    if bench.task.training.kl is not None and not launch.alone:
        raise SettingError("training.kl is computed in one process: leave out training.kl, or --processes")


def prepare(
    path_or_task: Any,
    method: str | None,
    stage: str,
    out: str | Path | None,
    seed: int,
    progress: Progress,
    guard: str | None = None,
) -> tuple["Method", Workbench, Opened]:
    """The method, and a workbench whose calls go to local weights. Raises SettingError and DataError."""
    from tunewise.task import Tune
    from tunewise.training.methods import METHODS
    from tunewise.tuning_stages import cannot_run, known_stage

    known = known_stage(stage)
    opened = with_guard(open_task(path_or_task, seed), guard)
    tune = opened.task.tune
    wanted = method or (tune.method if tune is not None else None) or METHODS[0]
    chosen = next((name for name in METHODS if name == wanted), None)
    if chosen is None:
        raise SettingError(f"unknown method {wanted!r}; there are {', '.join(METHODS)}")
    if known == "cpt" and chosen == "qlora":
        if method is not None:
            raise SettingError(
                "--stage cpt reads with lora or full: its adapter is merged into the base, and one trained "
                "beside 4-bit weights does not merge exactly into those that answer. Leave out --method "
                "qlora; the stage cpt+sft reads with lora and tunes with qlora"
            )
        chosen = "lora"
    folder = Path(out) if out is not None else Path("runs") / opened.task.name / "train"
    bench = replace(
        opened.bench(folder, seed, progress),
        ask=lambda door, requests, purpose: door.answer(requests),
        refuse_changes=True,
    )
    if known != "sft":  # the rung reads its method from the task
        update = {"tune": (tune or Tune()).model_copy(update={"method": chosen})}
        bench = replace(bench, task=opened.task.model_copy(update=update))
    if known != "cpt" and (blocked := opened.parts.blocked_reason()) is not None:
        raise DataError(f"train: {blocked}")
    if (reason := cannot_run(bench, known)) is not None:
        raise SettingError(f"nothing can be trained: {reason}")
    items = (*bench.parts.selection, *bench.parts.certification)
    if known != "cpt" and (said := too_long(base_of(bench), layout_of(bench), items)) is not None:
        raise DataError(said)
    return chosen, bench, opened


def base_of(bench: Workbench) -> Any:
    """The local weights that are tuned."""
    from tunewise.rungs.tuned import opened

    return opened(bench, None)


def causes_of(bench: Workbench, method: "Method", stage: str) -> list[dict[str, Any]]:
    """The known causes of forgetting that settings and data show; those of reading documents say so."""
    from tunewise.rungs import cpt_sft
    from tunewise.rungs.tuned_settings import recipe_of
    from tunewise.task_training import PretrainingSection
    from tunewise.training.forgetting import causes
    from tunewise.training.methods import DEFAULTS
    from tunewise.training.mixing import plan_mix

    section, train_rows = bench.task.training.mix, bench.parts.train
    mix = None
    if section is not None:  # only whether rows are mixed in counts here, not how many there are
        count = max(1, len(train_rows))
        mix = plan_mix(count, count, section.share, 1.0)
    answers = [example.answer for example in train_rows]
    found = (
        []
        if stage == "cpt"
        else causes(recipe_of(bench, method), DEFAULTS[method].learning_rate, answers, mix)
    )
    if stage != "sft":
        reading = cpt_sft.recipe_of(bench, bench.task.training.cpt or PretrainingSection())
        known = {cause.cause for cause in found} - {
            "epochs",
            "learning_rate",
        }  # which each stage has its own of
        more = causes(reading, DEFAULTS[reading.method].learning_rate, (), mix)
        found += [replace(c, says=f"reading documents: {c.says}") for c in more if c.cause not in known]
    return [asdict(cause) for cause in found]


def spread(rows: Sequence["TrainRow"], count: int) -> list["TrainRow"]:
    """The shortest row, the longest, and rows between them at even distances."""
    ordered = sorted(rows, key=len)
    count = min(count, len(ordered))
    if count < 2:
        return ordered[-1:]
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def shown_row(tokenizer: Any, row: "TrainRow") -> ShownRow:
    """A row as text in pieces."""
    from tunewise.training.masks import segments

    def text(ids: Sequence[int]) -> str:
        said: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return said

    pieces = tuple(Piece(text(ids), loss) for ids, loss in segments(row))
    return ShownRow(row.place, len(row), row.loss_tokens, pieces)
