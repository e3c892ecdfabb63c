"""Symptoms of a tuned model: answers to prompts outside the task, beside its base's."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunewise.data import Message
from tunewise.errors import DataError, SettingError
from tunewise.models.door import Decoding, Door, Request
from tunewise.rungs.rung import Workbench
from tunewise.task_guard import HUB
from tunewise.task_guard import Guard as GuardSettings

PROMPTS = 24  # answered by base and tuned model
PROMPT_TOKENS = 96


def symptoms_of(bench: Workbench, settings: GuardSettings, tuned: Callable[[], Door]) -> dict[str, Any]:
    """Signs on answers to instructions outside the task; ``why`` where there are none."""
    from tunewise.benchmarks.data import items_of
    from tunewise.benchmarks.figures import paired_difference
    from tunewise.benchmarks.instructions import followed
    from tunewise.benchmarks.symptoms import symptoms
    from tunewise.benchmarks.tasks import find

    folder = None if settings.data in (None, HUB) else Path(str(settings.data))
    try:
        prompts = fitting(bench, items_of(find("ifeval"), folder))
    except (DataError, SettingError) as error:
        return {"why": f"there are no general prompts: {error}", "signs": []}
    decoding = Decoding(max_new_tokens=PROMPT_TOKENS)
    requests = [Request((Message("user", one.prompt),), decoding) for one in prompts]
    both = []
    tune_door = bench.tune_door
    assert tune_door is not None
    openers: list[Callable[[], Door]] = [lambda: tune_door(None), tuned]
    for opened in openers:
        door = opened()
        try:
            both.append(bench.ask(door, requests, "symptoms"))
        finally:
            door.close()
    signs = [sign.to_json() for sign in symptoms(*both, tuned_format=task_format(bench))]
    kept = [
        [all(followed(name, given, answer.text) for name, given in one.instructions)
         for one, answer in zip(prompts, answers, strict=True)]
        for answers in both
    ]  # fmt: skip
    lost = sum(a and not b for a, b in zip(*kept, strict=True))
    gained = sum(b and not a for a, b in zip(*kept, strict=True))
    change = paired_difference(gained, lost, len(prompts), 0.99)
    n = len(prompts)
    signs.append({
        "name": "instructions", "about": "all instructions of a prompt are followed", "n": n,
        "base": sum(kept[0]) / n, "tuned": sum(kept[1]) / n, "change": change.to_json(),
        "fires": change.high is not None and change.high < 0,
    })  # fmt: skip
    return {"why": None, "prompts": n, "signs": signs}


def fitting(bench: Workbench, prompts: Sequence[Any]) -> list[Any]:
    """The first prompts that fit into the model with their answers."""
    assert bench.tune_door is not None
    door, found = bench.tune_door(None), []
    for one in prompts:
        tokens = door.count_tokens((Message("user", one.prompt),))
        if door.context_window is None or (tokens or 0) + PROMPT_TOKENS <= door.context_window:
            found.append(one)
        if len(found) == PROMPTS:
            break
    door.close()
    if not found:
        raise DataError("none of them fits into the model's window")
    return found


def task_format(bench: Workbench) -> Callable[[str], bool] | None:
    """Tells an answer in the task's format: a JSON object, or one of its answers; None: no form."""
    answers: set[str] = set()
    for example in bench.parts.train:
        answers.add(example.answer)
    if not answers:
        return None
    if all(answer.lstrip().startswith("{") for answer in answers):

        def is_object(text: str) -> bool:
            try:
                return isinstance(json.loads(text), dict)
            except ValueError:
                return False

        return is_object
    if len(answers) <= max(2, len(bench.parts.train) // 4):
        return lambda text: text.strip() in answers
    return None
