"""General rows for mixing: a file's own answers, or the base model's (self-generated replay).

With ``training.mix.replay`` only the prompts of the general file count: the base model answers them before it
is tuned, and its answers are trained on beside the task's rows, so that what is held in place is what this
model would have said, in its own words (Huang et al., "Mitigating Catastrophic Forgetting in Large Language
Models with Self-Synthesized Rehearsal", ACL 2024; Shin et al., "Continual Learning with Deep Generative
Replay", NeurIPS 2017). Answers are greedy. One that is cut off would teach to stop there, and one that goes
round in circles to go on doing so: neither is used.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewise.data import Example, read_examples, read_inputs
from tunewise.errors import DataError
from tunewise.evidence.style.loops import loops
from tunewise.models.door import Answer, Decoding, Request
from tunewise.rungs.rung import Workbench
from tunewise.task_training import MixSection
from tunewise.training import checkpoints

MOST_ASKED = 3  # prompts asked at most for each row that is wanted
BATCH = 64  # prompts between two looks at what is still missing


@dataclass(frozen=True, slots=True)
class General:
    """The pool of general rows. asked, dropped: of the base model's answers; 0 and none without replay."""

    rows: tuple[Example, ...]
    asked: int = 0
    dropped: tuple[tuple[str, int], ...] = ()

    def facts(self) -> dict[str, Any]:
        """JSON-able; empty without replay."""
        if not self.asked:
            return {}
        return {"replay": {"asked": self.asked, "kept": len(self.rows), "dropped": dict(self.dropped)}}

    def notes(self) -> list[str]:
        """What the reader should know; nothing without replay."""
        if not self.asked:
            return []
        lost = ", ".join(f"{count} {why}" for why, count in self.dropped) or "none dropped"
        return [
            f"replay: the base model answered {self.asked} general prompts, {len(self.rows)} of its answers "
            f"are trained on ({lost})"
        ]


def general_rows(bench: Workbench, base: Any, mix: MixSection, wanted: int) -> General:
    """The general rows of a task; with replay about ``wanted``, if there are prompts for so many.

    base: the door to the weights before tuning. Answers lie in ``replay`` in the build's folder and are read
    from there when they are wanted again. Raises DataError when no answer of the base model can be used.
    """
    if not mix.replay:
        return General(read_examples(mix.general).examples)
    file = bench.folder / "replay" / f"{digest(base, mix, wanted, bench.seed)}.json"
    kept = checkpoints.read_json(file)
    prompts = prompts_of(mix, bench.seed)
    if kept is None:
        bench.progress.tell("note", text=f"replay: asking the base model for up to {wanted} general answers")
        kept = asked(bench, base, mix, prompts, wanted)
        checkpoints.write_json(file, kept)
        base.close()  # training loads the weights anew
    by_key = {example.key: example for example in prompts}
    rows = tuple(replace(by_key[key], references=(text,)) for key, text in kept["rows"])
    if not rows:
        raise DataError(
            f"{mix.general}: none of {kept['asked']} answers of the base model can be trained on "
            f"({kept['dropped']}); raise training.mix.max_new_tokens, or take answers that are given"
        )
    return General(rows, kept["asked"], tuple(kept["dropped"].items()))


def prompts_of(mix: MixSection, seed: int) -> list[Example]:
    """The prompts in a random order that the seed decides, each once."""
    found = list({example.turns: example for example in read_inputs(mix.general).examples}.values())
    random.Random(f"{seed} replay").shuffle(found)
    return found


def asked(
    bench: Workbench, base: Any, mix: MixSection, prompts: Sequence[Example], wanted: int
) -> dict[str, Any]:
    """Ask until ``wanted`` answers can be used, the prompts end, or three times as many were asked."""
    decoding = Decoding(mix.max_new_tokens, 0.0, bench.seed)
    rows: list[tuple[str, str]] = []
    dropped: Counter[str] = Counter()
    place, end = 0, min(len(prompts), MOST_ASKED * wanted)
    while place < end and len(rows) < wanted:
        some = prompts[place : min(end, place + min(BATCH, wanted - len(rows)))]
        answers = bench.ask(base, [Request(example.turns, decoding) for example in some], "replay")
        for example, answer in zip(some, answers, strict=True):
            why = why_not(answer)
            if why is None:
                rows.append((example.key, answer.text.strip()))
            else:
                dropped[why] += 1
        place += len(some)
        bench.progress.tell("building", text="replay", done=len(rows), total=wanted)
    return {"rows": rows, "asked": place, "dropped": dict(dropped)}


def why_not(answer: Answer) -> str | None:
    """Why an answer is not trained on; None when it is."""
    if answer.status != "ok":
        return answer.status
    if answer.finish != "stop":
        return "cut off"
    if not answer.text.strip():
        return "empty"
    return "in circles" if loops(answer.text.split()) else None


def keys_of(mix: MixSection) -> list[Any]:
    """What training depends on of the general file, JSON-able."""
    if not mix.replay:
        return [example.key for example in read_examples(mix.general).examples]
    return ["replay", mix.max_new_tokens, *(example.key for example in read_inputs(mix.general).examples)]


def digest(base: Any, mix: MixSection, wanted: int, seed: int) -> str:
    """Names the answers by all that they depend on."""
    body = json.dumps([base.fingerprint, keys_of(mix), wanted, seed])
    return hashlib.sha256(body.encode()).hexdigest()[:16]


__all__: Sequence[str] = ["General", "general_rows", "keys_of"]
