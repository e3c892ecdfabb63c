"""Text metrics against the libraries that define them, and against the definition."""

import random

import numpy as np
import pytest

from tunewise.errors import SettingError
from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.evidence.metrics.accuracy import macro_f1
from tunewise.evidence.metrics.rouge_l import lcs_length
from tunewise.evidence.records import Score
from tunewise.task_metric import ChrfOptions, ExactOptions, NumericOptions, RougeOptions

WORDS = [
    "The",
    "cat,",
    "dog's",
    "ran",
    "12",
    "times;",
    "sat-on",
    "caresses",
    "running",
    "(über)",
    "Straße",
    "naïve",
    "e-mail",
    "3.5%",
    "\n",
]


def value(name: str, answer: str, *references, options=None, **context) -> float:
    found = METRICS[name].score(answer, references, MetricContext(options=options, **context))
    assert found.value is not None
    return found.value


def texts(count: int) -> list[tuple[str, str]]:
    rng = random.Random(3)
    return [
        (
            " ".join(rng.choices(WORDS, k=rng.randint(0, 30))),
            " ".join(rng.choices(WORDS, k=rng.randint(1, 30))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("stem", [False, True])
def test_rouge_l_is_what_rouge_score_says(stem):
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    peer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=stem)
    for answer, reference in texts(300):
        expected = peer.score(reference, answer)["rougeL"]
        found = METRICS["rouge_l"].score(answer, [reference], MetricContext(options=RougeOptions(stem=stem)))
        assert found.value == pytest.approx(expected.fmeasure, abs=1e-12)
        assert found.detail["rouge_l_recall"] == pytest.approx(expected.recall if expected.fmeasure else 0)


def lcs_by_table(first, second) -> int:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


def test_the_longest_common_subsequence_is_the_one_of_the_table():
    rng = random.Random(1)
    for _ in range(200):
        first = rng.choices("abcd", k=rng.randint(0, 90))
        second = rng.choices("abcd", k=rng.randint(0, 90))
        assert lcs_length(first, second) == lcs_by_table(first, second)


def test_rouge_l_reads_other_scripts_on_request():
    assert value("rouge_l", "кот спит", "кот спит") == 0.0
    assert value("rouge_l", "кот спит", "кот спит", options=RougeOptions(words="unicode")) == 1.0


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_is_sacrebleu_s_over_100_and_the_best_reference_counts(word_order):
    metrics = pytest.importorskip("sacrebleu.metrics")
    peer = metrics.CHRF(word_order=word_order)
    for answer, reference in texts(60):
        expected = peer.sentence_score(answer, [reference]).score / 100
        found = value("chrf", answer, reference, options=ChrfOptions(word_order=word_order))
        assert found == pytest.approx(expected)
        assert value("chrf", answer, "zzz", reference) >= value("chrf", answer, reference)


def test_chrf_says_where_it_cut_an_endless_answer():
    found = METRICS["chrf"].score("ab" * 30_000, ["ab"], MetricContext())
    assert "first 50000 of 60000 characters" in found.detail["why"]


@pytest.mark.parametrize(
    ("answer", "reference", "options", "expected"),
    [
        ("42", 42, {}, 1),
        ("42.0", "42", {}, 1),
        (" $1,234.50 ", 1234.5, {}, 1),
        ("−3", -3, {}, 1),
        ("**7**.", 7, {}, 1),
        ("1e3", 1000, {}, 1),
        ("0.3", 0.2, {"tolerance": 0.1}, 1),
        ("0.31", 0.2, {"tolerance": 0.1}, 0),
        ("110", 100, {"relative": 0.1}, 1),
        ("111", 100, {"relative": 0.1}, 0),
        ("I count 3, then 12 apples", 12, {"read": "last"}, 1),
        ("I count 3, then 12 apples", 3, {"read": "first"}, 1),
        ("1.5 or 2", 2, {"read": "last"}, 1),
        ("43", 42, {}, 0),
        ("9" * 400, 42, {}, 0),
    ],
)
def test_numeric_by_hand(answer, reference, options, expected):
    assert value("numeric", answer, reference, options=NumericOptions(**options)) == expected


@pytest.mark.parametrize("answer", ["twelve", "", "12 apples", "1,23", "1 2", "NaN", "inf", "0x10", "٣", "²"])
def test_what_is_no_number_is_unparseable_and_says_so(answer):
    found = METRICS["numeric"].score(answer, ["12"], MetricContext())
    assert (found.status, found.value) == ("unparseable", 0.0) or answer == "٣"
    if answer == "12 apples":
        assert found.detail["repaired_value"] == 1.0


def test_exact_takes_the_declared_steps_and_no_others():
    assert value("exact", "The Café!", "the café") == 1
    assert value("exact", "The Café!", "the café", options=ExactOptions(normalise=())) == 0
    assert value("exact", "The Café!", "the cafe", options=ExactOptions(normalise=("case", "accents"))) == 0
    steps = ("case", "accents", "punctuation", "articles", "spaces")
    assert value("exact", "  The Café! ", "cafe", options=ExactOptions(normalise=steps)) == 1
    why = METRICS["exact"].score("b", ["a"], MetricContext()).detail["why"]
    assert why == "'a' was expected, got 'b'"


def scored(pairs):
    context = MetricContext(choices=("a", "b", "c", "d"))
    return [METRICS["accuracy"].score(said, [right], context) for said, right in pairs]


def test_macro_f1_is_scikit_learn_s_over_the_labels_seen():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(2)
    for labels in ("ab", "abc", "abcd"):
        pairs = [(rng.choice(labels), rng.choice("ab")) for _ in range(30)]
        said, right = zip(*pairs, strict=True)
        expected = sklearn_metrics.f1_score(right, said, average="macro", zero_division=0)
        assert macro_f1(scored(pairs))["macro_f1"] == pytest.approx(expected)


def test_macro_f1_by_hand_with_an_answer_that_is_no_class():
    found = macro_f1(scored([("a", "a"), ("a", "a"), ("zzz", "b"), ("a", "b")]))
    # a: TP 2, FP 1, FN 0 -> 0.8; b: TP 0 -> 0; c, d: absent from both
    assert found == {"macro_f1": pytest.approx(0.4), "classes": 2}


def test_macro_f1_of_nothing_is_undefined():
    assert macro_f1([]) == {"macro_f1": None, "classes": 0}
    assert macro_f1([Score("errored", None)])["macro_f1"] is None


def vectors(found):
    rows = np.array(
        [[1.0, 0.0] if text == "yes" else [0.6, 0.8] if text == "maybe" else [-1, 0] for text in found]
    )
    return rows


def test_semantic_is_the_cosine_and_never_negative():
    assert value("semantic", "yes", "yes", encode=vectors) == 1
    assert value("semantic", "yes", "maybe", encode=vectors) == pytest.approx(0.6)
    assert value("semantic", "yes", "no", encode=vectors) == 0
    assert value("semantic", "yes", "no", "maybe", encode=vectors) == pytest.approx(0.6)
    assert value("semantic", " ", "no", encode=vectors) == 0
    assert value("semantic", " ", "", encode=vectors) == 1


def test_semantic_without_an_encoder_says_what_to_install():
    with pytest.raises(SettingError, match=r"tunewise\[dense\]"):
        METRICS["semantic"].score("a", ["b"], MetricContext())
