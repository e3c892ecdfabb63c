"""What a rung promises, and the workbench it is given to build on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunewise.data import Example
from tunewise.evidence.records import Score
from tunewise.models.door import Answer, Door, Request
from tunewise.progress import Progress
from tunewise.splits import Parts
from tunewise.task import Task


class Candidate(Protocol):
    """A built rung that can answer."""

    @property
    def rung(self) -> str: ...

    @property
    def door(self) -> Door: ...

    def request(self, example: Example) -> Request:
        """The exact request that answers this example. Never looks at its references or passages."""
        ...

    def facts(self) -> dict[str, Any]:
        """What was chosen and built, JSON-able, for the report (k, chunks, seconds, parameters, ...)."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that ``rungs.order.load_candidate`` needs to answer again, byte for byte the same."""
        ...


@dataclass(frozen=True)
class Workbench:
    """All a rung may use to build its candidate. Certification items are not on it.

    ask: answers requests at a door, from the store where they were paid for before; a request whose
        answer is ``errored`` comes back as such. ``purpose`` is recorded ("selection", "gap", ...).
    score: the task's metric on one answer to one example.
    tune_door: opens local weights, with an adapter folder when given; None when there are none.
    teacher_door: the teacher's own door; None where the task's model teaches, or nobody does.
    built: the candidates of the rungs below, by name, for a rung that builds on them.
    selected: the selection score of each of those (mean of the metric), where it was measured.
    refuse_changes: a training found with other settings is refused, not replaced. A climb's own store has
        refused changed settings before, and what still differs follows from its calls.
    refusals: why a door, by its fingerprint, cannot be asked with a grammar; shared by all rungs of a run.
    make_room: lets go of weights that answered before, called before a training; they are loaded again when
        they are next asked.
    """

    task: Task
    parts: Parts
    door: Door
    tune_door: Callable[[Path | None], Door] | None
    tune_door_missing: str
    ask: Callable[[Door, Sequence[Request], str], list[Answer]]
    score: Callable[[Example, Answer], Score]
    folder: Path
    seed: int
    progress: Progress
    teacher_door: Door | None = None
    built: Mapping[str, Candidate] = field(default_factory=dict)
    selected: Mapping[str, float] = field(default_factory=dict)
    refuse_changes: bool = False
    refusals: dict[str, str] = field(default_factory=dict)
    make_room: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What building and asking a rung would take, before anything is done: the plan is made of these.

    build_calls: calls on selection items while building, at most. shots, passage_tokens: fewest and
    most examples, and tokens of passages, in one prompt. train_rows, epochs: what is trained on.
    read_tokens: tokens of documents that are trained on beside the rows.
    """

    build_calls: int = 0
    shots: tuple[int, int] = (0, 0)
    passage_tokens: tuple[int, int] = (0, 0)
    train_rows: int = 0
    epochs: float = 0.0
    read_tokens: int = 0


class Rung(Protocol):
    """One way to adapt a model."""

    name: str

    def outlook(self, bench: Workbench) -> Outlook:
        """What this rung would take; asks nothing and reads no document."""
        ...

    def cannot_help(self, bench: Workbench) -> str | None:
        """The reason, in one sentence, why building this rung would be pointless; None when it is not.

        Asks no model: it is also called for rungs that are not needed.
        """
        ...

    def build(self, bench: Workbench) -> Candidate:
        """Build on train and selection only. Restartable: finished work is found in ``bench.folder``.

        Raises ``ladder.NotBuilt`` when it turns out on the way that there is nothing to hand over.
        """
        ...
