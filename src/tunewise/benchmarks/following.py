"""Instruction-following: prompts answered by a door, each instruction checked by its rule."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunewise.benchmarks.figures import Figure, share, share_of_groups
from tunewise.benchmarks.instructions import followed, followed_loosely
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
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> FollowedOutcome:  # fmt: skip
    """Answers to all prompts, greedy. Raises DoorError when the door as a whole fails."""
    started = time.perf_counter()
    items: list[Followed] = []
    errored: list[str] = []
    for begin in range(0, len(prompts), door.batch_size):
        batch = prompts[begin : begin + door.batch_size]
        answers = door.answer([request(door, prompt, max_new_tokens) for prompt in batch])
        for prompt, answer in zip(batch, answers, strict=True):
            if answer.status == "errored":
                errored.append(prompt.id)
                continue
            strict = tuple(followed(name, given, answer.text) for name, given in prompt.instructions)
            loose = tuple(followed_loosely(name, given, answer.text) for name, given in prompt.instructions)
            items.append(Followed(prompt.id, answer, strict, loose))
        if told:
            told(begin + len(batch), len(prompts))
    return FollowedOutcome(items, tuple(errored), time.perf_counter() - started)


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
