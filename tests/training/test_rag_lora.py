"""Tuning on prompts with passages: where the right one stands, how often, in answering's own layout."""

from dataclasses import replace

import pytest

pytest.importorskip("trl")

from tunewise.data import Example, Message
from tunewise.evidence.records import Score
from tunewise.plan_lengths import Lengths
from tunewise.plan_rungs import planned_rung
from tunewise.progress import Silent
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs.order import load_candidate
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rag import GoldPassages
from tunewise.rungs.rag_lora import RagLora, passages_for, teach
from tunewise.rungs.rung import Workbench
from tunewise.rungs.tuned_rows import messages_of
from tunewise.splits import Parts
from tunewise.task import DecodingSettings, Knowledge, Task
from tunewise.task_training import RetrievalSection, Training
from tunewise.training.trust import TrainingNotTrusted

TOWNS = [f"town{n}" for n in range(30)]


def row(number):
    """A question whose passage names the town and quotes the answer."""
    town = TOWNS[number % 30]
    turns = (Message("user", f"What is cheap in {town}? {number}"),)
    return Example(
        f"{number:016x}",
        turns,
        (f"the pub of {town} with food",),
        passages=(f"d{number % 30}", f"d{number % 30}.md"),
    )


def chunk(number):
    text = f"In {TOWNS[number]} cheap is the pub of {TOWNS[number]} with food"
    return Chunk(id=f"d{number}", document=f"d{number}", head="", text=text)


@pytest.fixture
def retriever():
    return Retriever([chunk(n) for n in range(30)])


@pytest.fixture
def make_bench(tiny, tmp_path):
    from tunewise.models.local import LocalDoor

    documents = tmp_path / "docs"
    documents.mkdir()
    for number, town in enumerate(TOWNS):
        (documents / f"d{number}").with_suffix(".md").write_text(
            f"# {town}\n\nIn {town} cheap is the pub of {town} with food", encoding="utf-8"
        )

    def make(**retrieval):
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="exact", target=0.8).__dict__,
                "instruction": "name the pub",
                "decoding": DecodingSettings(max_new_tokens=4),
                "training": Training(
                    epochs=1.0,
                    lora_rank=4,
                    learning_rate=5e-3,
                    retrieval=RetrievalSection(**retrieval) if retrieval else None,
                ),
                "knowledge": Knowledge(documents=documents),
            }
        )
        items = [row(number) for number in range(60)]
        return Workbench(
            task=task,
            parts=Parts(tuple(items[:40]), tuple(items[40:44]), tuple(items[44:]), clusters=60),
            door=LocalDoor(tiny),
            tune_door=lambda adapter: LocalDoor(tiny, adapter=adapter),
            tune_door_missing="",
            ask=lambda door, requests, purpose: door.answer(requests),
            score=lambda example, answer: Score("scored", min(1.0, len(answer.text) / 40)),
            folder=tmp_path / "rungs",
            seed=0,
            progress=Silent(),
        )

    return make


def test_the_right_passage_is_among_others_in_the_share_asked_for_and_absent_otherwise(retriever):
    gold = GoldPassages(retriever)
    rows = [row(number) for number in range(300)]
    found = [passages_for(example, gold, 3, 0.8, seed=1) for example in rows]
    kinds = [kind for _, kind, _ in found]
    # 300 draws of 0.8: three standard errors are 0.07
    assert kinds.count("present") / 300 == pytest.approx(0.8, abs=0.07)
    for example, (passages, kind, _) in zip(rows, found, strict=True):
        right = {chunk.id for chunk in gold.of(example)}
        assert len({chunk.id for chunk in passages}) == 3
        assert sum(chunk.id in right for chunk in passages) == (1 if kind == "present" else 0)
    again = [passages_for(example, gold, 3, 0.8, seed=1) for example in rows]
    assert again == found


def test_a_right_passage_that_the_search_misses_takes_every_rank_and_is_counted(retriever):
    gold = GoldPassages(retriever)
    ranks = []
    for number in range(60):
        other = TOWNS[(number + 7) % 30]
        asked = replace(row(number), turns=(Message("user", f"What is cheap in {other}? {number}"),))
        passages, kind, moved = passages_for(asked, gold, 3, 1.0, seed=0)
        assert kind == "present"
        if moved:
            ranks.append([chunk.id for chunk in passages].index(f"d{number % 30}"))
    assert set(ranks) == {0, 1, 2}


def test_rows_without_a_known_passage_show_what_is_found(retriever):
    unknown = Example("u", (Message("user", "cheap pub"),), ("nobody wrote this down anywhere",))
    passages, kind, _ = passages_for(unknown, GoldPassages(retriever), 2, 0.8, seed=0)
    assert (kind, passages) == ("unknown", retriever.search("cheap pub", 2))


def test_training_reads_the_layout_that_answering_sends(make_bench, retriever):
    bench = make_bench(passages=2, present=1.0)
    layout = replace(layout_of(bench), passages=2)
    serving = PromptCandidate("rag-lora", bench.door, layout, retriever=retriever)
    taught = teach(bench, serving)
    assert (taught.present, taught.absent, taught.unknown) == (40, 0, 0)
    for before, after in zip(bench.parts.train, taught.train, strict=True):
        if len(retriever.search(before.input, 2)) == 2 and not taught.moved:
            sent = serving.request(before).messages
            assert messages_of(layout_of(bench), after) == sent
        assert after.key == before.key
        assert after.input.startswith("Context:\n[1] ")
        assert after.input.endswith(f"Question: {before.input}\nAnswer:")


def test_a_window_without_room_for_the_right_passage_counts_its_prompt_among_those_without(
    make_bench, retriever
):
    bench = make_bench(passages=3, present=1.0)
    layout = replace(layout_of(bench), passages=3)
    serving = PromptCandidate("rag-lora", bench.door, layout, retriever=retriever)
    full = [len(bench.door.prompt_ids(serving.request(e).messages)) for e in bench.parts.train]
    bench.door.context_window = min(full) - 1 + layout.decoding.max_new_tokens
    taught = teach(bench, serving)
    right = GoldPassages(retriever)
    held = [
        any(chunk.text in after.input for chunk in right.of(before))
        for before, after in zip(bench.parts.train, taught.train, strict=True)
    ]
    assert taught.present == sum(held)
    assert taught.absent == 40 - sum(held)
    assert taught.present > 0


def test_a_chat_that_answering_would_send_otherwise_is_refused(make_bench, retriever):
    bench = make_bench(passages=2, present=1.0)
    layout = replace(layout_of(bench), passages=2)
    serving = PromptCandidate("rag-lora", bench.door, layout, retriever=retriever)
    other = replace(serving, layout=replace(layout, instruction="another instruction"))
    with pytest.raises(TrainingNotTrusted, match="rag-lora sends"):
        teach(bench, other)


def test_the_rung_is_built_answers_with_passages_and_is_found_again_from_disk(make_bench):
    bench = make_bench()
    candidate = RagLora().build(bench)
    facts = candidate.facts()
    assert facts["k"] == 3
    assert facts["taught"]["present"] + facts["taught"]["absent"] == 40
    assert facts["checks"]["largest_change"] > 0
    example = bench.parts.certification[0]
    request = candidate.request(example)
    assert len(request.tag["passages"]) == 3
    candidate.save(bench.folder / "rag-lora")
    again = load_candidate(bench.folder / "rag-lora", bench.tune_door)
    assert again.request(example).messages == request.messages
    assert again.door.answer([request])[0].text == candidate.door.answer([request])[0].text


def test_as_many_passages_as_rag_chose_unless_the_task_says(make_bench, retriever):
    bench = make_bench()
    rag = PromptCandidate("rag", bench.door, replace(layout_of(bench), passages=5), retriever=retriever)
    from tunewise.rungs.rag_lora import passages_of

    assert passages_of(replace(bench, built={"rag": rag})) == 5
    assert passages_of(bench) == 3
    assert passages_of(make_bench_with(bench, passages=2)) == 2


def make_bench_with(bench, **retrieval):
    training = bench.task.training.model_copy(update={"retrieval": RetrievalSection(**retrieval)})
    return replace(bench, task=bench.task.model_copy(update={"training": training}))


def test_without_documents_or_weights_it_cannot_help_and_the_plan_counts_its_passages(make_bench):
    bench = make_bench()
    assert RagLora().cannot_help(bench) is None
    assert "names no documents" in RagLora().cannot_help(
        replace(bench, task=bench.task.model_copy(update={"knowledge": None}))
    )
    low, high = RagLora().outlook(bench).passage_tokens
    assert 0 < low < high
    lengths = Lengths((50,), (10,), exact=True, max_new_tokens=4)
    planned = planned_rung(RagLora().outlook(bench), "rag-lora", lengths, bench.door, (16, 16), None)
    assert planned.train_tokens == round(40 * 1.0 * (50 + 10 + (low + high) / 2))
    assert RagLora().outlook(bench).train_rows == 40
