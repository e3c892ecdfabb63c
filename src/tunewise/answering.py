"""The winner of a run, answering new inputs: its doors are opened as they were when it was decided."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tunewise.data import Example, Message
from tunewise.errors import DataError, RunError, SettingError
from tunewise.hosts import Asked, priced_hosts, refuse_unpriced_cap
from tunewise.inputs import read_decision
from tunewise.models.asking import ask_in_order, bound
from tunewise.models.door import Answer, Door, Request
from tunewise.models.open import open_door
from tunewise.rungs.order import load_candidate
from tunewise.spending import Spending
from tunewise.task import Task


def answer(
    run: str | Path,
    inputs: Sequence[str | Sequence[Message]],
    *,
    rung: str | None = None,
    max_usd: float | None = None,
    yes: bool = False,
    confirm: Callable[[str], bool] | None = None,
) -> Iterator[Answer]:
    """Answer new inputs with the winner of a run: its exact prompt, index, adapter and decoding.

    run: the run folder. rung: another rung that the run has built. Yields one Answer per input, in order;
    a door is asked as many at once as it takes. Priced calls need ``yes``, ``max_usd`` (a cap, USD) or a
    ``confirm`` that says True to what they would cost. Raises RunError when the folder holds no decision,
    or no rung that meets and none is named; SettingError without consent; BudgetEnded at the cap.
    """
    for _, found in answered(run, inputs, rung=rung, max_usd=max_usd, yes=yes, confirm=confirm):
        yield found


def answered(
    run: str | Path,
    inputs: Sequence[str | Sequence[Message]],
    *,
    rung: str | None = None,
    max_usd: float | None = None,
    yes: bool = False,
    confirm: Callable[[str], bool] | None = None,
) -> Iterator[tuple[Request, Answer]]:
    """As ``answer``, each with what was asked; ``request.tag["passages"]`` are its chunk ids."""
    folder = Path(run)
    decision = read_decision(folder)
    name = rung or decision["choice"]
    if name is None:
        raise RunError(
            f"{folder / 'decision.json'}: no rung meets the target, so there is no winner to answer with;"
            " name one with --rung"
        )
    built = folder / "rungs" / name
    if not built.is_dir():
        raise RunError(f"{folder} has not built {name!r}; it has {', '.join(_built(folder)) or 'no rung'}")
    candidate = load_candidate(built, saved_doors(folder))
    examples = [_as_example(given, place) for place, given in enumerate(inputs, 1)]
    requests = [candidate.request(example) for example in examples]
    _agree(candidate.door, requests, max_usd, yes, confirm)
    yield from zip(requests, ask_in_order(candidate.door, requests, Spending(max_usd=max_usd)), strict=True)


def _agree(
    door: Door,
    requests: Sequence[Request],
    max_usd: float | None,
    yes: bool,
    confirm: Callable[[str], bool] | None,
) -> None:
    """Raise SettingError for priced calls without a yes, and for a cap that cannot be kept."""
    asked = (Asked("model", door),)
    refuse_unpriced_cap(asked, max_usd)
    if not asked[0].costs or yes or max_usd is not None:
        return
    most = sum(bound(door, request) for request in requests)
    said = f"{len(requests)} calls to {', '.join(priced_hosts(asked))} cost money (up to {most:.4f} USD)"
    if confirm is None or not confirm(said):
        raise SettingError(f"{said}; agree with --yes, or set a cap with --max-usd")


def _built(folder: Path) -> list[str]:
    rungs = folder / "rungs"
    return sorted(p.name for p in rungs.iterdir() if p.is_dir()) if rungs.is_dir() else []


def _as_example(given: str | Sequence[Message], place: int) -> Example:
    turns = (Message("user", given),) if isinstance(given, str) else tuple(given)
    if not turns or turns[-1].role != "user":
        raise DataError(f"input {place}: expected a text, or a chat that ends with the user's turn")
    return Example(key=f"new-{place}", turns=turns, references=("",), source="input", line=place)


def saved_doors(folder: Path) -> Callable[[Path | None], Door]:
    """Opens the doors that a run was decided on: the tuned weights for an adapter, else the model."""
    path = folder / "task.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no task.json: it is not a run folder, or the run never began")
    task = Task.model_validate(json.loads(path.read_text(encoding="utf-8")))
    tune_door, missing = tunable(task)

    def open_saved(adapter: Path | None) -> Door:
        if adapter is None:
            return open_door(task.model, precision=task.decoding.precision)
        if tune_door is None:
            raise RunError(f"{adapter} cannot be used: {missing}")
        return tune_door(adapter)

    return open_saved


def tunable(task: Task) -> tuple[Callable[[Path | None], Door] | None, str]:
    """How to open the weights that tuned rungs train, or None and the reason why there are none."""
    spec = task.tune.model if task.tune is not None and task.tune.model is not None else task.model
    if not isinstance(spec, str):
        return None, "there are no local weights to tune: name some under tune.model (e.g. embedded)"
    usd_per_hour = task.tune.usd_per_hour if task.tune is not None else None
    precision = task.decoding.precision

    def opener(adapter: Path | None) -> Door:
        return open_door(spec, adapter=adapter, usd_per_hour=usd_per_hour, precision=precision)

    return opener, ""
