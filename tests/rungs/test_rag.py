"""Retrieval: what is indexed, what is chosen, and which figures are reported."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tunewise.data import Message
from tunewise.errors import DataError
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs import rag as rag_module
from tunewise.rungs.rag import GoldPassages, Rag
from tunewise.rungs.said import Said, plain

THINGS = [f"device{i}" for i in range(40)]


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch):
    monkeypatch.setattr(rag_module, "find_encoder", lambda: None)


@pytest.fixture
def documents(tmp_path):
    """One row per thing, with a shelf number that only the documents know."""
    path = tmp_path / "docs.jsonl"
    rows = [{"id": thing, "text": f"The {thing} lies on shelf-{i:03}."} for i, thing in enumerate(THINGS)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def rows(make_row):
    return [
        make_row(f"Where is the {thing}?", f"shelf-{i:03}", passages=(thing,))
        for i, thing in enumerate(THINGS)
    ]


def reader(messages):
    """Reads the shelf of the thing asked for out of the passages."""
    passages, _, question = messages[-1].content.partition("Question: ")
    thing = question.removesuffix("?\nAnswer:").split()[-1]
    for line in passages.splitlines():
        if f"The {thing} " in line:
            return line.rstrip(".").split()[-1]
    return "I do not know"


def test_it_needs_documents(make_bench, documents):
    assert "no documents" in Rag().cannot_help(make_bench(reader))
    assert Rag().cannot_help(make_bench(reader, documents=documents)) is None


def test_the_lightest_prompt_that_answers_wins_and_its_figures_are_reported(make_bench, documents, rows):
    bench = make_bench(reader, documents=documents, train=rows[:20], selection=rows[20:])
    candidate = Rag().build(bench)
    facts = candidate.facts()
    assert (facts["k"], facts["shots"], facts["selection_score"]) == (1, 0, 1.0)
    assert (facts["documents"], facts["chunks"], facts["ranking"]) == (40, 40, "bm25")
    assert facts["recall"]["1"] == 1.0
    assert facts["recall_items"] == 20
    assert (facts["score_with_gold_passage"], facts["gold_items"]) == (1.0, 20)
    assert len(facts["tried"]) == 10
    outlook = Rag().outlook(bench)
    assert len(bench.calls.sent) <= outlook.build_calls <= 242
    assert outlook.shots == (0, 6)
    assert candidate.request(rows[3]).tag["passages"] == ["device3"]


def test_shots_carry_the_passages_found_for_them_and_only_rows_whose_passage_was_found(
    make_bench, documents, rows
):
    astray = [replace(row, passages=("device39",)) for row in rows[:10]]

    def needs_shots(messages):
        return reader(messages) if len(messages) > 2 else "what form?"

    bench = make_bench(needs_shots, documents=documents, train=[*astray, *rows[10:20]], selection=rows[20:])
    candidate = Rag().build(bench)
    assert candidate.facts()["shots"] == 3
    for shot in candidate.layout.shots:
        assert shot.key in {row.key for row in rows[10:20]}
        assert shot.passages[0].text.endswith(f"{shot.answer}.")


def test_without_train_rows_no_shots_are_tried(make_bench, documents, rows):
    bench = make_bench(reader, documents=documents, selection=rows[:5])
    assert {row["shots"] for row in Rag().build(bench).facts()["tried"]} == {0}


def test_rows_that_name_no_passage_get_no_recall_and_unknown_names_are_counted(make_bench, documents, rows):
    plain = [replace(row, passages=()) for row in rows[:5]]
    facts = Rag().build(make_bench(reader, documents=documents, selection=plain)).facts()
    assert "recall" not in facts
    assert "score_with_gold_passage" not in facts
    lost = [*rows[:4], replace(rows[4], passages=("no-such-id",))]
    facts = Rag().build(make_bench(reader, documents=documents, selection=lost)).facts()
    assert (facts["recall_items"], facts["named_passages_not_found"]) == (4, 1)


def test_a_folder_without_text_is_refused(make_bench, tmp_path):
    (tmp_path / "empty").mkdir()
    bench = make_bench(reader, documents=tmp_path / "empty")
    for step in (Rag().cannot_help, Rag().build):
        with pytest.raises(DataError, match="no documents with text"):
            step(bench)


class Numbers:
    """An encoder that reads nothing but the first number of a text."""

    name = "numbers"

    def encode(self, texts):
        angles = np.array([int(re.search(r"\d+", text)[0]) * 0.03 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_vectors_are_fused_in_only_where_they_find_more(make_bench, documents, rows, monkeypatch):
    monkeypatch.setattr(rag_module, "find_encoder", Numbers)
    bench = make_bench(reader, documents=documents, selection=rows[:20])
    facts = Rag().build(bench).facts()  # the words alone find every passage
    assert facts["ranking"] == "bm25"
    strange = [replace(r, turns=(Message("user", f"item {i}?"),)) for i, r in enumerate(rows)]
    facts = Rag().build(make_bench(reader, documents=documents, selection=strange[:20])).facts()
    assert facts["ranking"] == "bm25 + numbers, fused by reciprocal rank"
    assert facts["recall_at_3_by_ranking"] == {"bm25": 0.0, facts["ranking"]: 1.0}
    assert facts["recall"]["1"] == 1.0


def test_vectors_are_fused_in_where_no_row_names_its_passage(make_bench, documents, make_row, monkeypatch):
    monkeypatch.setattr(rag_module, "find_encoder", Numbers)
    bench = make_bench(reader, documents=documents, selection=[make_row("item 3?", "?")])
    assert "numbers" in Rag().build(bench).facts()["ranking"]


def test_the_gold_passage_is_the_named_one_or_the_one_that_quotes_a_reference(make_row):
    chunks = [
        Chunk("a.md#one", "a.md", "", "Days are carried over until the end of March."),
        Chunk("a.md#two", "a.md", "", "Nothing of the kind."),
        Chunk("b.md", "b.md", "", "It says: the end of  MARCH, and no later."),
    ]
    gold = GoldPassages(Retriever(chunks))
    named = make_row("when?", "the end of March", passages=("a.md",))
    assert [chunk.id for chunk in gold.of(named)] == ["a.md#one", "a.md#two"]
    assert gold.best(named) == chunks[0]
    unnamed = make_row("no later than?", "the end of March")
    assert gold.of(unnamed) == (chunks[0], chunks[2])
    assert gold.best(unnamed) == chunks[2]
    assert gold.of(make_row("?", "March")) == ()  # too short to be told from chance
    assert gold.of(make_row("?", "end of Marching")) == ()
    assert gold.best(make_row("?", "x")) is None


def test_an_answer_in_a_script_without_spaces_is_found_within_a_sentence(make_row):
    said = Said([make_row("退货需要多少天", "十四天"), make_row("短", "十四天")])
    assert said.stands_in("顾客问：退货需要多少天？一般是十四天左右。")
    assert not said.stands_in("顾客问：退货需要多少天？一般是三天。")
    assert "退 货" in plain("退货")
