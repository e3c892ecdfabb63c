"""Symptoms of a tuned model: answers to prompts outside the task and running text, beside its base's."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.data import Message
from tunewise.errors import DataError, DoorError, SettingError
from tunewise.models.door import Answer, Decoding, Door, Request
from tunewise.rungs.rung import Workbench
from tunewise.task_guard import HUB
from tunewise.task_guard import Guard as GuardSettings
from tunewise.training.guard_check import Served

PROMPTS = 24  # answered by base and tuned model
PROMPT_TOKENS = 96
PASSAGES = 16  # of running text
SHOWN = 10  # answers that are kept to be read
SHOWN_CHARACTERS = 400


@dataclass
class SymptomsSought:
    """What is asked of every model of one build; the base answers once."""

    bench: Workbench
    settings: GuardSettings
    served: Served
    _prompts: list[Any] = field(default_factory=list)
    _base: list[Answer] = field(default_factory=list)

    def of(self, folder: Path, tuned: Callable[[], Door]) -> dict[str, Any]:
        """Signs on answers to prompts outside the task, some answers, and the sign on running text.

        ``why`` where there are no prompts; running text needs none.
        """
        from tunewise.benchmarks.symptoms import symptoms

        try:
            prompts, base = self.answered_by_base()
        except (DataError, SettingError) as error:
            why = f"there are no general prompts: {error}"
            return {"why": why, "prompts": 0, "signs": self.text(folder), "answers": []}
        answers = self.ask(tuned)
        signs = [sign.to_json() for sign in symptoms(base, answers, tuned_format=task_format(self.bench))]
        signs.append(following(prompts, base, answers))
        signs += self.text(folder)
        shown = [
            {"prompt": one.prompt, "base": a.text[:SHOWN_CHARACTERS], "tuned": b.text[:SHOWN_CHARACTERS]}
            for one, a, b in zip(prompts, base, answers, strict=True)
        ]
        return {"why": None, "prompts": len(prompts), "signs": signs, "answers": shown[:SHOWN]}

    @property
    def folder(self) -> Path | None:
        """Where general data lies; None: the hub."""
        data = self.settings.data
        return None if data in (None, HUB) else Path(str(data))

    def answered_by_base(self) -> tuple[list[Any], list[Answer]]:
        """The prompts and the base's answers. Raises DataError or SettingError without prompts."""
        from tunewise.benchmarks.data import items_of
        from tunewise.benchmarks.tasks import find

        if not self._prompts:
            try:
                there = items_of(find("ifeval"), self.folder)
            except DoorError as error:  # the hub cannot be reached: signs that stop nothing end nothing
                raise DataError(str(error)) from error
            self._prompts = fitting(self.bench, there)
            tune_door = self.bench.tune_door
            assert tune_door is not None
            self._base = self.ask(lambda: tune_door(None))
        return self._prompts, self._base

    def ask(self, opened: Callable[[], Door]) -> list[Answer]:
        """The answers of one model."""
        decoding = Decoding(max_new_tokens=PROMPT_TOKENS)
        requests = [Request((Message("user", one.prompt),), decoding) for one in self._prompts]
        door = opened()
        try:
            return list(self.bench.ask(door, requests, "symptoms"))
        finally:
            door.close()

    def text(self, folder: Path) -> list[dict[str, Any]]:
        """The sign on running text; none where no text lies beside the benchmarks."""
        from tunewise.benchmarks.data import items_of, lies_in
        from tunewise.benchmarks.symptoms import text_symptom
        from tunewise.benchmarks.tasks import find

        if self.folder is None or not lies_in(find("text"), self.folder):
            return []
        passages = items_of(find("text"), self.folder, PASSAGES)
        return [text_symptom(self.served.text_bits(passages, folder)).to_json()]


def refuse_unreadable_text(folder: Path) -> None:
    """Raises DataError for running text that lies beside the benchmarks and cannot be read."""
    from tunewise.benchmarks.data import items_of, lies_in
    from tunewise.benchmarks.tasks import find

    if lies_in(find("text"), folder):
        items_of(find("text"), folder, PASSAGES)


def following(prompts: Sequence[Any], base: Sequence[Answer], tuned: Sequence[Answer]) -> dict[str, Any]:
    """The sign on instructions that a rule can check: all of a prompt followed. Errored pairs stay out."""
    from tunewise.benchmarks.figures import paired_difference
    from tunewise.benchmarks.instructions import followed

    def follows(one: Any, answer: Answer) -> bool:
        return all(followed(name, given, answer.text) for name, given in one.instructions)

    kept = [
        (follows(one, a), follows(one, b))
        for one, a, b in zip(prompts, base, tuned, strict=True)
        if a.status != "errored" and b.status != "errored"
    ]
    n = len(kept)
    lost, gained = kept.count((True, False)), kept.count((False, True))
    change = paired_difference(gained, lost, n, 0.99)
    return {
        "name": "instructions",
        "about": "all instructions of a prompt are followed",
        "n": n,
        "base": sum(a for a, _ in kept) / n if n else None,
        "tuned": sum(b for _, b in kept) / n if n else None,
        "change": change.to_json(),
        "fires": change.high is not None and change.high < 0,
    }


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
    """Tells an answer in the task's format: a JSON object, or one of its answers; None: no form.

    Where the answers are names of parts joined without blanks (card_arrival), others of that build count as
    well: a model that has forgotten how to talk makes them up.
    """
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
    joints = joints_of(answers)
    if len(answers) <= max(2, len(bench.parts.train) // 4):
        return lambda text: text.strip() in answers or joined_as(text.strip(), joints)
    return None


def joints_of(answers: Collection[str]) -> frozenset[str]:
    """What joins the parts of answers without blanks, if at least half of them are joined; else nothing."""
    if any(len(answer.split()) != 1 for answer in answers):
        return frozenset()
    found = [{c for c in answer[1:-1] if c in "_-/.:"} for answer in answers]
    return frozenset().union(*found) if sum(map(bool, found)) * 2 >= len(answers) else frozenset()


def joined_as(text: str, joints: Collection[str]) -> bool:
    """True for one word of letters and digits whose parts are joined by some of ``joints``."""
    parts = "".join(" " if c in joints else c for c in text).split()
    return len(parts) > 1 and not any(c.isspace() for c in text) and all(part.isalnum() for part in parts)
