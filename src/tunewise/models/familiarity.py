"""How well a base model knows a kind of text: tokens per word, and perplexity. Loads the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.errors import DataError

WINDOW = 512  # tokens that are read at once; the first of each is given, not predicted
MOST_TOKENS = 4096  # of which perplexity is taken
MOST_CHARACTERS = 400_000  # of which tokens per word are taken


@dataclass(frozen=True, slots=True)
class Familiarity:
    """tokens_per_word: tokens over whitespace-separated words. perplexity: per token, over ``tokens``."""

    tokens_per_word: float
    perplexity: float
    tokens: int


def familiarity(model: str | Path, texts: Sequence[str]) -> Familiarity:
    """Read ``texts`` with a local model (``embedded``, a folder, a hub id).

    perplexity = exp(mean of -ln p(token | tokens before it in its window)), windows of 512 tokens. Compare
    it only between texts read by the same model. Raises DataError for texts of fewer than two tokens.
    """
    from tunewise.models.weights import load_model, load_tokenizer, model_folder

    folder = model_folder(model)
    tokenizer = load_tokenizer(folder)
    text = "\n\n".join(texts)[:MOST_CHARACTERS]
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    words = len(text.split())
    if len(ids) < 2 or not words:
        raise DataError("the text to read has fewer than two tokens; perplexity needs more")
    loss, count = _surprise(load_model(folder), ids[:MOST_TOKENS])
    return Familiarity(len(ids) / words, math.exp(loss / count), count)


def _surprise(model: Any, ids: Sequence[int]) -> tuple[float, int]:
    """Sum of -ln p over the predicted tokens, and their number."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(ids), WINDOW):
            window = torch.tensor([list(ids[start : start + WINDOW])], device=model.device)
            if window.shape[1] < 2:
                break
            logits = model(input_ids=window).logits[0, :-1].float()
            picked = torch.log_softmax(logits, dim=-1).gather(1, window[0, 1:, None])
            total -= float(picked.sum())
            count += window.shape[1] - 1
    return total, count
