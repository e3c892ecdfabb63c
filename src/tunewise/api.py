"""What users call: ``decide``, ``check``, ``answer``. The command line only calls these."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tunewise import __version__
from tunewise.advice.disagreement import meet
from tunewise.advice.framework import decide_rule
from tunewise.advice.of_task import facts_of_task
from tunewise.answering import answer, tunable
from tunewise.asked_after import ask_after
from tunewise.clocked import Clocked
from tunewise.data import Example, read_examples
from tunewise.database import failures_in_words
from tunewise.decision import Decision, RungResult, choose
from tunewise.errors import SettingError
from tunewise.evidence.baselines import baselines
from tunewise.evidence.limits import SHARE, TOLERANCE
from tunewise.evidence.references import refuse_wrong_references
from tunewise.evidence.runner import Runner
from tunewise.hosts import Asked, doors_asked, hosts_of, money_cap, priced_hosts, refuse_unpriced_cap
from tunewise.inputs import check_seed
from tunewise.left_out import count_in_play, static_reasons
from tunewise.marked_yaml import nearest
from tunewise.measures import check_files, place_to_label, write_to_label
from tunewise.models.door import Answer, Door
from tunewise.models.open import open_door
from tunewise.plan_lengths import refuse_too_long
from tunewise.planning import Plan, make_plan, measure_speed
from tunewise.progress import Progress, Silent
from tunewise.run import Run
from tunewise.run_settings import model_words, settings_of_run
from tunewise.rungs.order import rungs_for
from tunewise.rungs.rung import Workbench
from tunewise.running_costs import economics_of, sampled_rungs
from tunewise.spending import Spending
from tunewise.splits import Parts, certification_order, parts_from_files, split_examples
from tunewise.staleness import Staleness, check_after
from tunewise.store import Store, run_id_of
from tunewise.task import PartPaths, Task, load_task
from tunewise.task_guard import MODES, Guard
from tunewise.task_scores import score_answer

LIMITS_PROVE = {"share_wanted": SHARE, "share_proved": SHARE - TOLERANCE}


@dataclass(frozen=True)
class Opened:
    """A task with its data read and split and its doors ready; nothing has been asked yet."""

    task: Task
    parts: Parts
    order: tuple[Example, ...]
    format: str
    warnings: tuple[str, ...]
    door: Door
    tune_door: Callable[[Path | None], Door] | None
    tune_door_missing: str
    judge_door: Door | None = None
    teacher_door: Door | None = None

    def bench(self, folder: Path, seed: int, progress: Progress) -> Workbench:
        """A workbench without hands: enough for a rung to say whether it can help."""
        return Workbench(
            task=self.task,
            parts=self.parts,
            door=self.door,
            tune_door=self.tune_door,
            tune_door_missing=self.tune_door_missing,
            ask=_no_calls,
            score=lambda example, answer: score_answer(self.task, self.parts, example, answer),
            folder=folder,
            seed=seed,
            progress=progress,
            teacher_door=self.teacher_door,
        )


def _no_calls(door: Door, requests: Sequence[Any], purpose: str) -> list[Answer]:
    raise AssertionError("a rung must not ask a model before it is built")


def open_task(path_or_task: str | Path | Task, seed: int = 0) -> Opened:
    """Read, validate and split a task. Asks no model and sends nothing.

    Raises TaskFileError, DataError or SettingError for all that the user can mend.
    """
    check_seed(seed)
    task = path_or_task if isinstance(path_or_task, Task) else load_task(Path(path_or_task))
    parts, form, warnings = read_parts(task)
    refuse_wrong_references(task, parts)
    check_files(task, parts)
    tune_door, missing = tunable(task)
    return Opened(
        task=task,
        parts=parts,
        order=certification_order(parts, seed),
        format=form,
        warnings=warnings,
        door=open_door(task.model, precision=task.decoding.precision),
        tune_door=tune_door,
        tune_door_missing=missing,
        judge_door=open_door(task.judge.model) if task.judge is not None else None,
        teacher_door=open_teacher(task),
    )


def open_teacher(task: Task) -> Door | None:
    """The teacher's own door; None where the task's model teaches, or nobody does."""
    return open_door(task.teacher.model) if task.teacher and task.teacher.model is not None else None


def read_parts(task: Task) -> tuple[Parts, str, tuple[str, ...]]:
    """The three parts of a task's examples, the format that was recognised, and warnings."""
    group = task.split.group
    if isinstance(task.examples, PartPaths):
        rows = [
            read_examples(path, group)
            for path in (task.examples.train, task.examples.selection, task.examples.certification)
        ]
        parts = parts_from_files(*(r.examples for r in rows))
        form = ", ".join(dict.fromkeys(r.format for r in rows))
        return parts, form, tuple(w for r in rows for w in r.warnings)
    read = read_examples(task.examples, group)
    return split_examples(read.examples, task.split), read.format, read.warnings


def check(
    path_or_task: str | Path | Task,
    *,
    seed: int = 0,
    rungs: Sequence[str] | None = None,
    exhaustive: bool = False,
) -> Plan:
    """What ``decide`` would do, what it would take, and what the data can prove. Sends nothing to a host.

    A model on this machine is asked a few prompts, so that the plan has times. exhaustive: every rung is
    asked every certification item.
    """
    opened = open_task(path_or_task, seed)
    bench = opened.bench(Path(), seed, Silent())
    refuse_too_long(bench)
    reasons = static_reasons(rungs_for(), bench, _known(rungs))
    return make_plan(opened, rungs_for(), reasons, bench, measure_speed(bench), exhaustive)


def decide(
    path_or_task: str | Path | Task,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    rungs: Sequence[str] | None = None,
    exhaustive: bool = False,
    max_usd: float | None = None,
    guard: str | None = None,
    yes: bool = False,
    confirm: Callable[[Plan], bool] | None = None,
    progress: Progress | None = None,
) -> Decision:
    """Climb the ladder and hand over the lightest rung that provably meets the target.

    out: the run folder (``runs/NAME`` by default); the same call on the same folder resumes.
    rungs: only these; exhaustive: measure every rung on every certification item.
    max_usd: cap on money over the whole run, beside ``budget.usd``. Priced calls need ``yes``,
    ``max_usd`` or a ``confirm`` that says True to the plan. guard: ``on``, ``full`` (no time budget) or
    ``off``, in place of the task's ``guard.mode``. Raises UserError for what the user can
    mend and WorldError when something outside failed; both leave all that was measured in ``out``.
    A budget that ends the run is no error: the Decision says ``ended_by`` ``budget``.
    """
    progress = progress or Silent()
    opened = with_guard(open_task(path_or_task, seed), guard)
    task = opened.task
    folder = Path(out) if out is not None else Path("runs") / task.name
    bench = opened.bench(folder / "rungs", seed, progress)
    refuse_too_long(bench)
    reasons = static_reasons(rungs_for(), bench, _known(rungs))
    if len(reasons) == len(rungs_for()):
        said = "\n".join(f"  - {name}: {why}" for name, why in reasons.items())
        raise SettingError(f"no rung can be tried:\n{said}")
    run_id = run_id_of(folder / "run.sqlite")
    plan = make_plan(opened, rungs_for(), reasons, bench, exhaustive=exhaustive, run_id=run_id)
    in_play = [rung.name for rung in rungs_for() if rung.name not in reasons]
    _agree(plan, opened, doors_asked(opened, in_play), max_usd, yes, confirm)
    after = task.knowledge.documents_after if task.knowledge is not None else None
    if after is not None:
        check_after(opened.order, after)
    for text in plan.warnings:
        progress.tell("note", text=text)
    progress.tell("plan", text=plan.headline)
    with Store.open(folder / "run.sqlite", settings_of_run(opened, seed, rungs), model_words(task)) as store:
        write_json(folder / "task.json", task.model_dump(mode="json"))
        run = _run_on(store, opened, reasons, folder, seed, exhaustive, max_usd, progress)
        run.planned = {rung.rung: rung for rung in plan.rungs}
        try:
            ended = run.climb(rungs_for(), reasons)
            decision = _hand_over(run, opened, ended)
            if not ended and ask_after(run, sampled_rungs(run)):
                decision = _hand_over(run, opened, budget_ended=False)
            if after is not None and decision.ended_by != "budget":
                stale = run.staleness(after)
                decision = _hand_over(run, opened, budget_ended=False, staleness=stale)
        finally:
            run.runner.close()
            if opened.teacher_door is not None:
                opened.teacher_door.close()
        return decision


def with_guard(opened: Opened, mode: str | None) -> Opened:
    """The opened task with another ``guard.mode``; None leaves it. Raises SettingError for another word."""
    if mode is None:
        return opened
    if mode not in MODES:
        raise SettingError(f"guard: expected {', '.join(MODES)}, got {mode!r}{nearest(mode, MODES)}")
    guard = (opened.task.guard or Guard()).model_copy(update={"mode": mode})
    return replace(opened, task=opened.task.model_copy(update={"guard": guard}))


def _agree(
    plan: Plan,
    opened: Opened,
    asked: tuple[Asked, ...],
    max_usd: float | None,
    yes: bool,
    confirm: Callable[[Plan], bool] | None,
) -> None:
    """Priced calls need a yes; a money cap needs a price of every host that is asked."""
    refuse_unpriced_cap(asked, money_cap(opened.task, max_usd))
    if not plan.priced or yes or max_usd is not None:
        return
    if confirm is None or not confirm(plan):
        raise SettingError(
            f"the calls to {', '.join(priced_hosts(asked))} cost money ({plan.money});"
            f" agree with --yes, or set a cap with --max-usd{'' if plan.provable else '. ' + plan.headline}"
        )


def _run_on(
    store: Store,
    opened: Opened,
    reasons: dict[str, str],
    folder: Path,
    seed: int,
    exhaustive: bool,
    max_usd: float | None,
    progress: Progress,
) -> Run:
    task = opened.task
    hours = task.budget.hours if task.budget is not None else None
    spending = Spending(
        max_usd=money_cap(task, max_usd),
        max_seconds=hours * 3600 if hours is not None else None,
        already=store.spent(),
    )
    clocked = Clocked(progress, store, spending)
    return Run(
        task=task,
        parts=opened.parts,
        order=opened.order,
        door=opened.door,
        tune_door=opened.tune_door,
        tune_door_missing=opened.tune_door_missing,
        store=store,
        spending=spending,
        runner=Runner(store, spending, clocked),
        folder=folder,
        seed=seed,
        progress=clocked,
        rungs_in_play=count_in_play(store, rungs_for(), reasons),
        exhaustive=exhaustive,
        judge_door=opened.judge_door,
        teacher_door=opened.teacher_door,
    )


def _hand_over(run: Run, opened: Opened, budget_ended: bool, staleness: Staleness | None = None) -> Decision:
    """Make the decision from what was measured; write decision.json and report.html beside the store.

    staleness: what was asked after a first hand-over; it changes nothing else but what was spent.
    """
    from tunewise.report.page import write_report

    task, store = run.task, run.store
    spent = store.spent()
    in_play: Any = store.frozen("rungs in play")
    chosen = choose(
        run.results,
        metric=task.metric,
        target=task.target,
        tolerance=task.zone,
        budget_ended=budget_ended,
        stops=task.on_not_proved == "stop" and not run.exhaustive,
    )
    decision = Decision(
        task=task.name,
        metric=task.metric,
        target=task.target,
        tolerance=task.zone,
        rungs=tuple(run.results),
        spent={
            "calls": spent.calls,
            "tokens_in": spent.tokens_in,
            "tokens_out": spent.tokens_out,
            "usd": spent.usd,
            "usd_at_most": spent.usd_at_most,
            "seconds": spent.seconds,
        },
        baselines=_baselines(run),
        measures=run.measures.to_json(),
        openings={**run.openings, "alpha_per_rung": run.alpha},
        data={
            "train": len(opened.parts.train),
            "selection": len(opened.parts.selection),
            "certification": len(run.order),
            "format": opened.format,
            "model": opened.door.name,
            "host": opened.door.host,
            "hosts": hosts_of(doors_asked(opened, in_play)),
        },
        versions=versions(),
        seed=run.seed,
        exhaustive=run.exhaustive,
        advice=_advice_met(task, opened.parts, chosen["choice"], run.results),
        staleness=None if staleness is None else staleness.to_json(),
        limits={} if task.limits is None else {**task.limits.model_dump(), **LIMITS_PROVE},
        economics=economics_of(run),
        **chosen,
    )
    write_json(run.folder / "decision.json", decision.to_json())
    if run.measures.judge is not None and task.judge is not None:
        place = place_to_label(run.folder, task.judge)
        if count := write_to_label(place, run):
            run.progress.tell("note", text=f"{count} answers for people to label: {place} (see judge.labels)")
    with failures_in_words(run.folder / "report.html"):
        write_report(run.folder / "report.html", decision, run.outcomes, run.order)
    return decision


def _advice_met(
    task: Task, parts: Parts, choice: str | None, results: Sequence[RungResult]
) -> Mapping[str, Any]:
    """The advice on paper beside what was measured."""
    rule = decide_rule(facts_of_task(task, parts).facts)
    verdicts = [(r.rung, r.evidence.verdict if r.evidence else None) for r in results]
    return meet(rule.approach, rule.id, choice, verdicts)


def _baselines(run: Run) -> dict[str, dict[str, Any]]:
    if run.task.metric == "judge":
        nothing = {"quality": None, "n": 0, "why": "the judge is asked about the rungs' answers only"}
        return {"majority": dict(nothing), "nearest": dict(nothing)}
    return baselines(run.parts.train, run.order, lambda example, text: run.score(example, Answer(text)))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half a file. Raises StoreError where it cannot be written."""
    half = path.with_name(path.name + ".part")
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    with failures_in_words(path):
        half.write_text(text, encoding="utf-8")
        os.replace(half, path)


def versions() -> dict[str, str]:
    """Versions of what shaped the result; libraries that are not installed are left out."""
    found = {"tunewise": __version__, "python": platform.python_version()}
    for library in ("torch", "transformers", "peft", "trl", "bm25s", "scipy"):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _known(rungs: Sequence[str] | None) -> Sequence[str] | None:
    """Rung names as asked for. Raises SettingError naming those that do not exist."""
    if rungs is not None:
        rungs_for(rungs)
    return rungs


__all__ = [
    "Opened",
    "answer",
    "check",
    "decide",
    "open_task",
    "read_parts",
    "versions",
    "write_json",
]
