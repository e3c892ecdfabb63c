"""``chrf``: overlap of character n-grams, as in translation."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import SettingError
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.records import Score
from tunewise.task_metric import ChrfOptions

LONGEST = 50_000  # characters of an answer that are read: all n-grams of them are held in memory


def chrf(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """sacrebleu's sentence-level chrF divided by 100, in [0, 1]; the best reference counts.

    Popović (2015), WMT, "chrF: character n-gram F-score": orders 1 to 6, beta 2; ``word_order: 2`` is
    chrF++ (Popović 2017, WMT). An answer of more than LONGEST characters is cut there, and the detail
    says so. Raises SettingError without the extra ``text``.
    """
    options = context.options if isinstance(context.options, ChrfOptions) else ChrfOptions()
    scorer = _scorer(options.word_order)
    detail: dict[str, Any] = {}
    if len(answer) > LONGEST:
        detail["why"] = f"the first {LONGEST} of {len(answer)} characters were read"
    said = answer[:LONGEST]
    values = [scorer.sentence_score(said, [reference_text(r)]).score / 100 for r in references]
    return Score("scored", min(max(values, default=0.0), 1.0), detail)


@lru_cache(maxsize=4)
def _scorer(word_order: int) -> Any:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise SettingError("metric chrf needs sacrebleu; run: pip install 'tunewise[text]'") from None
    return CHRF(word_order=word_order)
