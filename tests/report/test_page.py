"""The page: complete, escaped, self-contained, small."""

import html as entities
import re
from html.parser import HTMLParser

from tunewise.data import Example, Message
from tunewise.decision import Build, Decision, RungResult, choose
from tunewise.evidence.records import Evidence, Outcome
from tunewise.report.accounts import openings_in_words, spent_in_words
from tunewise.report.page import MOST_ITEMS, render, side_by_side

ATTACK = "</td><script>alert('x')</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"


def example(place: int) -> Example:
    return Example(f"key{place}", (Message("user", f"question {place} {ATTACK}"),), (f"right {ATTACK}",))


def outcomes(value_of, count: int = 20, text: str = ATTACK) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(f"key{i}", i, "scored", value_of(i), text, 30, 9, 0.2, None, {"why": ATTACK})
        for i in range(count)
    )


def result(rung: str, verdict, values: tuple[Outcome, ...]) -> RungResult:
    mean = sum(o.value or 0.0 for o in values) / len(values)
    evidence = Evidence("graded", values, verdict, len(values), mean, mean / 2, (1 + mean) / 2, None, 0.01)
    return RungResult(rung, evidence=evidence, build=Build(3.0, None, {"k": 3, "note": ATTACK}))


def page(count: int = 20, text: str = ATTACK) -> str:
    low, high = outcomes(lambda i: 0.2, count, text), outcomes(lambda i: 1.0 if i else 0.5, count, text)
    results = [
        result("zero-shot", "falls_short", low),
        RungResult("rag", skipped_because=f"no documents {ATTACK}"),
        result("lora", "meets", high),
    ]
    decision = Decision(
        task=f"demo {ATTACK}",
        metric="token_f1",
        target=0.8,
        tolerance=0.02,
        rungs=tuple(results),
        spent={"calls": 4000, "tokens_in": 90000, "tokens_out": 12, "usd": None, "seconds": 61.7},
        baselines={"majority": {"quality": None, "n": 0, "why": "no train rows"}},
        openings={"number": 2, "fresh": 3, "alpha_per_rung": 0.003},
        data={
            "train": 5,
            "selection": 6,
            "certification": 20,
            "format": f"JSONL {ATTACK}",
            "model": ATTACK,
            "hosts": {"model": "example.org", "judge": None},
        },
        versions={"tunewise": "0"},
        seed=0,
        **choose(results, metric="token_f1", target=0.8, tolerance=0.02, budget_ended=False),
    )
    order = [example(i) for i in range(count)]
    return render(decision, {"zero-shot": low, "lora": high}, order)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_what_a_model_or_a_user_wrote_is_shown_as_text_and_never_run():
    html = page()
    parser = Tags()
    parser.feed(html)
    assert "script" not in {tag for tag, _ in parser.seen}
    assert not [attrs for _, attrs in parser.seen if any(name.startswith("on") for name in attrs)]
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html
    assert "{{ 7 * 7 }}" in html


def test_the_page_asks_nothing_from_outside():
    parser = Tags()
    html = page()
    parser.feed(html)
    for tag, attrs in parser.seen:
        for name in ("src", "href", "srcset", "action"):
            assert (attrs.get(name) or "data:").startswith("data:"), (tag, attrs)
    assert not re.search(r"@import|url\(", html)


def test_every_rung_stands_in_the_ladder_with_its_verdict_or_the_reason_it_was_skipped():
    html = page()
    for words in ("zero-shot", "falls short", "rag", "no documents", "lora", "meets"):
        assert words in html


def test_the_reasons_say_nothing_that_headline_or_ladder_have_said():
    html = page()
    assert html.count("no documents") == 1
    assert html.count("Use lora: it meets") == 1
    assert "zero-shot falls short of 0.8" in html


def test_what_was_spent_read_and_asked_is_said_in_words_and_nothing_unknown_is_listed():
    html = entities.unescape(page().split("Spent, data, versions")[1])
    assert "4,000 calls, 90,000 tokens in, 12 tokens out, 62 s<" in html
    assert f"5 train, 6 selection and 20 certification items, read as JSONL {ATTACK}<" in html
    assert f"{ATTACK} at example.org, the judge on this machine<" in html
    assert "opened twice, 3 of them for the first time; the false-meets budget of each rung is 0.003" in html


def test_a_price_that_holds_a_reserve_is_said_as_a_bound():
    spent = {"calls": 1, "tokens_in": 2, "tokens_out": 3, "usd": 0.25, "usd_at_most": True, "seconds": 4.0}
    assert spent_in_words(spent) == "1 calls, 2 tokens in, 3 tokens out, 4 s, at most 0.2500 USD"
    assert spent_in_words({**spent, "usd_at_most": False}).endswith("4 s, 0.2500 USD")


def test_items_that_no_door_answered_are_not_said_to_be_opened():
    never = {"number": 0, "fresh": 137, "opened": False, "alpha_per_rung": 0.00625}
    assert openings_in_words(never).startswith(
        "certification rows not opened; the false-meets budget of each rung is 0.00625"
    )
    assert "not opened by this run, before it twice;" in openings_in_words({**never, "number": 2})


def test_tokens_that_no_call_reported_are_not_listed():
    spent = {"calls": 1, "tokens_in": None, "tokens_out": None, "usd": None, "seconds": 0.2}
    assert spent_in_words(spent) == "1 calls, 0 s"


def test_a_thousand_items_with_long_answers_stay_under_two_megabytes():
    assert len(page(1000, "long answer <b> " * 500).encode()) < 2_000_000


def test_items_the_rungs_disagree_on_come_first_and_right_ones_are_left_out():
    order = [example(i) for i in range(300)]
    both_wrong = outcomes(lambda i: 0.0, 300)
    one_right = outcomes(lambda i: 1.0 if i == 7 else 0.0, 300)
    items = side_by_side({"a": both_wrong, "b": one_right}, order)
    assert items[0].place == 8
    assert len(items) == MOST_ITEMS
    assert side_by_side({"a": outcomes(lambda i: 1.0, 300)}, order) == []
