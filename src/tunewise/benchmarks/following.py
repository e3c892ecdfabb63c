"""Instruction-following: prompts answered by a door, each instruction checked by its rule."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunewise.benchmarks.figures import Figure, share, share_of_groups
from tunewise.benchmarks.instructions import followed, followed_loosely
from tunewise.benchmarks.kept import KeptAnswers
from tunewise.benchmarks.tasks.ifeval import MAX_NEW_TOKENS, Prompt
from tunewise.data import Message
from tunewise.models.door import Answer, Decoding, Door, Request


@dataclass(frozen=True, slots=True)
class Followed:
    """One prompt: its answer, and for each instruction whether it is followed, strictly and loosely."""

    id: str
    answer: Answer
    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class FollowedOutcome:
    """All prompts in order; errored ones are left out and named. Shaped like the outcome of a scorer."""

    items: list[Followed]
    errored: tuple[str, ...]
    seconds: float
    cut: tuple[str, ...] = ()
    found: int = 0


def ask(
    door: Door, prompts: Sequence[Prompt], told: Callable[[int, int], None] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS, kept: KeptAnswers | None = None,
) -> FollowedOutcome:  # fmt: skip
    """Answers to all prompts, greedy; each batch is kept before it counts.

    Raises DoorError when the door as a whole fails.
    """
    started = time.perf_counter()
    requests = [request(door, prompt, max_new_tokens) for prompt in prompts]
    answers = kept.find(requests) if kept else {}
    found = len(answers)
    missing = [number for number in range(len(requests)) if number not in answers]
    for begin in range(0, len(missing), door.batch_size):
        some = missing[begin : begin + door.batch_size]
        asked = [requests[number] for number in some]
        given = door.answer(asked)
        if kept:
            kept.keep(asked, given)
        answers |= dict(zip(some, given, strict=True))
        if told:
            told(len(answers), len(prompts))
    items = [
        checked(prompt, answers[number])
        for number, prompt in enumerate(prompts)
        if answers[number].status != "errored"
    ]
    errored = tuple(p.id for number, p in enumerate(prompts) if answers[number].status == "errored")
    return FollowedOutcome(items, errored, time.perf_counter() - started, found=found)


def checked(prompt: Prompt, answer: Answer) -> Followed:
    """Each instruction of the prompt against the answer."""
    strict = tuple(followed(name, given, answer.text) for name, given in prompt.instructions)
    loose = tuple(followed_loosely(name, given, answer.text) for name, given in prompt.instructions)
    return Followed(prompt.id, answer, strict, loose)


def request(door: Door, prompt: Prompt, max_new_tokens: int) -> Request:
    """The prompt as a chat, answered greedily, as long as the model's window allows."""
    messages = (Message("user", prompt.prompt),)
    tokens = door.count_tokens(messages) if door.context_window is not None else None
    if tokens is not None and door.context_window is not None:
        max_new_tokens = max(1, min(max_new_tokens, door.context_window - tokens))
    return Request(messages, Decoding(max_new_tokens=max_new_tokens))


def following_figures(items: Sequence[Followed]) -> dict[str, Figure]:
    """Share of prompts that are followed in all, and of instructions (units: prompts), both ways."""
    n = len(items)
    sizes = [len(item.strict) for item in items]
    return {
        "prompts_followed": share(sum(all(item.strict) for item in items), n),
        "prompts_followed_loosely": share(sum(all(item.loose) for item in items), n),
        "instructions_followed": share_of_groups([sum(item.strict) for item in items], sizes),
        "instructions_followed_loosely": share_of_groups([sum(item.loose) for item in items], sizes),
    }
