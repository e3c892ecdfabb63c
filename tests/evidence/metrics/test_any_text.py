"""Every metric takes any text: it never raises, and its value lies in [0, 1]."""

import json
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise.evidence.judge import Criterion, Judge, Rubric
from tunewise.evidence.metrics import METRICS, Metric, MetricContext
from tunewise.evidence.records import Score
from tunewise.evidence.style import SurfaceRules, Voice, VoiceText
from tunewise.evidence.style.measure import StyleMeasure
from tunewise.forms import OutputSpec
from tunewise.forms.json_schema import JsonSchema
from tunewise.forms.markdown import Heading, MarkdownForm
from tunewise.forms.patterns import Pattern
from tunewise.forms.sql import SqlForm
from tunewise.forms.xml_schema import XmlForm
from tunewise.models.scripted import ScriptedDoor


def encode(texts: Sequence[str]) -> np.ndarray:
    """Stands for a sentence encoder: what it is given must be fit for one."""
    for text in texts:
        text.encode("utf-8")
    return np.ones((len(texts), 1))


@cache
def context() -> MetricContext:
    """All that any metric needs, with a small voice and a judge that agrees to everything."""
    old, new = (
        [VoiceText(f"{say} the {noun} over there, before the {noun} is gone." * 3, noun) for noun in NOUNS]
        for say in ("Lo, thou seest", "You can see")
    )
    judge = Judge(
        Rubric((Criterion("fine", "Is it?", ((0, "no"), (1, "yes")), 1),)),
        ScriptedDoor(lambda messages: '{"fine": {"quote": "", "level": 1}}'),
        lambda door, requests: door.answer(list(requests)),
    )
    rules = SurfaceRules(("cheap",), "never", 20, True, 8)
    return MetricContext(
        choices=("yes", "no", "?"),
        encode=encode,
        output=OutputSpec(
            json_schema=JsonSchema({"type": "object", "required": ["a"]}),
            xml_schema=XmlForm(required=["a/b"]),
            markdown=MarkdownForm(
                headings=(Heading(1, "A"),),
                sections=("B",),
                tables=(("x", "y"),),
                code=("sql",),
                lists=("task",),
            ),
            regex=Pattern(r"^(?=a)(a+)+$"),
            sql=SqlForm("postgres"),
            choices=("yes", "no", "?"),
        ),
        style=StyleMeasure(Voice.fit(old, new), rules, at_least=0.5),
        content=METRICS["token_f1"],
        judge=judge,
    )


NOUNS = [
    f"{one}{two}" for one in ("boat", "tree", "hill", "lamp") for two in ("man", "house", "side", "light")
]
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates and control characters included
MARKUP = st.text('{}[]":,\\ 0123eE+-.naultrfs\n\x00\ud800`', max_size=60)


def check(metric: Metric, answer: str, references: list[Any]) -> Score:
    found = metric.score(answer, references, context())
    assert found.status in ("scored", "unparseable", "errored")
    json.dumps(dict(found.detail), allow_nan=False)
    str(found.detail.get("why", "")).encode("utf-8")
    if found.status == "errored":  # cut off, which only checks in a helper process may be
        assert metric.name in ("regex", "sql")
        assert found.value is None
        assert found.detail["why"]
        return found
    assert found.value is not None
    assert 0 <= found.value <= 1
    assert metric.kind == "graded" or found.value in (0, 1)
    return found


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@settings(max_examples=300, deadline=None)
@given(answer=ANY_TEXT | MARKUP, reference=ANY_TEXT | MARKUP)
def test_no_text_raises(metric: Metric, answer: str, reference: str) -> None:
    check(metric, answer, [reference, {"a": reference}])


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize(
    "piece",
    [
        "a ",
        "[",
        "{",
        '"',
        "\\",
        "{}",
        '{"a":',
        "[1,",
        "\x00",
        "\ud800",
        "x{",
        "yes ",
        "1",
        '"\\"',
        "ﷺ",
        "\u0301",
    ],
)
def test_a_megabyte_is_scored_within_seconds(metric: Metric, piece: str) -> None:
    answer = (piece * (2**20 // len(piece) + 1))[: 2**20]
    started = time.perf_counter()
    check(metric, answer, [{"a": 1}, "yes"])
    assert time.perf_counter() - started < 60  # a hang, not a speed: other work may share the machine


FORMATS = [METRICS[name] for name in ("json_schema", "xml_schema", "markdown", "regex", "sql", "choices")]


@pytest.mark.parametrize("metric", FORMATS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("piece", ["[", "<a>", "> ", "(", "~", "\x00\ud800", '{"a":', "a"])
def test_ten_megabytes_and_depth_100_000_have_a_status_within_seconds(metric: Metric, piece: str) -> None:
    started = time.perf_counter()
    for answer in (piece * 100_000, (piece * (10**7 // len(piece) + 1))[: 10**7]):
        check(metric, answer, [{"a": 1}])
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_no_references_give_0(metric: Metric) -> None:
    if metric.needs_reference:
        assert check(metric, "yes", []).value == 0
