"""The whole build of the ``lora`` rung on a tiny model: train, choose, check, find again."""

from dataclasses import replace
from functools import partial

import pytest

from tunewise.data import Message
from tunewise.errors import DataError
from tunewise.evidence.records import Score
from tunewise.models.door import Answer
from tunewise.progress import Silent
from tunewise.rungs import tuned
from tunewise.rungs.lora import Lora
from tunewise.rungs.rung import Workbench
from tunewise.splits import Parts
from tunewise.task import DecodingSettings, Task, Training


class Told:
    """Keeps the notes."""

    def __init__(self):
        self.notes = []

    def tell(self, event, **facts):
        if event == "note":
            self.notes.append(facts["text"])


def length_score(example, answer):
    """A metric that a random model does not always fail: the share of a full answer's length."""
    return Score("scored", min(1.0, len(answer.text) / 40))


@pytest.fixture
def make_bench(tiny, make_example, tmp_path):
    from tunewise.models.local import LocalDoor
    from tunewise.models.open import open_door

    def make(**training):
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="exact", target=0.8).__dict__,
                "instruction": "name and town",
                "decoding": DecodingSettings(max_new_tokens=8),
                "training": Training(**{"epochs": 2.0, "lora_rank": 4, "learning_rate": 5e-3, **training}),
            }
        )
        items = [make_example(number) for number in range(60)]
        asked = []

        def ask(door, requests, purpose):
            asked.append((door.fingerprint, purpose, len(requests)))
            return door.answer(requests)

        bench = Workbench(
            task=task,
            parts=Parts(tuple(items[:16]), tuple(items[20:28]), tuple(items[40:]), clusters=60),
            door=LocalDoor(tiny),
            tune_door=lambda adapter: open_door(str(tiny), adapter=adapter),
            tune_door_missing="",
            ask=ask,
            score=length_score,
            folder=tmp_path / "rungs",
            seed=0,
            progress=Silent(),
        )
        bench.__dict__["asked"] = asked
        return bench

    return make


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_build_ends_with_an_adapter_that_answers_and_is_found_again(make_bench, tiny, monkeypatch):
    bench = make_bench()
    candidate = Lora().build(bench)
    facts = candidate.facts()
    assert {path.name for path in (bench.folder / "lora" / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "whole.json",
    }  # fmt: skip
    assert not (bench.folder / "lora" / "work").exists()
    assert facts["checkpoint"]["step"] in (2, 4)
    assert facts["last"]["step"] == 4
    assert (bench.folder / "lora" / "last" / "adapter_model.safetensors").is_file() is facts["last"][
        "kept_apart"
    ]
    assert facts["last"]["kept_apart"] is (facts["checkpoint"]["step"] != 4)
    assert facts["selection_items"] == 8
    measured = [row for row in facts["tried"] if row["selection_score"] is not None]
    assert facts["selection_score"] == max(row["selection_score"] for row in measured)
    assert facts["adapter_bytes"] == (candidate.adapter / "adapter_model.safetensors").stat().st_size
    assert any(said.startswith("no general data mixed in") for said in facts["causes_of_forgetting"])
    lowest = min(facts["tried"], key=lambda row: row["held_out_loss"])
    assert {row["step"] for row in measured} == {lowest["step"], 4}
    assert [(purpose, count) for _, purpose, count in bench.asked] == [("selection", 8)] * len(measured)

    request = candidate.request(bench.parts.certification[0])
    assert [message.role for message in request.messages] == ["system", "user"]
    assert candidate.door.fingerprint != bench.door.fingerprint
    [answer] = candidate.door.answer([request])
    assert isinstance(answer, Answer)

    monkeypatch.setattr(tuned, "train_and_choose", lambda *args: pytest.fail("trained again"))
    again = Lora().build(bench)
    assert again.facts() == facts
    assert again.door.fingerprint == candidate.door.fingerprint


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_best_and_last_are_both_kept_where_they_differ(make_bench, monkeypatch):
    monkeypatch.setattr(tuned, "loss_of", lambda snapshot: float(snapshot.step))
    monkeypatch.setattr(tuned, "selection_score", lambda bench, layout, snapshot, *_: 1.0 / snapshot.step)
    bench = make_bench()
    facts = Lora().build(bench).facts()
    assert (facts["checkpoint"]["step"], facts["last"]["step"]) == (2, 4)
    best, last = (bench.folder / "lora" / name / "adapter_model.safetensors" for name in ("adapter", "last"))
    assert best.stat().st_size == last.stat().st_size
    assert best.read_bytes() != last.read_bytes()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_settings_start_the_training_anew_and_say_what_differs(make_bench):
    Lora().build(make_bench(epochs=1.0))
    told = Told()
    bench = replace(make_bench(epochs=1.0, learning_rate=4e-3), progress=told)
    bench.__dict__["asked"] = []
    assert Lora().build(bench).facts()["learning_rate"] == 4e-3
    [note] = told.notes
    assert "recipe.learning_rate: 0.005 before, 0.004 now" in note


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_train_rows_start_the_training_anew(make_bench):
    bench = make_bench(epochs=1.0)
    first = Lora().build(bench).door.fingerprint
    fewer = replace(bench.parts, train=bench.parts.train[:12])
    facts = Lora().build(replace(bench, parts=fewer)).facts()
    assert facts["rows"] == 12
    assert Lora().build(bench).door.fingerprint == first


def test_an_item_beyond_the_window_of_the_tuned_model_ends_the_build_before_it_trains(
    make_bench, monkeypatch
):
    from tunewise.ladder import NotBuilt

    bench = make_bench()
    long = replace(bench.parts.certification[0], turns=(Message("user", "pub " * 260),))
    parts = replace(bench.parts, certification=(long,))
    monkeypatch.setattr(tuned, "train_and_choose", lambda *args: pytest.fail("trained"))
    with pytest.raises(NotBuilt, match="256 tokens, has no room for the answer"):
        Lora().build(replace(bench, parts=parts))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_answered_before_are_let_go_of_before_the_training(
    tiny, make_example, tmp_path, monkeypatch
):
    import json

    import tunewise
    from tunewise.models import local
    from tunewise.training import trainer

    rows = [{"input": e.input, "output": e.answer} for e in map(make_example, range(120))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: towns\ninstruction: name and town\nmetric: exact\ntarget: 0.9\nexamples: rows.jsonl\n"
        f"decoding: {{max_new_tokens: 4}}\nmodel: {tiny}\n"
        "training: {epochs: 1, learning_rate: 0.005, lora_rank: 4, curve: false}\n"
    )
    held, run = [], trainer.run
    monkeypatch.setattr(trainer, "run", lambda *args: held.append(len(local._loaded)) or run(*args))
    decision = tunewise.decide(tmp_path / "task.yaml", out=tmp_path / "run", rungs=["zero-shot", "lora"])
    assert held == [0]
    assert [rung.rung for rung in decision.rungs if rung.evidence is not None] == ["zero-shot", "lora"]


def test_a_certification_row_among_the_train_rows_is_refused(make_bench):
    bench = make_bench()
    parts = replace(bench.parts, train=(*bench.parts.train, bench.parts.certification[0]))
    with pytest.raises(DataError, match="certification part"):
        Lora().build(replace(bench, parts=parts))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_without_selection_items_the_last_checkpoint_is_taken_unmeasured(make_bench):
    bench = make_bench()
    bare = replace(bench, parts=replace(bench.parts, selection=()))
    facts = Lora().build(bare).facts()
    assert facts["checkpoint"]["step"] == 4
    assert facts["selection_score"] is None
    assert all(row["held_out_loss"] is None for row in facts["tried"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_fully_tuned_candidate_is_saved_and_answers_as_before(make_bench):
    from tunewise.rungs.full import Full
    from tunewise.rungs.order import load_candidate

    bench = make_bench(epochs=1.0)
    candidate = Full().build(bench)
    candidate.save(bench.folder / "full")
    again = load_candidate(bench.folder / "full", bench.tune_door)
    assert again.door.fingerprint == candidate.door.fingerprint != bench.door.fingerprint
    request = candidate.request(bench.parts.certification[0])
    assert [a.text for a in again.door.answer([request])] == [
        a.text for a in candidate.door.answer([request])
    ]
    assert "adapter_bytes" not in candidate.facts()
    assert candidate.facts()["model_bytes"] > 0


def guarded(bench, questions, **settings):
    """The bench with a guard on the made-up questions, and whole tuned models behind its door."""
    from tunewise.models.local import LocalDoor
    from tunewise.task_guard import Guard

    names = tuple(str(questions / f"{name}.jsonl") for name in ("one", "two", "three"))
    guard = Guard(data=str(questions), benchmarks=names, **settings)
    found = replace(
        bench,
        task=bench.task.model_copy(update={"guard": guard}),
        tune_door=lambda folder: LocalDoor(folder or bench.door.folder),
    )
    found.__dict__["asked"] = []
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("rate", "failed"), [(0.05, True), (1e-5, False)])
def test_a_build_that_forgets_is_stopped_repaired_or_held_back_and_a_sane_one_is_not(
    make_bench, questions, rate, failed
):
    from tunewise.decision import held_back
    from tunewise.rungs.full import Full

    bench = guarded(make_bench(learning_rate=rate), questions, mode="full")
    candidate = Full().build(bench)
    found = candidate.facts()["guard"]
    assert (found["stopped_at"] is not None) is failed
    assert found["check"]["n"] == 90
    assert "there are no general prompts" in found["symptoms"]["why"]
    if failed:
        assert [row["scale"] for row in found["repair"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert found["repair"][0]["outcome"] == "alarm"
        assert found["confirmation"]["n"] == 90  # shown beside the alarm; nothing rests on it
        assert found["confirmation"]["drop"] > 0
        assert (
            found["kept"]["scale"] < 1
            or found["kept"]["step"] < found["stopped_at"]
            or (held_back(candidate.facts()) is not None)
        )
    else:
        assert (found["verdict"], found["kept"]["scale"]) == ("clear", 1.0)
        assert held_back(candidate.facts()) is None
    assert Full().build(bench).facts() == candidate.facts()


@pytest.mark.parametrize("trainer", [tuned.train, partial(tuned.train, report_to=("wandb",))])
def test_training_in_this_process_is_guarded_also_where_trackers_are_told(make_bench, monkeypatch, trainer):
    asked_with = []

    def asked(bench, *, here):
        asked_with.append(here)
        raise InterruptedError

    monkeypatch.setattr(tuned, "guarding_of", asked)
    with pytest.raises(InterruptedError):
        tuned.build(make_bench(), "lora", trainer)
    assert asked_with == [True]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("forgetting", ["stop", "ignore"])
def test_a_run_too_short_to_be_watched_is_checked_on_fresh_items_and_fails_where_no_strength_mends_it(
    make_bench, questions, forgetting
):
    from tunewise.decision import held_back
    from tunewise.rungs.full import Full

    bench = guarded(make_bench(learning_rate=0.05), questions, time_share=1e-6, forgetting=forgetting)
    candidate = Full().build(bench)
    found = candidate.facts()["guard"]
    assert "the run is so short" in found["off"]
    assert (found["timeline"], found["check"]["n"]) == ([], 90)
    assert (found["verdict"], found["kept"]["scale"]) == ("failed", 1.0)
    assert any("learning_rate" in line for line in found["advice"])
    if forgetting == "ignore":
        assert "repair" not in found
        return
    assert "on set B" in held_back(candidate.facts())
    assert found["confirmation"] == found["check"]
    assert [row["scale"] for row in found["repair"]] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert {row["outcome"] for row in found["repair"][:-1]} == {"alarm"}
