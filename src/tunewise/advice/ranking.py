"""For and against each approach: named arguments from the facts, and the order they give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewise.advice.facts import FREQUENT, STATIC, Facts
from tunewise.advice.framework import APPROACHES, Approach, Thresholds

# How much an argument counts in the order of the approaches that were not chosen; only the order matters.
DECIDES, WEIGHS, HOLDS_ALWAYS = 3, 2, 0
TUNES: tuple[Approach, ...] = ("fine-tuning", "rag+fine-tuning")
LOOKS_UP: tuple[Approach, ...] = ("rag", "rag+fine-tuning")


@dataclass(frozen=True)
class Argument:
    """One reason for or against some approaches; ``id`` is stable, ``says`` one sentence."""

    id: str
    side: Literal["for", "against"]
    approaches: tuple[Approach, ...]
    weight: int
    holds: Callable[[Facts, Thresholds], bool]
    says: str


def _few_rows(f: Facts, t: Thresholds) -> bool:
    return f.dataset_size is not None and f.dataset_size < 1000


def _form(f: Facts) -> bool:
    return f.requires_specific_style is True or f.requires_specific_format is True


def _tight(f: Facts, t: Thresholds) -> bool:
    latency, cost = f.latency_budget_ms, f.cost_per_query_budget_usd
    return (latency is not None and latency < t.latency_ms) or (
        cost is not None and cost < t.cost_per_query_usd
    )


# The first that holds is the sentence that is shown; the last of each kind always holds.
ARGUMENTS = (
    Argument(
        "prompt_meets",
        "for",
        ("prompting",),
        DECIDES,
        lambda f, t: f.prompting_meets_quality is True,
        "A prompt already meets the quality.",
    ),
    Argument(
        "examples_meet",
        "for",
        ("prompting",),
        DECIDES,
        lambda f, t: f.few_shot_meets_quality is True,
        "A few examples in the prompt meet the quality.",
    ),
    Argument(
        "prompt_untried",
        "for",
        ("prompting",),
        1,
        lambda f, t: f.prompting_meets_quality is None,
        "It takes minutes to try, and nothing says yet that it falls short.",
    ),
    Argument(
        "prompt_is_lightest",
        "for",
        ("prompting",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "It needs no training and no index, and changing it costs nothing.",
    ),
    Argument(
        "prompt_falls_short",
        "against",
        ("prompting",),
        DECIDES,
        lambda f, t: f.prompting_meets_quality is False and f.few_shot_meets_quality is not True,
        "A prompt is known to fall short of the quality.",
    ),
    Argument(
        "prompt_lacks_knowledge",
        "against",
        ("prompting",),
        WEIGHS,
        lambda f, t: f.requires_external_knowledge is True,
        "No wording makes the model know what stands only in your documents.",
    ),
    Argument(
        "cannot_be_said",
        "against",
        ("prompting",),
        WEIGHS,
        lambda f, t: f.can_be_described_in_prompt is False,
        "What is wanted cannot be said in words, only shown.",
    ),
    Argument(
        "form_drifts",
        "against",
        ("prompting",),
        1,
        lambda f, t: _form(f) and f.few_shot_meets_quality is not True,
        "A strict style or format held up by instructions alone tends to drift.",
    ),
    Argument(
        "prompt_tokens_cost",
        "against",
        ("prompting",),
        1,
        _tight,
        "Instructions and examples are read again with every query, which the tight budget pays for.",
    ),
    Argument(
        "prompt_ceiling",
        "against",
        ("prompting",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "Its ceiling is what the model can already do.",
    ),
    Argument(
        "lookup_stays_current",
        "for",
        LOOKS_UP,
        DECIDES,
        lambda f, t: f.requires_external_knowledge is True and f.knowledge_changes in FREQUENT,
        "Knowledge that changes often stays current when it is looked up: swapping the index is enough.",
    ),
    Argument(
        "lookup_brings_knowledge",
        "for",
        LOOKS_UP,
        WEIGHS,
        lambda f, t: f.requires_external_knowledge is True,
        "It puts the missing knowledge before the model and can show where an answer comes from.",
    ),
    Argument(
        "lookup_if_knowledge_lacks",
        "for",
        ("rag",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "If failures turn out to be missing facts, it mends them without training.",
    ),
    Argument(
        "nothing_to_look_up",
        "against",
        LOOKS_UP,
        DECIDES,
        lambda f, t: f.requires_external_knowledge is False,
        "No outside knowledge is needed, so there is nothing to look up.",
    ),
    Argument(
        "lookup_leaves_form",
        "against",
        ("rag",),
        WEIGHS,
        lambda f, t: _form(f) and f.few_shot_meets_quality is not True,
        "Passages bring facts and leave style and format as they are.",
    ),
    Argument(
        "passages_cost",
        "against",
        LOOKS_UP,
        1,
        _tight,
        "Passages make every prompt longer, which the tight budget pays for.",
    ),
    Argument(
        "lookup_needs_upkeep",
        "against",
        ("rag",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "It adds a search that can miss, and an index that has to be kept.",
    ),
    Argument(
        "training_teaches_form",
        "for",
        TUNES,
        WEIGHS,
        lambda f, t: _form(f) and f.few_shot_meets_quality is not True,
        "Training makes a strict style or format the model's default.",
    ),
    Argument(
        "training_holds_static",
        "for",
        ("fine-tuning",),
        DECIDES,
        lambda f, t: (
            f.requires_external_knowledge is True
            and f.knowledge_changes in STATIC
            and f.dataset_size is not None
            and f.dataset_size > t.static_rows
        ),
        "Static knowledge with this many rows can be trained into the weights, which shortens every prompt.",
    ),
    Argument(
        "training_shortens",
        "for",
        ("fine-tuning",),
        WEIGHS,
        _tight,
        "A smaller tuned model with a bare prompt is the way to answers this fast or this cheap.",
    ),
    Argument(
        "training_shows_what_words_cannot",
        "for",
        TUNES,
        1,
        lambda f, t: f.can_be_described_in_prompt is False,
        "What cannot be said in words can be learned from rows.",
    ),
    Argument(
        "training_raises_ceiling",
        "for",
        ("fine-tuning",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "If failures turn out to be behaviour, it is what can change it.",
    ),
    Argument(
        "both_gaps_known",
        "for",
        ("rag+fine-tuning",),
        DECIDES,
        lambda f, t: (
            f.requires_external_knowledge is True and _form(f) and f.few_shot_meets_quality is not True
        ),
        "What to know is looked up and how to answer is trained: each gap gets what closes it.",
    ),
    Argument(
        "combination_covers_both",
        "for",
        ("rag+fine-tuning",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "It covers what to know and how to answer at once.",
    ),
    Argument(
        "trained_knowledge_goes_stale",
        "against",
        ("fine-tuning",),
        DECIDES,
        lambda f, t: f.requires_external_knowledge is True and f.knowledge_changes in FREQUENT,
        "What is trained in is wrong after the next change, until it is trained again.",
    ),
    Argument(
        "few_rows_teach_no_facts",
        "against",
        ("fine-tuning",),
        WEIGHS,
        lambda f, t: (
            f.requires_external_knowledge is True
            and not (f.dataset_size is not None and f.dataset_size > t.static_rows)
        ),
        "This many rows teach form; the facts outside them stay unknown.",
    ),
    Argument(
        "few_rows",
        "against",
        TUNES,
        1,
        _few_rows,
        "Training usually takes thousands of rows, and there are fewer.",
    ),
    Argument(
        "training_unproved",
        "against",
        TUNES,
        1,
        lambda f, t: f.prompting_meets_quality is None,
        "Nothing says yet that a prompt falls short, and training is the dearest way to find out.",
    ),
    Argument(
        "heaviest",
        "against",
        ("rag+fine-tuning",),
        WEIGHS,
        lambda f, t: True,
        "It is the heaviest way: an index and an adapter, both to be built, paid and kept.",
    ),
    Argument(
        "training_can_forget",
        "against",
        ("fine-tuning",),
        HOLDS_ALWAYS,
        lambda f, t: True,
        "It costs a training run for every change, and the model can forget what it could before.",
    ),
)


@dataclass(frozen=True)
class Ranked:
    """One approach: its net weight, the sentence for and the one against, and the ids of all that hold."""

    approach: Approach
    score: int
    speaks_for: str
    speaks_against: str
    rules: tuple[str, ...]


def rank(facts: Facts, chosen: Approach, thresholds: Thresholds) -> tuple[Ranked, ...]:
    """All four approaches: the chosen one first, then by net weight, the lighter first on a tie."""
    weighed = [weigh(approach, facts, thresholds) for approach in APPROACHES]
    return tuple(sorted(weighed, key=lambda r: (r.approach != chosen, -r.score)))  # sorted() is stable


def weigh(approach: Approach, facts: Facts, thresholds: Thresholds) -> Ranked:
    """The arguments that hold for one approach. There is always one on each side."""
    held = [a for a in ARGUMENTS if approach in a.approaches and a.holds(facts, thresholds)]
    pros = [a for a in held if a.side == "for"]
    cons = [a for a in held if a.side == "against"]
    return Ranked(
        approach,
        sum(a.weight for a in pros) - sum(a.weight for a in cons),
        _strongest(pros),
        _strongest(cons),
        tuple(a.id for a in held),
    )


def _strongest(arguments: Sequence[Argument]) -> str:
    return max(arguments, key=lambda a: a.weight).says  # the first of equals
