"""A saved candidate answers byte for byte the same, with nothing but its folder."""

import json
import shutil
from dataclasses import replace

import pytest

from tunewise.errors import RunError
from tunewise.models.door import Decoding
from tunewise.models.scripted import ScriptedDoor
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs.order import load_candidate
from tunewise.rungs.prompt import NearestShots, PromptCandidate, PromptLayout, Shot

DOOR = ScriptedDoor(lambda messages: "x", context_window=400)
CHUNKS = [Chunk(f"d{i}.md#s", f"d{i}.md", f"Héad {i}", f"words number {i}\u2028apart") for i in range(9)]


@pytest.fixture
def candidate(make_row):
    rows = [make_row(f"question number {i}", {"id": i, "é": None}) for i in range(7)]
    shot = Shot.of(rows[0], passages=(CHUNKS[2],))
    layout = PromptLayout("Sag's.", Decoding(7, 0.5, 3), shots=(shot,), nearest=2, passages=3)
    return PromptCandidate(
        "rag",
        DOOR,
        layout,
        retriever=Retriever(CHUNKS),
        nearest=NearestShots([Shot.of(row) for row in rows]),
        built={"k": 3, "selection_score": 0.5},
    )


def test_a_loaded_candidate_makes_the_same_requests(candidate, make_row, tmp_path):
    candidate.save(tmp_path / "rag")
    shutil.copytree(tmp_path / "rag", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "rag")
    loaded = load_candidate(tmp_path / "elsewhere", lambda adapter: DOOR)
    for text in ("number 3 of the words", "question 5", "nothing shared", "a\u2028b"):
        mine, theirs = candidate.request(make_row(text)), loaded.request(make_row(text))
        assert mine == theirs
        assert mine.tag == theirs.tag
        assert mine.key(DOOR.fingerprint) == theirs.key(DOOR.fingerprint)
    assert (loaded.rung, loaded.facts()) == ("rag", candidate.facts())


def test_saving_twice_and_saving_what_was_loaded_give_the_same_bytes(candidate, tmp_path):
    candidate.save(tmp_path / "one")
    load_candidate(tmp_path / "one", lambda adapter: DOOR).save(tmp_path / "two")
    candidate.save(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_the_adapter_travels_along_and_its_door_is_opened_with_it(candidate, tmp_path):
    adapter = tmp_path / "trained"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    tuned = replace(candidate, rung="lora", adapter=adapter, retriever=None, nearest=None)
    tuned.save(tmp_path / "lora")
    shutil.rmtree(adapter)
    opened = []
    loaded = load_candidate(tmp_path / "lora", lambda folder: opened.append(folder) or DOOR)
    assert opened == [tmp_path / "lora" / "adapter"]
    assert (opened[0] / "adapter_model.safetensors").read_bytes() == b"weights"
    loaded.save(tmp_path / "lora")  # onto itself: nothing is lost
    assert (opened[0] / "adapter_model.safetensors").read_bytes() == b"weights"


def test_another_door_than_the_certified_one_is_refused(candidate, tmp_path):
    candidate.save(tmp_path)
    other = ScriptedDoor(print)
    with pytest.raises(RunError, match="fingerprint"):
        load_candidate(tmp_path, lambda adapter: other)
    (tmp_path / "weights").mkdir()
    tuned = replace(candidate, rung="lora", adapter=tmp_path / "weights", retriever=None, nearest=None)
    tuned.save(tmp_path / "lora")
    with pytest.raises(RunError, match="fingerprint"):  # the same adapter on another base is another model
        load_candidate(tmp_path / "lora", lambda adapter: other)


def test_no_candidate_half_a_candidate_and_another_format_are_refused(candidate, tmp_path):
    with pytest.raises(RunError, match="there is none"):
        load_candidate(tmp_path, lambda adapter: DOOR)
    candidate.save(tmp_path)
    file = tmp_path / "candidate.json"
    body = json.loads(file.read_text())
    file.write_text(json.dumps({**body, "format": 99}))
    with pytest.raises(RunError, match="expected format 1, got 99"):
        load_candidate(tmp_path, lambda adapter: DOOR)
    file.write_text("{")
    with pytest.raises(RunError, match="not a saved candidate"):
        load_candidate(tmp_path, lambda adapter: DOOR)
