"""``accuracy``: the answer names the right one of a closed set of choices."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext, Scored
from tunewise.evidence.metrics.normalise import normalise, shown
from tunewise.evidence.records import Score


def accuracy(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where the normalised answer is a choice that a reference names, 0 where it is another choice.

    An answer that is none of the choices is ``unparseable``. detail ``repaired_value``: the same after
    repair, where the text around it names exactly one choice ("The queue is: billing"); ``said`` and
    ``right``: the labels, for ``macro_f1`` (``said`` is None where the answer is no choice).
    """
    choices = _normalised(context.choices)
    right = {normalise(reference_text(reference)) for reference in references}
    said = normalise(answer)
    label = said if said in right else min(right, default=None)
    if said in choices:
        value = float(said in right)
        detail: dict[str, Any] = {"repaired_value": value, "said": said, "right": label}
        if not value:
            detail["why"] = f"{label!r} was expected, got {said!r}"
        return Score("scored", value, detail)
    named = _named(said, choices)
    repaired = float(len(named) == 1 and named[0] in right)
    why = f"not one of the {len(choices)} choices: {shown(answer)}"
    return Score("unparseable", 0.0, {"repaired_value": repaired, "said": None, "right": label, "why": why})


def macro_f1(scored: Sequence[Scored]) -> Mapping[str, Any]:
    """``macro_f1``: the mean over classes of F1 = 2 TP / (2 TP + FP + FN); ``classes``: how many there are.

    The classes are the labels that are right for at least one item or were said at least once: a class
    that is absent from both has no F1 and is left out; one that was only said has F1 0; one that was
    never said has F1 0. So does scikit-learn's ``f1_score(average="macro")`` over the labels it sees
    (Opitz & Burst 2019, arXiv 1911.03347, "averaged F1"). An answer that is no class is a miss of its
    right class and nobody's false alarm. None without items. Errored answers are left out.
    """
    pairs = [
        (o.detail.get("said"), o.detail.get("right"))
        for o in scored
        if o.status != "errored" and o.detail.get("right") is not None
    ]
    hits = Counter(right for said, right in pairs if said == right)
    told = Counter(said for said, _ in pairs if said is not None)
    true = Counter(right for _, right in pairs)
    classes = told.keys() | true.keys()
    if not classes:
        return {"macro_f1": None, "classes": 0}
    total = sum(2 * hits[c] / (told[c] + true[c]) for c in classes)
    return {"macro_f1": total / len(classes), "classes": len(classes)}


def named_choices(answer: str, choices: tuple[str, ...]) -> list[str]:
    """The normalised choice that the answer is, else those that it names as whole words."""
    known, said = _normalised(choices), normalise(answer)
    return [said] if said in known else _named(said, known)


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
