"""Items as token ids, cut where lm-evaluation-harness cuts them (``lm_eval/api/model.py``, version 0.4.13).

Context and ending are tokenised together, the context also alone; the ending is what follows the context's
count of tokens. Where a tokenizer melts the two into one token, the model therefore reads the context as it
is tokenised alone and what is left of the whole: odd, and the figure that everybody reports. Spaces at the
end of a context belong to the ending. What does not fit into the model is cut at the left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.benchmarks.item import Item
from tunewise.errors import DataError, SettingError
from tunewise.models.token_trees import Question

BATCH = 256  # texts tokenised at once


@dataclass(frozen=True, slots=True)
class Encoded:
    """Questions in the order of the items. cut: ids of items whose beginning did not fit into the model."""

    questions: list[Question]
    cut: tuple[str, ...]


def encode(tokenizer: Any, items: Sequence[Item], window: int | None) -> Encoded:
    """Token ids of every item. window: tokens that fit into the model; None: not bounded.

    Raises DataError for an ending that has no token of its own or alone does not fit.
    """
    start = start_token(tokenizer)
    with_context = [item for item in items if item.context]
    parts = [split(item.context, ending) for item in with_context for ending in item.endings]
    contexts = dict.fromkeys(context for context, _ in parts)
    alone = dict(zip(contexts, ids_of(tokenizer, list(contexts), start), strict=True))
    whole = iter(ids_of(tokenizer, [context + ending for context, ending in parts], start))
    pieces = iter(parts)
    questions, cut = [], []
    for item in items:
        if item.context:
            pairs = []
            for _ in item.endings:
                context = alone[next(pieces)[0]]
                pairs.append((context, next(whole)[len(context) :]))
        else:
            pairs = windows(tokenizer, item, start, window)
        question, shortened = fitted(item, pairs, window)
        questions.append(question)
        if shortened:
            cut.append(item.id)
    return Encoded(questions, tuple(cut))


def split(context: str, ending: str) -> tuple[str, str]:
    """Context and ending with the spaces between them on the ending's side."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + ending


def fitted(
    item: Item, pairs: Sequence[tuple[list[int], list[int]]], window: int | None
) -> tuple[Question, bool]:
    """(context, ending) ids as one question, cut at the left to what fits, and whether any was cut."""
    sequences, firsts, shortened = [], [], False
    for context, ending in pairs:
        if not ending:
            raise DataError(
                f"item {item.id}: this tokenizer melts an ending into its context, so that no token of it is "
                f"left to score; the context ends in {item.context[-20:]!r}. Leave the item out"
            )
        if window is not None and len(ending) > window:
            raise DataError(
                f"item {item.id}: an ending has {len(ending)} tokens, the model holds {window}. Leave it out"
            )
        tokens = [*context, *ending]
        if window is not None and len(tokens) > window + 1:
            tokens, shortened = tokens[-(window + 1) :], True
        sequences.append(tuple(tokens))
        firsts.append(len(tokens) - len(ending))
    return Question(tuple(sequences), tuple(firsts), item.group), shortened


def windows(tokenizer: Any, item: Item, start: int, window: int | None) -> list[tuple[list[int], list[int]]]:
    """A text without context: the first window is read after the start token, each later one after as many
    of the tokens before it as fit (``get_rolling_token_windows`` with one token of context)."""
    (tokens,) = ids_of(tokenizer, list(item.endings), start)
    longest = window or len(tokens)
    pairs = [([start], tokens[:longest])]
    for begin in range(longest, len(tokens), longest):
        end = min(begin + longest, len(tokens))
        pairs.append((tokens[end - longest - 1 : begin], tokens[begin:end]))
    return pairs


def ids_of(tokenizer: Any, texts: Sequence[str], start: int) -> list[list[int]]:
    """Ids of texts, with the tokenizer's own markers unless a text begins with the start token already."""
    marker = tokenizer.decode([start])
    found: list[list[int]] = []
    for begin in range(0, len(texts), BATCH):
        batch = list(texts[begin : begin + BATCH])
        marked = [bool(marker) and text.startswith(marker) for text in batch]
        if any(marked):
            pairs = zip(batch, marked, strict=True)
            found += [tokenizer(t, add_special_tokens=not m, verbose=False)["input_ids"] for t, m in pairs]
        else:
            found += tokenizer(batch, verbose=False)["input_ids"]
    return found


def start_token(tokenizer: Any) -> int:
    """What stands before a text without context: the begin token, else the end token. Raises SettingError."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise SettingError(f"the tokenizer of {tokenizer.name_or_path} names neither a begin nor an end token")
