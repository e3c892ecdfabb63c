"""Two versions of the documents: retrieval keeps up by swapping its index, a memory goes stale."""

import json

import pytest

import tunewise
from tunewise.errors import DataError

SCRIPT = '''
"""A model that remembers the first version of every code and reads the passages it is shown."""
import re


def reply(messages):
    said = messages[-1].content
    topic = re.search(r"code of (\\w+)[?]", said).group(1)
    found = re.findall(rf"code of {topic} is (\\w+)", said)
    return found[-1] if found else f"old{topic}"
'''

TASK = """\
name: codes
instruction: Say the code.
examples: rows.jsonl
metric: exact
target: 0.7
model: {scripted: "stale_script:reply"}
knowledge: {documents: docs, changes: weekly, documents_after: docs-after}
"""


def write_docs(folder, words):
    folder.mkdir()
    sections = [f"## Topic {topic}\n\nThe code of {topic} is {word}." for topic, word in words.items()]
    (folder / "codes.md").write_text("# Codes\n\n" + "\n\n".join(sections) + "\n", encoding="utf-8")


@pytest.fixture
def codes(tmp_path, monkeypatch):
    """64 codes of which every second one changes."""
    topics = [f"t{number:03d}" for number in range(64)]
    old = {topic: f"old{topic}" for topic in topics}
    new = {t: f"new{t}" if place % 2 else old[t] for place, t in enumerate(topics)}
    write_docs(tmp_path / "docs", old)
    write_docs(tmp_path / "docs-after", new)
    rows = []
    for topic in topics:
        row = {"input": f"Which is the code of {topic}?", "output": old[topic]}
        rows.append(row | ({"output_after": new[topic]} if new[topic] != old[topic] else {}))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (tmp_path / "stale_script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "task.yaml").write_text(TASK, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def decide(folder, out="run"):
    return tunewise.decide(
        folder / "task.yaml", out=folder / out, rungs=["zero-shot", "rag"], exhaustive=True
    )


def test_retrieval_keeps_up_and_a_memory_goes_stale_without_touching_the_verdict(codes):
    made = decide(codes)
    plain = json.loads((codes / "run/decision.json").read_text())
    stale = {rung["rung"]: rung for rung in plain["staleness"]["rungs"]}
    assert (stale["zero-shot"]["how"], stale["rag"]["how"]) == ("as is", "index swapped")
    assert stale["zero-shot"]["before"]["estimate"] == 1.0
    assert stale["zero-shot"]["after"]["estimate"] == 0.0
    assert stale["rag"]["after"]["estimate"] == 1.0
    assert stale["rag"]["unchanged_after"]["estimate"] == 1.0
    assert stale["zero-shot"]["unchanged_after"] is None
    assert 0.5 < stale["rag"]["after"]["low"] < 1.0
    assert plain["staleness"]["changed_items"] == stale["rag"]["after"]["n"]
    text = (codes / "task.yaml").read_text()
    (codes / "task.yaml").write_text(text.replace(", documents_after: docs-after", ""))
    without = decide(codes, "without")
    assert without.to_json()["staleness"] is None
    for name in ("zero-shot", "rag"):
        a, b = made.result(name).evidence, without.result(name).evidence
        assert (a.estimate, a.verdict, a.n) == (b.estimate, b.verdict, b.n)


def test_the_page_shows_it_and_a_resumed_run_asks_nothing_again(codes):
    first = decide(codes)
    page = (codes / "run/report.html").read_text()
    assert "After the documents changed" in page
    assert "index swapped" in page
    again = decide(codes)
    assert again.spent["calls"] == first.spent["calls"]
    assert again.to_json()["staleness"] == first.to_json()["staleness"]


def test_a_later_version_may_be_named_on_a_run_that_was_decided_without_it(codes):
    text = (codes / "task.yaml").read_text()
    (codes / "task.yaml").write_text(text.replace(", documents_after: docs-after", ""))
    assert decide(codes).staleness is None
    (codes / "task.yaml").write_text(text)
    assert decide(codes).staleness is not None


def test_a_later_version_that_changes_no_answer_is_refused_before_any_call(codes):
    rows = [json.loads(line) for line in (codes / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("output_after", None)
    (codes / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    with pytest.raises(DataError, match="output_after"):
        decide(codes)
    assert not (codes / "run/run.sqlite").exists()


def test_the_answer_after_the_change_is_no_part_of_a_rows_identity(codes):
    from tunewise.data import read_examples

    keys = [e.key for e in read_examples(codes / "rows.jsonl").examples]
    rows = [json.loads(line) for line in (codes / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["output_after"] = "other"
    (codes / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    assert [e.key for e in read_examples(codes / "rows.jsonl").examples] == keys


def test_the_decision_says_where_advice_and_evidence_part(codes):
    advice = decide(codes).to_json()["advice"]
    assert advice["approach"] == "rag"
    assert advice["agrees"] is False
    assert "the lighter zero-shot already meets" in advice["says"]
