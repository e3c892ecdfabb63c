"""The examples that come with the project: files in order, parts large enough, data reproducible."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tunewise.api import read_parts
from tunewise.retrieval.chunking import chunk_document
from tunewise.retrieval.documents import read_documents
from tunewise.task import load_task

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def make_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_data", EXAMPLES / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_rows_are_those_the_script_makes(make_data: ModuleType, tmp_path: Path) -> None:
    for file in ("tickets/tickets.jsonl", "routing/messages.jsonl"):
        (tmp_path / file).parent.mkdir()
    make_data.main(tmp_path)
    for file in ("tickets/tickets.jsonl", "routing/messages.jsonl"):
        assert (tmp_path / file).read_text("utf-8") == (EXAMPLES / file).read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "selection", "certification"),
    [("tickets", 30, 130), ("handbook", 40, 110), ("routing", 40, 120)],
)
def test_an_example_reads_without_warning_and_has_items_for_a_proof(
    name: str, selection: int, certification: int
) -> None:
    parts, _, warnings = read_parts(load_task(EXAMPLES / name / "task.yaml"))
    assert not warnings
    assert len(parts.train) >= 40
    assert len(parts.selection) >= selection
    assert len(parts.certification) >= certification


def test_most_rows_are_no_near_duplicates_of_another() -> None:
    for name in ("tickets", "handbook", "routing"):
        parts, _, _ = read_parts(load_task(EXAMPLES / name / "task.yaml"))
        rows = len(parts.train) + len(parts.selection) + len(parts.certification)
        assert parts.clusters >= 0.97 * rows


def test_every_passage_that_a_question_names_is_one_chunk_and_asked_about_once() -> None:
    task = load_task(EXAMPLES / "handbook" / "task.yaml")
    assert task.knowledge is not None
    documents = read_documents(task.knowledge.documents).documents
    chunks = [chunk.id for document in documents for chunk in chunk_document(document)]
    parts, _, _ = read_parts(task)
    named = [row.passages for row in (*parts.train, *parts.selection, *parts.certification)]
    assert sorted(named) == sorted((chunk,) for chunk in chunks)
