"""Stages of ``tunewise train``: tuning on rows (sft), reading documents (cpt), both with a gate between."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunewise.errors import SettingError, WorldError
from tunewise.ladder import NotBuilt
from tunewise.rungs.rung import Workbench

if TYPE_CHECKING:
    from tunewise.training.methods import Method
    from tunewise.training.recipe import Trained
    from tunewise.tuning import Shown

Stage = Literal["sft", "cpt", "cpt+sft"]
STAGES: tuple[Stage, ...] = ("sft", "cpt", "cpt+sft")


class GateClosed(WorldError):
    """The first stage did not pass its gate, so the second did not start; what was trained is kept."""


def known_stage(stage: str) -> Stage:
    """The stage of that name, else SettingError."""
    found = next((name for name in STAGES if name == stage), None)
    if found is None:
        raise SettingError(f"stage {stage!r} is not supported; there are {', '.join(STAGES)}")
    return found


def cannot_run(bench: Workbench, stage: Stage) -> str | None:
    """Why nothing can be trained; reading documents takes no rows."""
    from tunewise.rungs.certified import in_general_data
    from tunewise.rungs.cpt_sft import CptSft, documents_of
    from tunewise.rungs.tuned import cannot_tune

    if stage == "sft":
        return cannot_tune(bench)
    if stage == "cpt+sft":
        return CptSft().cannot_help(bench)
    if bench.tune_door is None:
        return bench.tune_door_missing
    if documents_of(bench) is None:
        return "the task names no documents to read (training.cpt.documents or knowledge.documents)"
    return in_general_data(bench)


def run_stage(
    bench: Workbench, method: "Method", stage: Stage, trainer: "Callable[..., Trained]"
) -> tuple[Path, dict[str, Any]]:
    """Train; the folder that answers, and the facts.

    Raises GateClosed where the second stage may not start.
    """
    from tunewise.rungs import cpt_sft, tuned
    from tunewise.training.pretraining import MODEL

    if stage == "cpt":
        home = bench.folder / "cpt"
        return home / MODEL, cpt_sft.first_stage(bench, home, trainer)
    if stage == "sft":
        candidate = tuned.build(bench, method, trainer)
    else:
        try:
            candidate = cpt_sft.CptSft().build(bench, trainer)
        except NotBuilt as why:
            raise GateClosed(
                f"{why}. The first stage is kept in {bench.folder / 'cpt-sft' / 'cpt'}; lower "
                "training.cpt.learning_rate, give it more text, or train --stage sft alone."
            ) from why
    assert candidate.adapter is not None
    facts = candidate.facts()
    if bench.task.training.curve is True and candidate.curve is not None:
        candidate.door.close()  # its weights make room for a training
        facts["learning_curve"] = candidate.curve()
    return candidate.adapter, facts


def show_reading(bench: Workbench, task: str, rows: int) -> "Shown":
    """What the stage cpt would read, as ``--show`` shows it: every token carries loss. Trains nothing."""
    from tunewise.rungs.cpt_sft import reading_of
    from tunewise.tuning import Shown, shown_row, spread

    reading = reading_of(bench)
    train = reading.corpus.train
    facts = reading.corpus.facts()
    return Shown(
        task=task,
        method=reading.recipe.method,
        base=reading.base.name,
        rows=len(train),
        tokens=sum(map(len, train)),
        loss_tokens=facts["train_tokens"],
        longest=max(map(len, train)),
        recipe=asdict(reading.recipe),
        examples=tuple(shown_row(reading.base.tokenizer, row) for row in spread(train, rows)),
        passed=(
            *(
                [f"no document is both among the {len(train)} pieces that are read and held out"]
                if reading.corpus.apart
                else []
            ),
            "no document gives away a certification item's question (of five words or more) and answer",
        ),
        causes=(),
        notes=tuple(reading.notes()),
    )
