"""Markdown structure agrees with CommonMark's own examples, and what is missing is said."""

import json
import re
from pathlib import Path

import pytest
from lxml import html

from tunewise.evidence.metrics import METRICS, MetricContext
from tunewise.forms import OutputSpec
from tunewise.forms.markdown import Heading, MarkdownForm, structure

EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "commonmark" / "spec_examples.jsonl"
NOTE = """# Visit

## Subjective
Cough for **three** days.

## Objective:
| Sign | Value |
|------|-------|
| Pulse | 80 |

## Assessment
1. Bronchitis

## Plan
- [ ] rest

```sql
select 1
```
"""


def wanting(text: str, **asked) -> list[str]:
    return MarkdownForm(**asked).wanting(text)


@pytest.mark.skipif(not EXAMPLES.exists(), reason="CommonMark's examples are not on this machine")
def test_headings_code_and_lists_agree_with_the_examples_of_commonmark(capsys):
    compared = 0
    for line in EXAMPLES.read_text(encoding="utf-8").splitlines():
        example = json.loads(line)
        page, there = example["html"], structure(example["markdown"])
        if re.search(r"<(h\d|ul|ol|li|pre|code|table)\b", example["markdown"]):
            continue  # written as HTML in the text: no structure of Markdown
        tree = html.document_fromstring(f"<html><body><div>{page}</div></body></html>")
        levels = [int(e.tag[1]) for e in tree.iter("h1", "h2", "h3", "h4", "h5", "h6")]
        assert [h.level for h in there.headings] == levels, example["id"]
        lists = [{"ul": "bullet", "ol": "ordered"}[e.tag] for e in tree.iter("ul", "ol")]
        assert [kind for kind in there.lists if kind != "task"] == lists, example["id"]
        named = [e.get("class", "").removeprefix("language-") for e in tree.iter("code") if e.get("class")]
        assert [language for language in there.code if language] == named, example["id"]
        compared += 1
    with capsys.disabled():
        print(f"\nCommonMark's examples compared: {compared}")
    assert compared > 500


def test_a_complete_note_has_all_that_is_asked():
    assert not wanting(
        NOTE,
        headings=(Heading(1, "Visit"), Heading(2, "Plan")),
        sections=("Subjective", "objective", "Assessment", "Plan"),
        tables=(("Sign", "Value"),),
        code=("SQL",),
        lists=("ordered", "bullet", "task"),
    )


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        ("# A\nx", {"sections": ("A", "B")}, "section 'b' is missing"),
        ("# B\nx\n# A\nx", {"sections": ("A", "B")}, "section 'b' stands before 'a'"),
        ("# A\n# B\nx", {"sections": ("A", "B")}, "section 'A' is empty"),
        ("## A", {"headings": (Heading(1, "A"),)}, "heading '# a' is missing"),
        ("|x|z|\n|-|-|", {"tables": (("x", "y"),)}, "no table with the columns x, y; there is one with x, z"),
        ("```js\n1\n```", {"code": ("sql",)}, "no fenced code in sql; the code is in js"),
        ("- a", {"lists": ("ordered",)}, "no ordered list"),
        ("**A**\n\nx", {"sections": ("A",)}, "section 'a' is missing"),  # bold is no heading
        ("```\n# A\n```", {"sections": ("A",)}, "section 'a' is missing"),  # nor is a line of code
    ],
)
def test_what_is_missing_is_said(text, asked, words):
    assert wanting(text, **asked) == [words]


def test_a_section_is_filled_by_sections_below_it():
    assert wanting("# A\n## B\nx", sections=("A", "B")) == []


def test_an_answer_wrapped_into_a_fence_counts_only_after_repair():
    context = MetricContext(output=OutputSpec(markdown=MarkdownForm(sections=("A",))))
    found = METRICS["markdown"].score("```markdown\n# A\nx\n```", [], context)
    assert (found.status, found.value, found.detail["repaired_value"]) == ("scored", 0, 1)
    assert METRICS["markdown"].score("# A\nx", [], context).value == 1


def test_headings_in_order_are_found_between_others_of_the_same_name():
    form = MarkdownForm(sections=("Subjective", "Plan"))
    assert form.wanting("# Plan\nx\n# Subjective\ny\n# Plan\nz") == []
    assert form.wanting("# Plan\nx\n# Subjective\ny") == ["section 'plan' stands before 'subjective'"]
    twice = MarkdownForm(headings=(Heading(2, "A"), Heading(2, "B"), Heading(2, "A")))
    assert twice.wanting("## A\nx\n## B\ny\n## A\nz") == []
    assert twice.wanting("## A\nx\n## B\ny") == ["heading '## a' is missing"]


def test_the_section_that_stands_where_it_should_is_the_one_that_must_not_be_empty():
    form = MarkdownForm(sections=("Subjective", "Plan"))
    assert form.wanting("# Plan\nx\n# Subjective\ny\n# Plan\n") == ["section 'Plan' is empty"]
    assert form.wanting("# Plan\n# Subjective\ny\n# Plan\nz") == []


def test_of_a_text_too_long_to_be_read_no_share_of_structure_is_told():
    context = MetricContext(output=OutputSpec(markdown=MarkdownForm(sections=("A", "B"))))
    found = METRICS["markdown"].score("a" * 200_001, [], context)
    assert (found.value, found.detail["structure_share"]) == (0, None)
