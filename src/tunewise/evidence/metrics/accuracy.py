"""``accuracy``: the answer names the right one of a closed set of choices."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import normalise, shown
from tunewise.evidence.records import Score


def accuracy(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the normalised answer is a choice that a reference names, 0 where it is another choice.

    An answer that is none of the choices is ``unparseable``. detail ``repaired_value``: the same after
    repair, where the text around it names exactly one choice ("The queue is: billing").
    """
    choices = _normalised(context.choices)
    right = {normalise(reference_text(reference)) for reference in references}
    said = normalise(answer)
    if said in choices:
        value = float(said in right)
        return Score("scored", value, {"repaired_value": value})
    named = _named(said, choices)
    repaired = float(len(named) == 1 and named[0] in right)
    why = f"not one of the {len(choices)} choices: {shown(answer)}"
    return Score("unparseable", 0.0, {"repaired_value": repaired, "why": why})


@lru_cache(maxsize=16)
def _normalised(choices: tuple[str, ...]) -> frozenset[str]:
    return frozenset(normalise(choice) for choice in choices)


def _named(text: str, choices: frozenset[str]) -> list[str]:
    """The choices that stand in the text as whole words, but for those within a longer one that does."""
    found = [choice for choice in choices if choice and _stands_in(choice, text)]
    return [c for c in found if not any(c != longer and _stands_in(c, longer) for longer in found)]


def _stands_in(words: str, text: str) -> bool:
    start = text.find(words)
    while start >= 0:
        end = start + len(words)
        before, after = text[start - 1 : start] if start else "", text[end : end + 1]
        if not _is_word(before) and not _is_word(after):
            return True
        start = text.find(words, start + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
