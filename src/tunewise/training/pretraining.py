"""Continual pre-training: a model goes on reading, and what that did to it is measured on text it never read.

    base -> recipe.train on pieces of documents -> best snapshot -> merged -> model/ -> perplexities, gate

An adapter is merged into a whole model, so that the next stage starts from plain weights: two adapters of
different rank on top of each other need care wherever they are loaded, one model does not. Gururangan et al.,
"Don't Stop Pretraining", ACL 2020, is the source of the stage; Cheng et al., "Adapting Large Language Models
to Domains via Reading Comprehension", ICLR 2024, found that it can cost the ability to answer, which is why
the next stage tunes on answers and why general text is measured beside the domain's.
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunewise.progress import READING, Progress
from tunewise.training import checkpoints, trust
from tunewise.training.corpus import Corpus, perplexity
from tunewise.training.masks import TrainRow
from tunewise.training.mixing import plan_mix
from tunewise.training.recipe import Recipe, Snapshot, Trained, quiet, train

MODEL = "model"
HELD_OUT_ROWS = 200  # most pieces that perplexity is measured on
PROBES = 3


def pretrain(
    base: Path,
    home: Path,
    corpus: Corpus,
    general: Corpus | None,
    share: float,
    recipe: Recipe,
    progress: Progress,
    said: Mapping[str, Any],
    trainer: Callable[..., Trained] = train,
    refuse_changes: bool = False,
    auto_precision: bool = False,
) -> dict[str, Any]:
    """The stage as facts, its model in ``home / "model"``; goes on where an earlier process was cut off.

    general: general text, its held-out pieces measured, its train pieces mixed in when there is a
    ``share``; None without. said: all else that the result depends on (fingerprints, versions).
    trainer: ``recipe.train`` or one with its arguments (many processes). refuse_changes: raise RunError for a
    folder that holds a training with other settings, in place of starting anew. Facts: ``perplexity`` per
    kind of text with ``before`` and ``after``, ``passed`` and ``why`` of the gate, tokens, epochs, steps.
    """
    settings = {
        **said,
        "recipe": asdict(recipe),
        "rows": digest(corpus.train),
        "held_out": digest(corpus.held_out),
    }
    if general is not None:
        settings["general"] = [digest(general.train), digest(general.held_out), share]
    settings["launch"] = getattr(trainer, "in_words", checkpoints.ALONE)
    settings = checkpoints.in_its_precision(home, settings, auto_precision)
    recipe = replace(recipe, precision=settings["recipe"]["precision"])
    if thrown_away := checkpoints.begin(home, settings, refuse=refuse_changes):
        (home / "before.json").unlink(missing_ok=True)
        progress.tell("note", text="cpt: pre-training starts anew: " + "; ".join(thrown_away))
    for text in checkpoints.versions_changed(home, settings):
        progress.tell("note", text=f"cpt: goes on under another library version ({text})")
    done = checkpoints.finished(home)
    if done is not None:
        return done
    texts = {"domain": corpus.held_out[:HELD_OUT_ROWS]}
    rows, mix = corpus.train, None
    if general is not None:
        texts["general"] = general.held_out[:HELD_OUT_ROWS]
    if general is not None and share:
        rows = corpus.train + general.train
        mix = plan_mix(len(corpus.train), len(general.train), share, recipe.epochs)
        progress.tell("note", text=f"cpt: {mix.in_words()}")
    checkpoints.need_space(home, whole_model(base))
    named = StageProgress(progress)
    trained = trainer(base, rows, texts["domain"], recipe, home / "work", named, mix=mix)
    before = checkpoints.read_json(home / "before.json")
    if before is None:  # of the base on disk: measured here, so that what cannot train says so at once
        before = losses(base, texts, recipe)
        checkpoints.write_json(home / "before.json", before)
    chosen = min(trained.snapshots, key=lambda s: math.inf if s.held_out_loss is None else s.held_out_loss)
    checks = hand_over(base, chosen, home / MODEL, recipe, [*corpus.held_out, *corpus.train][:PROBES])
    after = losses(home / MODEL, texts, recipe)
    passed, why = gate(before["domain"], after["domain"])
    facts = {
        **corpus.facts(),
        "epochs": recipe.epochs,
        "tokens_trained": trained.facts["tokens"],
        "perplexity": {
            name: {"before": perplexity(before[name]), "after": perplexity(after[name])} for name in texts
        },
        "checkpoint": {"step": chosen.step, "epoch": chosen.epoch},
        "passed": passed,
        "why": why,
        "checks": checks,
        **{name: trained.facts[name] for name in ("method", "steps", "seconds", "learning_rate")},
        **({"mix": trained.facts["mix"]} if mix is not None else {}),
    }
    checkpoints.write_json(home / "done.json", facts)
    shutil.rmtree(home / "work", ignore_errors=True)
    return facts


class StageProgress:
    """Hands progress on under this stage's name: tuning, which may follow, has steps of its own."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        self.progress.tell(event, **({**facts, "rung": READING} if event == "training" else facts))


def gate(before: float | None, after: float | None) -> tuple[bool, str]:
    """Whether the next stage may start, and why: held-out loss on the domain is finite and lower than before.

    Losses in nats per token; None: nothing was held out, and then nothing is known.
    """
    if before is None or after is None:
        return False, "no domain text was held out, so it is not known whether reading helped"
    if not math.isfinite(after):
        return False, "the loss on held-out domain text is no number any more: pre-training diverged"
    shown = f"held-out domain perplexity {perplexity(before):.2f} before, {perplexity(after):.2f} after"
    if after >= before:
        return False, f"pre-training did not help: {shown}"
    return True, shown


def losses(folder: Path, texts: Mapping[str, Sequence[TrainRow]], recipe: Recipe) -> dict[str, float | None]:
    """Mean loss in nats per token of each kind of text under the model in ``folder``; None without rows."""
    with quiet():
        from tunewise.models.weights import load_model
        from tunewise.training.held_out import held_out_loss

        model = load_model(folder)
        one_by_one = replace(recipe, rows_per_pass=1, packed=False)
        return {name: held_out_loss(model, rows, one_by_one) for name, rows in texts.items()}


def hand_over(
    base: Path, chosen: Snapshot, model: Path, recipe: Recipe, probes: Sequence[TrainRow]
) -> dict[str, Any]:
    """Put the chosen snapshot as a whole model into ``model``, checked; the figures of the checks."""
    if recipe.method != "full":
        checks = trust.check_adapter(base, chosen.folder, probes)
        checkpoints.publish(model, lambda folder: merge(base, chosen.folder, folder))
        return checks
    checkpoints.publish(model, lambda folder: copy_model(chosen.folder, folder))
    return trust.check_model(base, model, probes)


def whole_model(base: Path) -> int:
    """Bytes of a model in fp32 on the shape of ``base``, whose weights are in 16 bits or more."""
    from tunewise.models import weights

    return 2 * sum(file.stat().st_size for file in weights.weight_files(base))


def copy_model(snapshot: Path, folder: Path) -> None:
    """The files of a model, and nothing of the run."""
    for file in sorted(snapshot.iterdir()):
        if file.name not in ("snapshot.json", checkpoints.MARK):
            shutil.copyfile(file, folder / file.name)


def merge(base: Path, adapter: Path, folder: Path) -> None:
    """Write the base with an adapter merged in as safetensors, in fp32, that any loader reads.

    Read and merged in fp32, in the machine's own memory: a small difference is lost when it is added to a
    bf16 weight, and what an earlier stage wrote when it is rounded on its way in.
    """
    from tunewise.models import weights

    with quiet():
        model = weights.merged(weights.load_exactly(base), adapter)
        weights.copy_meaning(base, folder)
        weights.stop_as_trained(model, base)
        model.save_pretrained(folder)


def digest(rows: Sequence[TrainRow]) -> str:
    """SHA-256 over all ids of the rows, 64 hex digits."""
    import hashlib

    whole = hashlib.sha256()
    for row in rows:
        whole.update(f"{row.ids};".encode())
    return whole.hexdigest()
