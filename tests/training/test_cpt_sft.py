"""Reading documents, the gate, and tuning after it: figures against their definitions, resume bit by bit."""

import json
import math
from dataclasses import replace

import pytest

from tunewise.data import Example, Message
from tunewise.errors import TaskFileError
from tunewise.evidence.records import Score
from tunewise.ladder import NotBuilt, climb
from tunewise.progress import Silent
from tunewise.rungs import cpt_sft
from tunewise.rungs.cpt_sft import CptSft
from tunewise.rungs.order import load_candidate
from tunewise.rungs.rung import Workbench
from tunewise.rungs.said import Said
from tunewise.splits import Parts
from tunewise.task import DecodingSettings, Knowledge, Task, load_task
from tunewise.task_training import MixSection, PretrainingSection, Training
from tunewise.training.pretraining import gate

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Told:
    def __init__(self):
        self.notes = []

    def tell(self, event, **facts):
        if event == "note":
            self.notes.append(facts["text"])


class Stop(Exception):
    """Ends a run from within, as a kill would, but cheaper."""


class StopAfter:
    """Stops at the given count of training steps, over all stages."""

    def __init__(self, steps):
        self.steps = steps

    def tell(self, event, **facts):
        if event == "training":
            self.steps -= 1
            if self.steps == 0:
                raise Stop


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(60):
        words = ["The Red Lion in Norwich is cheap", "The Old Ship in Ely is high", "pub food town"]
        text = ". ".join(words[(number + n) % 3] for n in range(6)) + f" {number}"
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make_bench(tiny, make_example, tmp_path, documents):
    from tunewise.models.local import LocalDoor

    def make(folder="rungs", **training):
        cpt = PretrainingSection(length=32, learning_rate=training.pop("rate", 1e-2), epochs=1.0)
        settings = {"epochs": 1.0, "lora_rank": 4, "learning_rate": 5e-3, "cpt": cpt, **training}
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="exact", target=0.8).__dict__,
                "instruction": "name and town",
                "decoding": DecodingSettings(max_new_tokens=4),
                "training": Training(**settings),
                "knowledge": Knowledge(documents=documents),
            }
        )
        items = [make_example(number) for number in range(40)]
        return Workbench(
            task=task,
            parts=Parts(tuple(items[:16]), tuple(items[16:20]), tuple(items[20:]), clusters=40),
            door=LocalDoor(tiny),
            tune_door=lambda adapter: LocalDoor(
                adapter if is_model(adapter) else tiny, adapter=None if is_model(adapter) else adapter
            ),
            tune_door_missing="",
            ask=lambda door, requests, purpose: door.answer(requests),
            score=lambda example, answer: Score("scored", min(1.0, len(answer.text) / 40)),
            folder=tmp_path / folder,
            seed=0,
            progress=Silent(),
        )

    return make


def is_model(folder):
    return folder is not None and (folder / "config.json").is_file()


def loss_of(folder, texts):
    """Mean nats per token of whole texts under plain transformers, by its own loss."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, count = 0.0, 0
    for row in texts:
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (len(row) - 1)
        count += len(row) - 1
    return total / count


def test_two_stages_give_one_model_that_plain_transformers_loads_and_perplexities_that_it_confirms(
    make_bench, tiny
):
    told = Told()
    bench = replace(make_bench(), progress=told)
    candidate = CptSft().build(bench)
    facts = candidate.facts()["cpt"]
    section = bench.task.training.cpt
    corpus, _ = cpt_sft.domain_text(bench, bench.tune_door(None), section)
    before, after = (
        loss_of(tiny, corpus.held_out),
        loss_of(bench.folder / "cpt-sft/cpt/model", corpus.held_out),
    )
    shown = facts["perplexity"]["domain"]
    assert shown["before"] == pytest.approx(math.exp(before), rel=1e-4)
    assert shown["after"] == pytest.approx(math.exp(after), rel=1e-4)
    assert shown["after"] < shown["before"]
    assert facts["perplexity"]["general"] is None
    assert "training.mix.general" in facts["general_missing"]
    assert facts["train_tokens"] == sum(len(row.answer) for row in corpus.train)
    assert any("instruct model" in note for note in told.notes)
    assert any(f"{facts['train_tokens']:,} tokens" in note and "1 epochs" in note for note in told.notes)

    candidate.save(bench.folder / "cpt-sft")
    again = load_candidate(bench.folder / "cpt-sft", bench.tune_door)
    request = candidate.request(bench.parts.selection[0])
    assert again.door.answer([request])[0].text == candidate.door.answer([request])[0].text


def test_the_model_handed_over_is_the_first_stage_with_the_second_ones_adapter(make_bench):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    bench = make_bench()
    candidate = CptSft().build(bench)
    home = bench.folder / "cpt-sft"
    ids = torch.tensor([[5, 9, 30, 41, 8]])
    two = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(home / "cpt/model"), home / "sft/lora/adapter"
    )
    one = AutoModelForCausalLM.from_pretrained(candidate.adapter)
    with torch.no_grad():
        assert torch.allclose(two(ids).logits, one(ids).logits, atol=1e-4)


def test_stopped_in_either_stage_and_resumed_it_gives_the_weights_of_an_undisturbed_run(
    make_bench, monkeypatch
):
    from tunewise.training import recipe

    monkeypatch.setattr(
        recipe.train, "__defaults__", (0.0, *recipe.train.__defaults__[1:])
    )  # a checkpoint at every step
    whole = CptSft().build(make_bench("whole"))
    steps = whole.facts()["cpt"]["steps"]
    for stop in (2, steps + 1):
        bench = make_bench(f"stopped{stop}")
        with pytest.raises(Stop):
            CptSft().build(replace(bench, progress=StopAfter(stop)))
        resumed = CptSft().build(bench)
        assert same_weights(whole.adapter, resumed.adapter)


def same_weights(one, other):
    return (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_general_text_is_measured_on_pieces_that_are_not_trained_on(make_bench, tmp_path):
    rows = [{"input": f"what is {n} in town", "output": f"the pub {n} is low and cheap"} for n in range(80)]
    file = tmp_path / "general.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    bench = make_bench(mix=MixSection(general=file, share=0.25))
    facts = cpt_sft.first_stage(bench, tmp_path / "cpt")
    general, _ = cpt_sft.general_text(bench, bench.tune_door(None), bench.task.training.cpt)
    assert not {row.key for row in general.train} & {row.key for row in general.held_out}
    after = loss_of(tmp_path / "cpt" / "model", general.held_out)
    assert facts["perplexity"]["general"]["after"] == pytest.approx(math.exp(after), rel=1e-4)
    assert facts["mix"]["share"] == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("before", "after", "passes"),
    [(2.0, 1.9, True), (2.0, 2.0, False), (2.0, 2.1, False), (2.0, math.nan, False), (None, None, False)],
)
def test_the_gate_opens_only_when_held_out_loss_fell_to_a_finite_number(before, after, passes):
    assert gate(before, after)[0] is passes


def test_the_second_stage_does_not_start_when_the_first_did_not_pass(make_bench, monkeypatch):
    bench = make_bench()
    monkeypatch.setattr("tunewise.training.pretraining.gate", lambda before, after: (False, "worse"))
    monkeypatch.setattr(cpt_sft.tuned, "build", lambda *args: pytest.fail("tuned"))
    for _ in range(2):  # also when it is found again
        with pytest.raises(NotBuilt, match="the second stage did not start: worse"):
            CptSft().build(bench)


def test_a_rung_that_could_not_be_built_is_a_skipped_step_and_the_climb_goes_on():
    class Named:
        def __init__(self, name):
            self.name = name

    def build(rung, done):
        raise NotBuilt("no")

    [step] = climb([Named("one")], cannot_help=lambda rung, done: None, build=build, gather=None)
    assert (step.rung, step.skipped_because, step.candidate) == ("one", "no", None)


def test_documents_that_hold_a_certification_item_word_for_word_are_not_read(make_bench, documents):
    bench = make_bench()
    item = Example("c", (Message("user", "What is the price of food in the pub?"),), ("It is very cheap.",))
    bench = replace(bench, parts=replace(bench.parts, certification=(item,)))
    (documents / "leak.txt").write_text(
        "# what is the price of food, in the pub? It is very CHEAP", encoding="utf-8"
    )
    (documents / "question.txt").write_text(
        "What is the price of food in the pub? Unknown.", encoding="utf-8"
    )
    corpus, left_out = cpt_sft.domain_text(bench, bench.tune_door(None), bench.task.training.cpt)
    names = {row.key.split("#")[0] for row in (*corpus.train, *corpus.held_out)}
    assert left_out == 1
    assert "leak.txt" not in names
    assert "question.txt" in names


def test_words_are_compared_at_their_borders():
    said = Said([Example("c", (Message("user", "one two three four five"),), ("six",))])
    assert said.stands_in("One, two three four five: SIX")
    assert not said.stands_in("one two three four five sixty")


def test_without_documents_or_rows_the_rung_cannot_help(make_bench):
    bench = make_bench()
    assert CptSft().cannot_help(bench) is None
    size = sum(file.stat().st_size for file in bench.task.knowledge.documents.iterdir())
    assert CptSft().outlook(bench).read_tokens == round(size / 4)
    bare = replace(bench, task=bench.task.model_copy(update={"knowledge": None}))
    assert "names no documents" in CptSft().cannot_help(bare)
    assert "no train rows" in CptSft().cannot_help(replace(bench, parts=replace(bench.parts, train=())))


def test_the_task_file_says_what_is_read_and_mistakes_are_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("text", encoding="utf-8")
    head = "name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.8\ntraining:\n"
    file = tmp_path / "task.yaml"
    file.write_text(
        head + "  cpt: {documents: docs, tokens: 200000, length: 256, epochs: 2}\n", encoding="utf-8"
    )
    task = load_task(file)
    assert task.training.cpt.documents == tmp_path / "docs"
    assert task.training.cpt.tokens == 200_000
    before = task.fingerprint()
    (tmp_path / "docs" / "a.txt").write_text("other text", encoding="utf-8")
    assert load_task(file).fingerprint() != before
    file.write_text(head + "  cpt: {tokenz: 5}\n", encoding="utf-8")
    with pytest.raises(TaskFileError, match="tokenz"):
        load_task(file)
