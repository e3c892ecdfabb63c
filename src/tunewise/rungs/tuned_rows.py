"""What a tuned rung trains on: the task's rows as serving sends them, general rows beside them, checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tunewise.data import Example, Message, read_examples
from tunewise.errors import DataError
from tunewise.rungs.certified import near_notes
from tunewise.rungs.prompt import PromptCandidate, PromptLayout
from tunewise.rungs.replay import General, general_rows
from tunewise.rungs.rung import Workbench
from tunewise.training import trust
from tunewise.training.masks import Rendered, TrainRow, render_rows
from tunewise.training.methods import Method
from tunewise.training.mixing import Mix, plan_mix


class LocalWeights(Protocol):
    """What training needs of an open door beyond answering (``models.local.LocalDoor``)."""

    folder: Path
    tokenizer: Any
    fingerprint: str
    weights_fingerprint: str
    context_window: int | None


def messages_of(layout: PromptLayout, example: Example) -> tuple[Message, ...]:
    """The chat that serving sends for an example: the layout without shots and passages."""
    return layout.messages(example.turns, (), ())


def rows_of(
    bench: Workbench, base: LocalWeights, layout: PromptLayout, examples: Sequence[Example]
) -> Rendered:
    """The examples as ids, rendered as answering renders them."""
    return rendered(bench, base, examples, lambda example: messages_of(layout, example))


def rendered(
    bench: Workbench,
    base: LocalWeights,
    examples: Sequence[Example],
    messages: Callable[[Example], Sequence[Message]],
) -> Rendered:
    """The examples as ids within the window of the model, or the shorter one of the task."""
    from tunewise.models.tokens import render

    training = bench.task.training
    window = min((n for n in (base.context_window, training.max_length) if n is not None), default=None)
    return render_rows(base.tokenizer, render, examples, messages, window, training.too_long)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained on: the task's rows, general ones, how they are mixed, and where they come from.

    held: general rows on which the model is held near its base. near: what is nearly certification's.
    """

    own: Rendered
    general: Rendered | None = None
    mix: Mix | None = None
    pool: General | None = None
    held: Rendered | None = None
    near: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[TrainRow, ...]:
        """The task's rows, then the general ones."""
        return self.own.rows if self.general is None else self.own.rows + self.general.rows

    def notes(self, method: Method) -> list[str]:
        """What the user should know of rows that do not fit, and of the mix."""
        said = [] if self.mix is None else [f"{method}: {self.mix.in_words()}"]
        said += [f"{method}: {text}" for text in ([] if self.pool is None else self.pool.notes())]
        said += [f"{method}: {text}" for text in self.near]
        for name, part in (("train", self.own), ("general", self.general)):
            if part is not None and part.too_long + part.truncated:
                fate = "are left out of training" if part.too_long else "lose the beginning of their prompt"
                said.append(
                    f"{method}: {part.too_long + part.truncated} {name} rows pass the window of tokens that "
                    f"the model can read (the longest has {part.longest}) and {fate}"
                )
        if self.own.earlier_lost:
            said.append(
                f"{method}: {self.own.earlier_lost} assistant turns before the last carry no loss: the "
                "model's chat template writes them otherwise once the chat goes on"
            )
        return said


def prepared(bench: Workbench, base: LocalWeights, layout: PromptLayout) -> Prepared:
    """The train part as ids, with general rows beside it where the task names some.

    General rows keep their own system turn; the task's instruction is not theirs. With replay the base model
    is asked for them, once for each run folder.
    """
    own, mix = rows_of(bench, base, layout, bench.parts.train), bench.task.training.mix
    kl = bench.task.training.kl
    held = None if kl is None else rows_held(bench, base, kl.general)
    if mix is None:
        return Prepared(own, held=held, near=tuple(near_notes(bench)))
    wanted = plan_mix(len(own.rows), 1, mix.share, bench.task.training.epochs).draws
    pool = general_rows(bench, base, mix, wanted)
    general = rendered(bench, base, pool.rows, lambda example: example.turns)
    plan = plan_mix(len(own.rows), len(general.rows), mix.share, bench.task.training.epochs)
    return Prepared(own, general, plan, pool, held, tuple(near_notes(bench)))


def rows_held(bench: Workbench, base: LocalWeights, file: Path) -> Rendered:
    """General rows on which the model is held near its base. Raises DataError where none can be used."""
    found = rendered(bench, base, read_examples(file).examples, lambda example: example.turns)
    if not found.rows:
        raise DataError(f"{file}: none of its rows fits into the model's window")
    return found


def check_before(bench: Workbench, base: LocalWeights, layout: PromptLayout, ready: Prepared) -> None:
    """The checks of ``trust`` before training: serving's own prompt is built and compared for every row.

    It is built twice: by the door that answers here, and by the chat template's own call, as other servers
    make it. General rows are no task of serving's: they are held to the rest.
    """
    from tunewise.models.tokens import stop_ids, template_ids

    door: Any = base
    serving = PromptCandidate("training", door, layout)
    by_key = {example.key: example for example in bench.parts.train}

    def served(row: TrainRow) -> tuple[Sequence[int], ...]:
        messages = serving.layout.messages(by_key[row.key].turns, (), ())
        return door.prompt_ids(messages), template_ids(base.tokenizer, messages)

    keys = {example.key for example in bench.parts.certification}
    stops = stop_ids(base.tokenizer)
    trust.check_rows(ready.own.rows, stops, served, keys)
    if ready.general is not None:
        trust.check_rows(ready.general.rows, stops, lambda row: (), keys)
