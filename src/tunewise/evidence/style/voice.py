"""A voice that texts can be measured against: fitted on reference texts and the base model's answers."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import DataError
from tunewise.evidence.style.classifier import FOLDS, Numbers, VoiceClassifier, auc, fit_classifier
from tunewise.evidence.style.delta import FEWEST_WORDS as DELTA_WORDS
from tunewise.evidence.style.delta import burrows_delta
from tunewise.evidence.style.loops import loops
from tunewise.evidence.style.masking import kept_words, words

FEWEST_WORDS = 500  # a side
FEWEST_DOCUMENTS = 10  # a side: two for each fold
PASSES = 0.80  # share of held-out reference texts above the threshold
MOST_TEXTS = 4000  # a side; more would only take longer
MOST_CHARACTERS = 50_000  # of one text; its voice is known long before
NO_VOICE = -20.0  # log-odds of a text in no voice
RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class VoiceText:
    """One text of a side. ``document``: texts that share it are never split; by default its own."""

    text: str
    document: str = ""

    @property
    def name(self) -> str:
        """The document's name, or one made of the text."""
        return self.document or hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; all None with ``why`` when undefined. n: units resampled."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``why`` only where it is said."""
        said = {"estimate": self.estimate, "low": self.low, "high": self.high, "n": self.n}
        return said if self.why is None else {**said, "why": self.why}


@dataclass(frozen=True, eq=False)
class Voice:
    """A fitted voice. ``threshold``: log-odds that 80 % of held-out reference texts pass.

    reference, base: the training texts; kept_from: which words the masking left, in words.
    """

    classifier: VoiceClassifier
    threshold: float
    reference: tuple[VoiceText, ...]
    base: tuple[VoiceText, ...]
    kept_from: str

    @classmethod
    def fit(cls, reference: Sequence[VoiceText], base: Sequence[VoiceText], seed: int = 0) -> "Voice":
        """Fit on reference texts and the base model's answers to the same inputs.

        Texts without a word are left out; of more than 4,000 a side the first are taken.
        Raises DataError below 500 words or 10 documents a side, with the count and what to do; SettingError
        without the extra ``style``.
        """
        reference, base = _spoken(reference), _spoken(base)
        require_enough("reference", reference)
        require_enough("base", base)
        kept, kept_from = kept_words([t.text for t in reference], [t.text for t in base])
        classifier = fit_classifier(
            [t.text for t in reference],
            [t.text for t in base],
            [t.name for t in (*reference, *base)],
            kept,
            seed,
        )
        held_out = np.sort(classifier.held_out_reference)
        # the highest value that at least 80 % pass (reach or exceed)
        threshold = float(held_out[len(held_out) - math.ceil(PASSES * len(held_out))])
        return cls(classifier, threshold, reference, base, kept_from)

    def log_odds(self, texts: Sequence[str]) -> Numbers:
        """See VoiceClassifier. Of a text beyond 50,000 characters the beginning is read.

        A text that repeats itself (``loops``) has -20: measured with a small model, the classifier took 18 of
        18 answers like "No, no, no, ..." for the voice of Shakespeare, since the base never says it.
        """
        read = [text[:MOST_CHARACTERS] for text in texts]
        looping = np.array([loops(words(text)) for text in read], dtype=bool)
        return np.where(looping, NO_VOICE, self.classifier.log_odds(read))

    def probability(self, texts: Sequence[str]) -> Numbers:
        """The probability of the reference voice of each text, against the base model's, at even odds."""
        return _probability(self.log_odds(texts))

    def speaks(self, text: str) -> bool:
        """Whether a text is in the voice: above the threshold. A text without a word is not."""
        return bool(words(text)) and bool(self.log_odds([text])[0] >= self.threshold)

    @property
    def threshold_probability(self) -> float:
        """The threshold as a probability."""
        return float(_probability(np.array([self.threshold]))[0])

    def position(self, outputs: Sequence[VoiceText], seed: int = 0) -> Interval:
        """(mean of outputs - base) / (held-out reference - base), means of probabilities.

        0 is the base, 1 the voice; not clipped. The interval is a percentile bootstrap over documents of all
        three sides (Efron & Tibshirani 1993, chapters 8 and 13). Undefined, with the reason:
        below 500 words of outputs, or when reference and base cannot be told apart (the interval of the gap
        reaches 0).
        """
        spoken = _spoken(outputs)
        count = _words_in(spoken)
        if count < FEWEST_WORDS:
            return Interval(
                None, None, None, len(spoken), f"{count} words of outputs; it takes {FEWEST_WORDS}"
            )
        return self.position_of(self.probability([t.text for t in spoken]), [t.name for t in spoken], seed)

    def position_of(self, scores: Numbers, documents: Sequence[str], seed: int = 0) -> Interval:
        """``position`` of texts whose probabilities are known, however few words they have."""
        rng = np.random.default_rng(seed)
        anchors = self.anchors(rng)
        if anchors is None:
            return Interval(
                None, None, None, len(scores), "the reference cannot be told from the base model's texts"
            )
        (base, reference), (base_draws, reference_draws) = anchors
        draws = resampled_means(scores, documents, rng)
        positions = (draws - base_draws) / (reference_draws - base_draws)
        low, high = np.quantile(positions, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        estimate = (float(scores.mean()) - base) / (reference - base)
        groups = len(set(documents))
        if groups < 2:
            return Interval(estimate, None, None, groups, "one document: its spread is not known")
        return Interval(estimate, float(low), float(high), groups)

    def anchors(self, rng: np.random.Generator) -> tuple[tuple[float, float], tuple[Numbers, Numbers]] | None:
        """Mean held-out probabilities of base and reference, and their bootstrap draws.

        None when the two cannot be told apart: the 95 % interval of their distance reaches 0.
        """
        base = _probability(self.classifier.held_out_base)
        reference = _probability(self.classifier.held_out_reference)
        base_draws = resampled_means(base, [t.name for t in self.base], rng)
        reference_draws = resampled_means(reference, [t.name for t in self.reference], rng)
        if np.quantile(reference_draws - base_draws, (1 - LEVEL) / 2) <= 0:
            return None
        return (float(base.mean()), float(reference.mean())), (base_draws, reference_draws)

    def separation(self, seed: int = 0) -> Interval:
        """Cross-validated AUC of reference against base, 95 % bootstrap interval over documents.

        0.5: cannot be told apart; 1: always. A figure of the fitted data, not of outputs.
        """
        return auc_interval(
            self.classifier.held_out_reference,
            [t.name for t in self.reference],
            self.classifier.held_out_base,
            [t.name for t in self.base],
            seed,
        )

    def facts(self) -> dict[str, Any]:
        """What the voice was fitted on and how well it is told, JSON-able."""
        return {
            "reference": {"texts": len(self.reference), "words": _words_in(self.reference)},
            "base": {"texts": len(self.base), "words": _words_in(self.base)},
            "kept_words": self.kept_from,
            "threshold": self.threshold_probability,
            "base_share": float(np.mean(self.classifier.held_out_base >= self.threshold)),
            "auc": self.separation().to_json(),
            "folds": FOLDS,
        }

    def delta(self, outputs: Sequence[VoiceText]) -> dict[str, Any]:
        """Burrows's Delta of outputs, base and halves of the reference to the reference; see ``delta``."""
        sides = [[t.text for t in side] for side in (self.reference, self.base, outputs)]
        return burrows_delta(*sides)


def measure_outputs(voice: Voice, outputs: Sequence[VoiceText], seed: int = 0) -> dict[str, Any]:
    """All figures of a set of outputs against a voice, JSON-able; undefined ones None with ``why``.

    ``share``: of all outputs that are in the voice (Wilson's interval; where outputs share a document, a
    bootstrap over documents); ``position``;
    ``auc_against_reference``: 0.5 where this classifier cannot tell them apart; ``delta``.
    """
    spoken = _spoken(outputs)
    if len(spoken) == MOST_TEXTS:  # what comes behind them is not read
        outputs = outputs[: next(n for n, text in enumerate(outputs, 1) if text is spoken[-1])]
    scores = voice.log_odds([t.text for t in spoken])
    documents = [t.name for t in spoken]
    apart = Interval(None, None, None, 0, "no outputs with words")
    if len(spoken):
        names = [t.name for t in voice.reference]
        apart = auc_interval(voice.classifier.held_out_reference, names, scores, documents, seed)
    return {
        "n": len(outputs),
        "without_words": len(outputs) - len(spoken),
        "words": _words_in(spoken),
        "share": _share(scores >= voice.threshold, documents, len(outputs), seed).to_json(),
        "mean_probability": float(_probability(scores).mean()) if len(spoken) else None,
        "position": voice.position(spoken, seed).to_json(),
        "auc_against_reference": apart.to_json(),
        "delta": voice.delta(spoken),
        "delta_from_words": DELTA_WORDS,
    }


def _share(passed: NDArray[np.bool_], documents: Sequence[str], n: int, seed: int) -> Interval:
    groups = len(set(documents))
    if groups == len(documents) or groups < 2 or n != len(documents):
        return share_interval(int(np.sum(passed)), n)
    values = np.asarray(passed, dtype=float)
    draws = resampled_means(values, documents, np.random.default_rng(seed))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values.mean()), float(low), float(high), groups)


def share_interval(successes: int, n: int) -> Interval:
    """A share with Wilson's 95 % interval (Wilson, JASA 22, 1927, p. 209-212); undefined for n = 0."""
    if n == 0:
        return Interval(None, None, None, 0, "no outputs")
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def resampled_means(values: Numbers, documents: Sequence[str], rng: np.random.Generator) -> Numbers:
    """Bootstrap draws of the mean, whole documents drawn with replacement."""
    sums, counts = _by_document(values, documents)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    return np.asarray((drawn @ sums) / (drawn @ counts), dtype=float)


def auc_interval(
    above: Numbers, above_documents: Sequence[str], below: Numbers, below_documents: Sequence[str], seed: int
) -> Interval:
    """AUC with a bootstrap interval: each text's share of wins is its placement value, resampled by document.

    The first-order (Hajek) projection of the Mann-Whitney statistic, as in DeLong, DeLong &
    Clarke-Pearson, Biometrics 44, 1988.
    """
    estimate = auc(above, below)
    rng = np.random.default_rng(seed)
    first = resampled_means(_placements(above, below), above_documents, rng)
    second = resampled_means(1 - _placements(below, above), below_documents, rng)
    low, high = np.quantile(first + second - estimate, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, max(0.0, float(low)), min(1.0, float(high)), len(above) + len(below))


def _placements(values: Numbers, others: Numbers) -> Numbers:
    ranked = np.sort(others)
    below = np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")
    return np.asarray(below / 2 / len(others), dtype=float)


def _by_document(values: Numbers, documents: Sequence[str]) -> tuple[Numbers, Numbers]:
    _, place = np.unique(np.array(documents, dtype=object).astype(str), return_inverse=True)
    sums = np.asarray(np.bincount(place, weights=values), dtype=float)
    return sums, np.asarray(np.bincount(place), dtype=float)


def _probability(log_odds: NDArray[np.float64]) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))), dtype=float)


def _spoken(texts: Sequence[VoiceText]) -> tuple[VoiceText, ...]:
    """The first of the texts that have a word."""
    return tuple(text for text in texts if words(text.text))[:MOST_TEXTS]


def _words_in(texts: Sequence[VoiceText]) -> int:
    return sum(len(words(text.text)) for text in texts)


def require_enough(side: str, texts: Sequence[VoiceText]) -> None:
    """Raise DataError, with the count, where a side has under 500 words or 10 documents."""
    count, documents = _words_in(texts), len({text.name for text in texts})
    if count < FEWEST_WORDS or documents < FEWEST_DOCUMENTS:
        raise DataError(
            f"style: expected at least {FEWEST_WORDS} words in {FEWEST_DOCUMENTS} documents of {side} texts,"
            f" got {count} words in {documents}: a voice cannot be told from less; add {side} texts"
        )
