"""Signs of degeneration on texts that show them and texts that do not."""

import random
import zlib

import pytest

from tunewise.benchmarks.symptoms import (
    compressed_alike,
    compressed_share,
    loop_period,
    repeated_share,
    symptoms,
)
from tunewise.models.door import Answer

WORDS = [
    "river",
    "lamp",
    "under",
    "seven",
    "quiet",
    "stones",
    "before",
    "morning",
    "they",
    "walk",
    "along",
    "paper",
    "fields",
    "of",
    "rain",
]


def healthy(seed, length=40):
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + str(rng.randrange(50)) for _ in range(length)) + "."


def by_name(found):
    return {symptom.name: symptom for symptom in found}


def test_repetition_is_one_minus_different_over_all_four_grams():
    text = "a b c d e f g h a b c d"  # 9 four-grams, "a b c d" twice
    assert repeated_share(text) == pytest.approx(1 - 8 / 9)
    assert repeated_share("a b c d e f g h i j") == 0
    assert repeated_share("too short") is None


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("It is so. I like it. I like it. I like it.", len(" I like it.")),
        ("Start, then abcabcabcabcabcab", 3),  # the last repetition is cut off
        ("Once upon a time the end", None),
        ("ha ha", None),
        ("", None),
        ("Twice only. Twice only.", None),
    ],
)
def test_a_loop_is_a_stretch_repeated_at_the_end(text, period):
    assert loop_period(text) == period


def test_the_compressed_share_is_that_of_zlib_at_equal_length():
    one, other = "abcdefghij" * 30, healthy(1, 200)
    assert compressed_share(one) == len(zlib.compress(one.encode(), 9)) / 300
    first, second = compressed_alike(one, other)
    assert first == compressed_share(one)
    assert second == compressed_share(other[:300])
    assert compressed_share("") is None


def test_a_model_that_loops_everywhere_fires_and_an_equal_one_does_not():
    base = [Answer(healthy(seed), finish="stop") for seed in range(40)]
    broken = [Answer(healthy(seed, 5) + " I see. I see." * 30, finish="length") for seed in range(40)]
    fired = {s.name for s in symptoms(base, broken) if s.fires}
    assert {"repetition", "loops", "never_stops", "compression"} <= fired
    other = [Answer(healthy(seed + 1000), finish="stop") for seed in range(40)]
    assert not any(symptom.fires for symptom in symptoms(base, other))


def test_answers_that_become_much_shorter_or_empty_fire():
    base = [Answer(healthy(seed)) for seed in range(40)]
    found = by_name(symptoms(base, [Answer("Yes.") for _ in range(40)]))
    assert found["length"].fires
    assert not found["empty"].fires
    assert by_name(symptoms(base, [Answer(" ") for _ in range(40)]))["empty"].fires


def test_answering_everything_in_the_tuned_format_fires():
    base = [Answer(healthy(seed)) for seed in range(30)]
    tuned = [Answer('{"name": "x"}') for _ in range(30)]
    found = by_name(symptoms(base, tuned, tuned_format=lambda text: text.startswith("{")))
    assert found["tuned_format"].fires
    assert (found["tuned_format"].base, found["tuned_format"].tuned) == (0, 1)


def test_one_pair_and_none_give_no_interval_and_do_not_fire():
    for pairs in ([], [Answer("a word")]):
        for symptom in symptoms(pairs, pairs):
            assert not symptom.fires
    assert by_name(symptoms([], []))["loops"].change.estimate is None


def test_errored_answers_are_left_out_with_their_pair():
    base = [Answer("text"), Answer("", status="errored")]
    assert by_name(symptoms(base, [Answer("text"), Answer("more")]))["loops"].n == 1


def test_more_bits_for_the_same_text_fire_from_five_percent_on():
    from tunewise.benchmarks.symptoms import text_symptom

    base = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0]
    little = text_symptom([(bits, 1.03 * bits) for bits in base])
    assert little.change.low > 0  # certain, and small
    assert not little.fires
    assert text_symptom([(bits, 1.08 * bits) for bits in base]).fires
    assert not text_symptom([(bits, 0.8 * bits) for bits in base]).fires
    assert not text_symptom([]).fires
