"""Continual pre-training, instruction tuning, or both: by kind and amount of data.

Orders of magnitude (the framework's): continual pre-training takes millions to billions of tokens of raw
text, instruction tuning thousands to tens of thousands of pairs. Whether the base model is foreign to the
domain is read from its tokens per word and its perplexity, domain text against general text by the same
model. The two ratios at which it counts as foreign are assumptions, no published thresholds.
"""

from dataclasses import dataclass
from typing import Literal

from tunewise.advice.facts import Domain, Facts

FEWEST_DOMAIN_TOKENS = 1_000_000
ENOUGH_PAIRS = 1_000
FOREIGN_TOKENS_PER_WORD = 1.25  # assumed: domain over general
FOREIGN_PERPLEXITY = 1.5  # assumed: domain over general, per token

Stage = Literal["instruction tuning", "continual pre-training", "both"]


@dataclass(frozen=True)
class StageAdvice:
    """The stage of training; ``stage`` None: no training is advised. rule: stable id."""

    stage: Stage | None
    rule: str
    why: str
    signs: tuple[str, ...] = ()


def ratio(domain: float | None, general: float | None) -> float | None:
    """domain / general; None where either is not known."""
    return None if domain is None or general is None else domain / general


def advise_stage(facts: Facts, domain: Domain, tunes: bool) -> StageAdvice:
    """Which training stage the data allows and the base model needs.

    tunes: the advised approach trains at all.
    """
    signs, foreign = foreignness(domain)
    if not tunes:
        return StageAdvice(None, "no_training", "The advised approach trains nothing.", signs)
    raw = domain.tokens is not None and domain.tokens >= FEWEST_DOMAIN_TOKENS
    pairs = facts.dataset_size
    tokens = f"{domain.tokens:,.0f} tokens of raw text" if domain.tokens is not None else "raw text"
    if not raw:
        said = "No raw text is known of" if domain.tokens is None else f"{tokens} are too few"
        return StageAdvice(
            "instruction tuning",
            "pairs_only",
            f"Pairs of input and answer teach behaviour and form. {said} for continual pre-training, which"
            f" takes {FEWEST_DOMAIN_TOKENS:,} tokens and more.",
            signs,
        )
    if foreign is False:
        return StageAdvice(
            "instruction tuning",
            "domain_is_familiar",
            "The base model reads the domain about as well as general text: more raw text would teach it"
            " little that pairs do not.",
            signs,
        )
    if pairs is not None and pairs < ENOUGH_PAIRS:
        return StageAdvice(
            "continual pre-training",
            "raw_text_only",
            f"There are {tokens} to learn the domain from and only {pairs:,} pairs (instruction tuning takes"
            f" {ENOUGH_PAIRS:,} and more): pre-train on the text, then show the pairs in the prompt or write"
            " more.",
            signs,
        )
    unsure = "" if foreign else " Measure tokens per word and perplexity first: a familiar domain needs none."
    return StageAdvice(
        "both",
        "two_stages",
        f"First continual pre-training on {tokens} for what to know, then instruction tuning on the pairs for"
        f" how to answer.{unsure}",
        signs,
    )


def foreignness(domain: Domain) -> tuple[tuple[str, ...], bool | None]:
    """The measured signs in words, and whether the domain is foreign to the base; None: not measured."""
    words = ratio(domain.tokens_per_word, domain.general_tokens_per_word)
    surprise = ratio(domain.perplexity, domain.general_perplexity)
    signs = []
    if words is not None:
        signs.append(
            f"tokens per word {domain.tokens_per_word:.2f} against {domain.general_tokens_per_word:.2f} on"
            f" general text: {words:.2f}x (foreign from {FOREIGN_TOKENS_PER_WORD}x)"
        )
    if surprise is not None:
        signs.append(
            f"perplexity {domain.perplexity:.1f} against {domain.general_perplexity:.1f} on general text:"
            f" {surprise:.2f}x (foreign from {FOREIGN_PERPLEXITY}x)"
        )
    if words is None and surprise is None:
        return (), None
    foreign = (words is not None and words >= FOREIGN_TOKENS_PER_WORD) or (
        surprise is not None and surprise >= FOREIGN_PERPLEXITY
    )
    return tuple(signs), foreign
