"""Two stages as one run: the model reads the documents, then learns to answer from the train rows.

The second stage starts only when the first passed its gate (``training.pretraining.gate``). It trains an
adapter on the model of the first stage; handed over is that model with the adapter merged in, one folder of
safetensors that answers alone.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewise.data import read_inputs
from tunewise.errors import DataError
from tunewise.ladder import NotBuilt
from tunewise.models.door import Door
from tunewise.models.open import open_door
from tunewise.retrieval.documents import Document, read_documents
from tunewise.rungs import tuned, tuned_settings
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.said import Said
from tunewise.task_training import PretrainingSection
from tunewise.training import checkpoints
from tunewise.training.corpus import Corpus, corpus_of
from tunewise.training.methods import DEFAULTS, Method
from tunewise.training.pretraining import MODEL, merge, pretrain, whole_model
from tunewise.training.recipe import Recipe, train

BYTES_PER_TOKEN = 4.0  # of English text with common tokenizers, 3.5 to 4.5
GENERAL_MISSING = "no general text is named (training.cpt.general or training.mix.general)"


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
        """See Rung; tokens of documents are taken from the size of their files, which are not read."""
        section, place = bench.task.training.cpt or PretrainingSection(), documents_of(bench)
        tokens = 0 if place is None else round(size_of(place) / BYTES_PER_TOKEN)
        tokens = tokens if section.tokens is None else min(tokens, section.tokens)
        return replace(tuned.outlook_of(bench), read_tokens=round(tokens * section.epochs))

    def build(self, bench: Workbench, trainer: tuned.Trainer = train) -> PromptCandidate:
        """See Rung. Raises NotBuilt when the first stage did not pass, DataError with too little text."""
        home = bench.folder / self.name
        method = method_of(bench)
        if checkpoints.finished(home) is None:
            tuned.refuse_unanswerable(bench, tuned.opened(bench, None), layout_of(bench))
        first = first_stage(bench, home / "cpt", trainer)
        if not first["passed"]:
            raise NotBuilt(f"the second stage did not start: {first['why']}")
        read = home / "cpt" / MODEL
        if not (home / MODEL).is_dir():  # what both stages made is one more whole model
            base: Any = tuned.opened(bench, None)
            checkpoints.need_space(home, whole_model(base.folder))
        own = replace(bench, folder=home / "sft", tune_door=on_base(bench, read))
        second = tuned.build(own, method, trainer)
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
            self.name,
            tuned.opened(bench, model),
            layout_of(bench),
            adapter=model,
            built=facts,
            curve=second.curve,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What the first stage reads. left_out: documents that give a certification item away."""

    base: Any
    corpus: Corpus
    general: Corpus | None
    missing: str
    left_out: int
    recipe: Recipe

    def notes(self) -> list[str]:
        """What is read, how often, and what the user should know before it starts."""
        facts = self.corpus.facts()
        said = [
            f"cpt: {facts['train_tokens']:,} tokens of {facts['documents']:,} documents, "
            f"{self.recipe.epochs:g} epochs; {facts['held_out_tokens']:,} tokens are held out"
        ]
        if not self.corpus.apart and self.corpus.held_out:
            said.append(
                "cpt: there is one document, so its last piece is held out: whether reading helped is "
                "measured on text whose beginning was read"
            )
        if self.left_out:
            said.append(
                f"cpt: {self.left_out} documents hold a certification item's question and answer word for "
                "word; they are not read"
            )
        if is_instruct(self.base):
            said.append(
                f"cpt: {self.base.name} has a chat template, so it is an instruct model: reading raw text "
                "can cost it the habit of answering. A base model of the same family is the usual start; "
                "the second stage and the certification show what came of it"
            )
        if self.general is None:
            said.append(f"cpt: {self.missing}, so what reading costs on general text is not measured")
        return said


def reading_of(bench: Workbench) -> Reading:
    """What the task lets the first stage read. Raises DataError with too little text."""
    base: Any = tuned.opened(bench, None)
    section = bench.task.training.cpt or PretrainingSection()
    corpus, left_out = domain_text(bench, base, section)
    general, missing = general_text(bench, base, section)
    return Reading(base, corpus, general, missing, left_out, recipe_of(bench, section))


def first_stage(bench: Workbench, home: Path, trainer: tuned.Trainer = train) -> dict[str, Any]:
    """Continual pre-training as the task says it, in ``home``; its facts."""
    reading = reading_of(bench)
    base, general, recipe = reading.base, reading.general, reading.recipe
    for text in reading.notes():
        bench.progress.tell("note", text=text)
    said = {
        "base": base.weights_fingerprint,
        "versions": tuned_settings.settings_of(bench, base, layout_of(bench), recipe.method)["versions"],
    }
    share = 0.0 if bench.task.training.mix is None else bench.task.training.mix.share
    bench.make_room()
    facts = pretrain(
        base.folder, home, reading.corpus, general, share, recipe, bench.progress, said, trainer,
        bench.refuse_changes, bench.task.training.precision == "auto",
    )  # fmt: skip
    facts = {**facts, "documents_left_out": reading.left_out, "starts_from_instruct": is_instruct(base)}
    if general is None:
        facts["perplexity"] = {**facts["perplexity"], "general": None}
        facts["general_missing"] = reading.missing
    bench.progress.tell("note", text=f"cpt: {facts['why']}")
    return facts


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


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(file.stat().st_size for file in files)


def domain_text(bench: Workbench, base: Any, section: PretrainingSection) -> tuple[Corpus, int]:
    """The documents as rows, and how many documents are left out.

    A document in which question and answer of a certification item both stand word for word is not read:
    the verdict would be on what was trained on.
    """
    place = documents_of(bench)
    assert place is not None
    said = Said([*bench.parts.certification])
    documents = read_documents(place).documents
    kept = [d for d in documents if not said.stands_in(f"{d.head}\n{d.text}")]
    if not kept:
        raise DataError(
            f"{place}: every document holds certification items word for word; none is left to read"
        )
    corpus = corpus_of(kept, base.tokenizer, length_of(base, section), section.tokens)
    return corpus, len(documents) - len(kept)


def general_text(bench: Workbench, base: Any, section: PretrainingSection) -> tuple[Corpus | None, str]:
    """Rows of ``training.cpt.general``, else of the mix, as plain text, or None and why there is none."""
    mix = bench.task.training.mix
    file = section.general or (None if mix is None else mix.general)
    if file is None:
        return None, GENERAL_MISSING
    rows = read_inputs(file).examples  # prompts alone are text too
    said = {row.key: "\n".join([row.input, *([row.answer] if row.references else [])]) for row in rows}
    texts = [Document(key, text, "row") for key, text in said.items()]
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
    own = tuned_settings.recipe_of(bench, method)
    return replace(own, learning_rate=rate, epochs=section.epochs, kl_weight=0.0)


def on_base(bench: Workbench, base: Path) -> Any:
    """Opens the model in ``base``, with an adapter when given, in place of the task's own weights.

    On a CPU in fp32, as it is handed over: what reading added to the weights does not fit into bf16. A GPU
    rounds it, as it does the model that is handed over.
    """
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
