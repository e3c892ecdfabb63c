"""Burrows's Delta against a computation by hand, and its order on made authors."""

import numpy as np
import pytest

from tunewise.evidence.style.delta import burrows_delta


def author(shares: dict[str, float], count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(list(shares), size=count, p=list(shares.values())))]


ONE = {"the": 0.4, "of": 0.3, "and": 0.2, "so": 0.1}
TWO = {"the": 0.2, "of": 0.2, "and": 0.2, "so": 0.4}


def test_delta_is_the_mean_distance_in_standard_deviations_over_chunks():
    sides = [author(ONE, 2000, 1), author(TWO, 2500, 2), author(ONE, 2000, 3)]
    tokens = [side[0].split() for side in sides]
    chunks = [side[n : n + 500] for side in tokens[:2] for n in range(0, len(side), 500)]
    total = 0.0
    for word in ONE:
        spread = np.std([chunk.count(word) / 500 for chunk in chunks], ddof=1)
        here, there = tokens[2].count(word) / 2000, tokens[0].count(word) / 2000
        total += abs(here - there) / spread
    assert burrows_delta(*sides)["outputs"] == pytest.approx(total / 4)


def test_the_authors_own_text_is_nearer_than_anothers():
    found = burrows_delta(author(ONE, 4000, 1), author(TWO, 4000, 2), author(ONE, 4000, 3))
    assert found["outputs"] < found["base"] / 3
    assert found["reference_halves"] < found["base"] / 3


def test_under_2000_words_a_side_it_is_undefined_with_the_reason():
    found = burrows_delta(author(ONE, 4000, 1), author(TWO, 4000, 2), author(ONE, 1999, 3))
    assert found["outputs"] is None
    assert found["base"] is not None
    assert "1999 words of outputs" in found["why"]
    none = burrows_delta(author(ONE, 100, 1), author(TWO, 4000, 2), author(ONE, 4000, 3))
    assert none["base"] is None
    assert "100 words of reference" in none["why"]
