"""``rouge_l``: the longest common subsequence of words, as in summarisation."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score
from tunewise.task_metric import RougeOptions

ASCII_WORDS = re.compile(r"[a-z0-9]+")
UNICODE_WORDS = re.compile(r"[^\W_]+")
STEM_FROM = 4  # rouge-score stems words of more than three letters


def rouge_l(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """F1 of LCS / words in answer and LCS / words in reference; the best reference counts.

    Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries", section 3, sentence-level LCS with
    beta 1, over rouge-score's words (lower case, a-z and 0-9 alone; option ``words: unicode`` for other
    scripts). The same figure as rouge-score's ``rougeL`` ``fmeasure`` without its table of words times
    words, so that an answer of any length is scored. No word on a side gives 0. detail: ``rouge_l_recall``
    and ``rouge_l_precision`` of the best reference.
    """
    options = context.options if isinstance(context.options, RougeOptions) else RougeOptions()
    said = _words(answer, options)
    best = (0.0, 0.0, 0.0)
    for reference in references:
        right = _words(reference_text(reference), options)
        common = lcs_length(right, said)
        if common:
            f1 = 2 * common / (len(said) + len(right))
            best = max(best, (f1, common / len(right), common / len(said)))
    return Score("scored", best[0], {"rouge_l_recall": best[1], "rouge_l_precision": best[2]})


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, in time len(first) / 64 * len(second).

    Bit-parallel: one bit per word of ``first``. Hyyrö (2004), "Bit-parallel LCS-length computation
    revisited", AWOCA, figure 3.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(first)) - 1
    row = whole
    for word in second:
        mask = places.get(word)
        if mask is not None:
            matched = row & mask
            row = ((row + matched) | (row - matched)) & whole
    return len(first) - row.bit_count()


def _words(text: str, options: RougeOptions) -> list[str]:
    found = (UNICODE_WORDS if options.words == "unicode" else ASCII_WORDS).findall(text.lower())
    if not options.stem:
        return found
    stem = _stemmer()
    return [stem(word) if len(word) >= STEM_FROM else word for word in found]


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise SettingError(
            "rouge_l with stem: true needs nltk's Porter stemmer; run: pip install 'tunewise[text]'"
        ) from None
    stem: Callable[[str], str] = lru_cache(maxsize=1 << 16)(PorterStemmer().stem)
    return stem
