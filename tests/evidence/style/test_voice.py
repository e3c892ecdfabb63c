"""The voice measure: 1 for the voice, 0 for the base, monotone between, and blind to topic."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from tunewise.errors import DataError
from tunewise.evidence.style import Voice, VoiceText, measure_outputs
from tunewise.evidence.style.classifier import auc, folds
from tunewise.evidence.style.voice import auc_interval, resampled_means, share_interval


def test_the_voice_itself_stands_at_1_and_the_base_at_0(old_voice, made):
    assert old_voice.position(made.as_texts(made.write(made.OLD, "garden", 60, 3))).estimate == pytest.approx(
        1, abs=0.1
    )
    assert old_voice.position(
        made.as_texts(made.write(made.PLAIN, "garden", 60, 4))
    ).estimate == pytest.approx(0, abs=0.1)


def test_mixtures_stand_between_in_their_order(old_voice, made):
    places = [
        old_voice.position(made.as_texts(made.write(made.OLD, "garden", 100, 5, own=share))).estimate
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert places == sorted(places)
    assert places[2] == pytest.approx(0.5, abs=0.15)


def test_another_topic_in_the_same_voice_moves_it_by_less_than_a_tenth(old_voice, made):
    for voice in (made.OLD, made.PLAIN):
        here, there = (
            old_voice.position(made.as_texts(made.write(voice, t, 100, 6))).estimate
            for t in ("garden", "harbour")
        )
        assert abs(here - there) < 0.1


def test_four_of_five_held_out_reference_texts_pass_the_threshold(old_voice, made):
    passed = np.mean(old_voice.classifier.held_out_reference >= old_voice.threshold)
    assert passed == pytest.approx(0.8, abs=0.01)
    spoken, plain = made.write(made.OLD, "harbour", 1, 7)[0], made.write(made.PLAIN, "harbour", 1, 7)[0]
    assert old_voice.speaks(spoken)
    assert not old_voice.speaks(plain)
    assert not any(old_voice.speaks(text) for text in ("", "   ", "12 -- 34", "\x00", "🙂" * 50, "\ud800"))


def test_the_position_is_the_ratio_of_its_definition(old_voice, made):
    texts = made.as_texts(made.write(made.OLD, "garden", 40, 8, own=0.5))

    def mean(log_odds):
        return (1 / (1 + np.exp(-log_odds))).mean()

    fitted = old_voice.classifier
    base, reference = mean(fitted.held_out_base), mean(fitted.held_out_reference)
    expected = (mean(old_voice.log_odds([t.text for t in texts])) - base) / (reference - base)
    found = old_voice.position(texts)
    assert found.estimate == pytest.approx(expected)
    assert found.low < found.estimate < found.high


def test_voices_that_are_the_same_are_not_told_apart_and_have_no_position(made):
    same = Voice.fit(
        made.as_texts(made.write(made.PLAIN, "garden", 60, 1)),
        made.as_texts(made.write(made.PLAIN, "garden", 60, 2), "b"),
    )
    assert same.separation().low < 0.5
    found = same.position(made.as_texts(made.write(made.OLD, "garden", 60, 3)))
    assert found.estimate is None
    assert "cannot be told" in found.why


def test_under_500_words_a_side_is_refused_with_the_count(made):
    few, many = (
        made.as_texts(made.write(made.OLD, "garden", 12, 1)),
        made.as_texts(made.write(made.PLAIN, "garden", 60, 2)),
    )
    with pytest.raises(DataError, match=r"at least 500 words.*of reference texts, got 3"):
        Voice.fit(few, many)
    with pytest.raises(DataError, match="of base texts"):
        Voice.fit(many, few)
    one = [VoiceText(t.text, "one book") for t in many]
    with pytest.raises(DataError, match="10 documents"):
        Voice.fit(one, many)


def test_outputs_of_too_few_words_have_no_position_but_a_share(old_voice, made):
    found = measure_outputs(old_voice, made.as_texts(made.write(made.OLD, "garden", 8, 1)))
    assert found["position"]["estimate"] is None
    assert "it takes 500" in found["position"]["why"]
    assert found["share"]["n"] == 8
    nothing = measure_outputs(old_voice, [])
    assert nothing["share"]["estimate"] is None


def test_texts_of_a_document_are_in_one_fold():
    documents = [f"d{number // 7}" for number in range(200)]
    fold = folds(documents, 0)
    for name in set(documents):
        assert len({int(f) for f, d in zip(fold, documents, strict=True) if d == name}) == 1
    assert np.bincount(fold).min() > 20


def test_a_document_that_repeats_itself_does_not_inflate_the_separation(made):
    """Two sides of the same voice; each document repeats one text. Split by text, all would be known."""
    sides = []
    for side, seed in (("r", 1), ("b", 2)):
        texts = made.write(made.PLAIN, "garden", 40, seed)
        sides.append([VoiceText(t, f"{side}{n}") for n, t in enumerate(texts) for _ in range(6)])
    honest = Voice.fit(*sides).separation()
    assert honest.low < 0.5
    split_by_text = Voice.fit(
        *[[VoiceText(t.text, f"{k}{n}") for n, t in enumerate(s)] for k, s in zip("rb", sides, strict=True)]
    )
    assert split_by_text.separation().low > 0.5


def test_auc_agrees_with_scikit_learn_ties_included():
    rng = np.random.default_rng(0)
    above, below = rng.integers(0, 6, 50) + 1.0, rng.integers(0, 6, 70) + 0.0
    assert auc(above, below) == pytest.approx(roc_auc_score([1] * 50 + [0] * 70, [*above, *below]))


def test_the_auc_interval_covers_the_truth_and_is_about_as_wide_as_delongs():
    """Two normals one apart: AUC is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        above, below = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
        names = [str(n) for n in range(60)]
        found = auc_interval(above, names, below, names, 0)
        covered += found.low <= 0.76025 <= found.high
    assert 0.88 <= covered / 100 <= 0.99


def test_shares_have_wilsons_interval():
    found = share_interval(37, 50)
    low, high = proportion_confint(37, 50, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_bootstrap_spreads_as_the_standard_error_by_document_says():
    rng = np.random.default_rng(2)
    effects = rng.normal(0, 1, 200)
    documents = [str(n // 5) for n in range(1000)]
    values = np.repeat(effects, 5) + rng.normal(0, 0.1, 1000)
    means = values.reshape(200, 5).mean(axis=1)
    drawn = resampled_means(values, documents, rng)
    assert drawn.std() == pytest.approx(means.std(ddof=1) / np.sqrt(200), rel=0.12)
