"""The rungs, from light to heavy: an explicit list, and the way back from a saved candidate."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from tunewise.errors import SettingError
from tunewise.rungs import saved
from tunewise.rungs.constrained import Constrained
from tunewise.rungs.few_shot import FewShot
from tunewise.rungs.few_shot_nearest import FewShotNearest
from tunewise.rungs.names import LEARNS_FROM_ROWS, WEIGHTS
from tunewise.rungs.prompt import DoorOpener
from tunewise.rungs.rag import Rag
from tunewise.rungs.rung import Candidate, Rung
from tunewise.rungs.zero_shot import ZeroShot


def rungs_for(names: Sequence[str] | None = None) -> tuple[Rung, ...]:
    """The rungs in order of weight; with ``names`` only these. Raises SettingError for any other name."""
    for name in names or ():
        if name not in WEIGHTS:
            near = difflib.get_close_matches(name, WEIGHTS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingError(f"unknown rung {name!r}; there are {', '.join(WEIGHTS)}{hint}")
    rungs: tuple[Rung, ...] = (
        *(ZeroShot(), FewShot(), FewShotNearest(), Constrained(), Rag()),
        *_tuned(),
    )
    return tuple(rung for rung in rungs if names is None or rung.name in names)


def _tuned() -> tuple[Rung, ...]:
    # imported here: training must not be loaded by whoever only asks for the order
    from tunewise.rungs.cpt_sft import CptSft
    from tunewise.rungs.distilled import Distilled
    from tunewise.rungs.full import Full
    from tunewise.rungs.lora import Lora
    from tunewise.rungs.qlora import Qlora
    from tunewise.rungs.rag_lora import RagLora

    return Lora(), Qlora(), Full(), Distilled(), CptSft(), RagLora()


def load_candidate(folder: Path, open_door: DoorOpener) -> Candidate:
    """The candidate saved in ``folder``, ready to answer byte for byte as when it was certified.

    open_door: given the folder of the saved adapter, or None when there is none, opens the door: with
    None the task's ``model``, with an adapter ``tune.model``. Raises RunError when the folder holds no
    candidate, or when the door is another one than it was built on.
    """
    return saved.load_candidate(folder, open_door)


__all__ = ["LEARNS_FROM_ROWS", "WEIGHTS", "load_candidate", "rungs_for"]
