"""Which rungs ``decide`` would try on such facts, and in what order."""

from collections.abc import Callable, Mapping, Sequence

from tunewise.advice.facts import Facts

FEWEST_ROWS_TO_TRAIN = 8  # as the rung ``lora`` demands

Reason = Callable[[Facts], str | None]


def _no_rows(f: Facts) -> str | None:
    return "there are no labelled rows to show as examples" if f.dataset_size == 0 else None


def _cannot_train(f: Facts) -> str | None:
    if f.dataset_size is not None and f.dataset_size < FEWEST_ROWS_TO_TRAIN:
        return f"{f.dataset_size} labelled rows are too few to train on"
    return None


def _nothing_to_look_up(f: Facts) -> str | None:
    if f.requires_external_knowledge is True:
        return None
    if f.requires_external_knowledge is False:
        return "no outside knowledge is needed"
    return "nobody has said that outside knowledge is needed; naming documents brings it in"


def _no_format(f: Facts) -> str | None:
    return None if f.requires_specific_format else "no output format is known to be asked for (output)"


# Why a rung is left out, by its name; a rung without an entry always runs.
LEFT_OUT: Mapping[str, Reason] = {
    "zero-shot": lambda f: (
        "what is wanted cannot be said in words" if f.can_be_described_in_prompt is False else None
    ),
    "few-shot": _no_rows,
    "few-shot-nearest": _no_rows,
    "constrained": _no_format,
    "rag": _nothing_to_look_up,
    "lora": _cannot_train,
    "qlora": lambda f: "it takes the place of lora only where lora does not fit into memory",
    "full": lambda f: "tuning climbs with lora; name full with --rungs or tune.method to have it measured",
    "distilled": lambda f: "no teacher is named (teacher)",
    "cpt-sft": lambda f: (
        "pre-training climbs when the task has training.cpt; name cpt-sft with --rungs to have it measured"
    ),
    "rag-lora": lambda f: _cannot_train(f) or _nothing_to_look_up(f),
}


def rungs_on(facts: Facts, available: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The rungs that would be tried, light to heavy, and the others with the reason.

    available: names of the rungs there are, light to heavy. A rung that is tried is reached only when no
    lighter one meets the target.
    """
    reasons = {name: reason for name in available if (reason := LEFT_OUT.get(name, _never)(facts))}
    return tuple(name for name in available if name not in reasons), reasons


def _never(facts: Facts) -> str | None:
    return None


# The approach whose evidence a rung is.
APPROACH_OF: Mapping[str, str] = {
    "zero-shot": "prompting",
    "few-shot": "prompting",
    "few-shot-nearest": "prompting",
    "constrained": "prompting",
    "rag": "rag",
    "lora": "fine-tuning",
    "qlora": "fine-tuning",
    "full": "fine-tuning",
    "distilled": "fine-tuning",
    "cpt-sft": "fine-tuning",
    "rag-lora": "rag+fine-tuning",
}
