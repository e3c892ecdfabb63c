"""Two stages as one run: the model reads the documents, then learns to answer from the train rows.

The second stage starts only when the first passed its gate (``training.pretraining.gate``). It trains an
adapter on the model of the first stage; handed over is that model with the adapter merged in, one folder of
safetensors that answers alone.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewise.data import read_examples
from tunewise.errors import DataError
from tunewise.models.door import Door
from tunewise.models.open import open_door
from tunewise.retrieval.documents import Document, read_documents
from tunewise.rungs import tuned
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rung import NotBuilt, Outlook, Workbench
from tunewise.rungs.said import Said
from tunewise.task_training import PretrainingSection
from tunewise.training import checkpoints
from tunewise.training.corpus import Corpus, corpus_of
from tunewise.training.methods import DEFAULTS, Method
from tunewise.training.pretraining import MODEL, merge, pretrain
from tunewise.training.recipe import Recipe

GENERAL_MISSING = "no general text is named (training.mix.general)"


class CptSft:
    """Continual pre-training on documents, a gate, then tuning on the train part."""

    name = "cpt-sft"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be documents to read and rows to tune on."""
        if (reason := tuned.cannot_tune(bench)) is not None:
            return reason
        if documents_of(bench) is None:
            return "the task names no documents to read (training.cpt.documents or knowledge.documents)"
        return None

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung; the documents are not read, so pre-training's tokens are not counted here."""
        return tuned.outlook_of(bench)

    def build(self, bench: Workbench) -> PromptCandidate:
        """See Rung. Raises NotBuilt when the first stage did not pass, DataError with too little text."""
        home = bench.folder / self.name
        method = method_of(bench)
        first = first_stage(bench, home / "cpt")
        if not first["passed"]:
            raise NotBuilt(f"the second stage did not start: {first['why']}")
        read = home / "cpt" / MODEL
        second = tuned.build(replace(bench, folder=home / "sft", tune_door=on_base(bench, read)), method)
        assert second.adapter is not None
        model, adapter = home / MODEL, second.adapter
        settings = {"model": second.door.fingerprint}
        if checkpoints.begin(home, settings) or checkpoints.finished(home) is None:
            checkpoints.publish(
                model, lambda folder: put_together(read, adapter, folder, whole=method == "full")
            )
            checkpoints.write_json(home / "done.json", {"cpt": first, **second.facts()})
        second.door.close()
        facts = checkpoints.read_json(home / "done.json") or {}
        return PromptCandidate(
            self.name, tuned.opened(bench, model), layout_of(bench), adapter=model, built=facts
        )


def first_stage(bench: Workbench, home: Path) -> dict[str, Any]:
    """Continual pre-training as the task says it, in ``home``; its facts."""
    base: Any = tuned.opened(bench, None)
    section = bench.task.training.cpt or PretrainingSection()
    corpus, left_out = domain_text(bench, base, section)
    general, missing = general_text(bench, base, section)
    recipe = recipe_of(bench, section)
    tell(bench, base, corpus, recipe, left_out)
    said = {
        "base": base.fingerprint,
        "versions": tuned.settings_of(bench, base, layout_of(bench), recipe.method)["versions"],
    }
    share = 0.0 if bench.task.training.mix is None else bench.task.training.mix.share
    facts = pretrain(base.folder, home, corpus, general, share, recipe, bench.progress, said)
    facts = {**facts, "documents_left_out": left_out, "starts_from_instruct": is_instruct(base)}
    if general is None:
        facts["perplexity"] = {**facts["perplexity"], "general": None}
        facts["general_missing"] = missing
    bench.progress.tell("note", text=f"cpt: {facts['why']}")
    return facts


def tell(bench: Workbench, base: Any, corpus: Corpus, recipe: Recipe, left_out: int) -> None:
    """What is read, how often, and what the user should know before it starts."""
    facts = corpus.facts()
    bench.progress.tell(
        "note",
        text=f"cpt: {facts['train_tokens']:,} tokens of {facts['documents']:,} documents, "
        f"{recipe.epochs:g} epochs; {facts['held_out_tokens']:,} tokens are held out",
    )
    if left_out:
        text = f"cpt: {left_out} documents hold a certification item's question and answer word for word"
        bench.progress.tell("note", text=f"{text}; they are not read")
    if is_instruct(base):
        bench.progress.tell(
            "note",
            text=f"cpt: {base.name} has a chat template, so it is an instruct model: reading raw text can "
            "cost it the habit of answering. A base model of the same family is the usual start; the second "
            "stage and the certification show what came of it",
        )


def is_instruct(base: Any) -> bool:
    """A model with a chat template was tuned to answer."""
    return bool(getattr(base.tokenizer, "chat_template", None))


def method_of(bench: Workbench) -> Method:
    """How weights are trained: ``tune.method``, else ``lora``."""
    tune = bench.task.tune
    return (tune.method if tune is not None else None) or "lora"


def documents_of(bench: Workbench) -> Path | None:
    """Where the documents to read are; None when the task names none."""
    section, knowledge = bench.task.training.cpt, bench.task.knowledge
    if section is not None and section.documents is not None:
        return section.documents
    return None if knowledge is None else knowledge.documents


def domain_text(bench: Workbench, base: Any, section: PretrainingSection) -> tuple[Corpus, int]:
    """The documents as rows, and how many documents are left out.

    A document in which question and answer of a certification item both stand word for word is not read:
    the verdict would be on what was trained on.
    """
    place = documents_of(bench)
    assert place is not None
    said = Said([*bench.parts.certification])
    documents = read_documents(place).documents
    kept = [document for document in documents if not said.stands_in(document.text)]
    if not kept:
        raise DataError(
            f"{place}: every document holds certification items word for word; none is left to read"
        )
    corpus = corpus_of(kept, base.tokenizer, length_of(base, section), section.tokens)
    return corpus, len(documents) - len(kept)


def general_text(bench: Workbench, base: Any, section: PretrainingSection) -> tuple[Corpus | None, str]:
    """Rows of ``training.mix.general`` as plain text, or None and why there is none."""
    mix = bench.task.training.mix
    if mix is None:
        return None, GENERAL_MISSING
    rows = read_examples(mix.general).examples
    texts = [Document(row.key, f"{row.input}\n{row.answer}", "row") for row in rows]
    return corpus_of(texts, base.tokenizer, length_of(base, section)), ""


def length_of(base: Any, section: PretrainingSection) -> int:
    """Tokens of a piece, within the model's window."""
    return section.length if base.context_window is None else min(section.length, base.context_window)


def recipe_of(bench: Workbench, section: PretrainingSection) -> Recipe:
    """The tuning's recipe with the stage's own rate and passes; a 4-bit base is read as ``lora``.

    What was trained beside a quantised base does not merge exactly into the one that answers.
    """
    method: Method = "full" if method_of(bench) == "full" else "lora"
    rate = section.learning_rate or DEFAULTS[method].learning_rate
    return replace(tuned.recipe_of(bench, method), learning_rate=rate, epochs=section.epochs)


def on_base(bench: Workbench, base: Path) -> Any:
    """Opens the model in ``base``, with an adapter when given, in place of the task's own weights."""
    rate = bench.task.tune.usd_per_hour if bench.task.tune is not None else None

    def opener(adapter: Path | None) -> Door:
        return open_door(str(base), adapter=adapter, usd_per_hour=rate)

    return opener


def put_together(base: Path, adapter: Path, folder: Path, *, whole: bool) -> None:
    """What the second stage trained as one model: merged, or copied where it is one already."""
    if not whole:
        merge(base, adapter, folder)
        return
    for file in sorted(adapter.iterdir()):
        if file.name != checkpoints.MARK:
            shutil.copyfile(file, folder / file.name)


__all__: Sequence[str] = ["CptSft", "first_stage", "method_of"]
