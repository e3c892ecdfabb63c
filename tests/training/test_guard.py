"""The guard in a real run on a tiny model: it reads, stops, keeps what is clear, and changes no weight."""

import json
import random
from dataclasses import replace

import pytest

from tunewise.errors import DataError, SettingError
from tunewise.progress import Silent
from tunewise.rungs.guard_symptoms import refuse_unreadable_text
from tunewise.training import checkpoints
from tunewise.training.guard import Guard, GuardSpec
from tunewise.training.guard_items import gather_items
from tunewise.training.guard_reading import untouched
from tunewise.training.recipe import Recipe, quiet, train

RECIPE = Recipe(
    learning_rate=1e-5, epochs=2.0, weight_decay=0.0, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def spec(questions):
    names = [str(questions / f"{name}.jsonl") for name in ("one", "two", "three")]
    return GuardSpec(gather_items(names, None), time_share=None)


def same_weights(one, other):
    files = sorted(path.name for path in one.glob("*.safetensors"))
    assert files
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_sets_a_and_b_are_disjoint_and_do_not_depend_on_the_order_of_the_file(questions, spec, tmp_path):
    a, b = ({one.item.context for one in part} for part in (spec.items.a, spec.items.b))
    assert (len(a), len(b)) == (180, 90)
    assert not a & b
    turned = []
    for name in ("one", "two", "three"):
        lines = (questions / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        turned.append(str(tmp_path / f"{name}.jsonl"))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert gather_items(turned, None).fingerprint == spec.items.fingerprint


def test_a_folder_without_benchmarks_says_what_is_expected_where(tmp_path):
    with pytest.raises(DataError, match=r"none of the benchmarks hellaswag.*hellaswag/\*\.jsonl"):
        gather_items(None, tmp_path)
    with pytest.raises(DataError, match=r"piqa are not there; expected .*piqa"):
        gather_items(["piqa"], tmp_path)


def test_rows_that_are_there_and_broken_are_a_mistake_not_an_absence(tmp_path):
    (tmp_path / "piqa").mkdir()
    (tmp_path / "piqa" / "rows.jsonl").write_text('{"question": \n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: broken JSON"):
        gather_items(None, tmp_path)


def test_two_benchmarks_of_one_name_are_refused(questions, tmp_path):
    (tmp_path / "one.jsonl").write_bytes((questions / "one.jsonl").read_bytes())
    with pytest.raises(SettingError, match="two are called 'one'"):
        gather_items([str(questions / "one.jsonl"), str(tmp_path / "one.jsonl")], None)


@pytest.fixture(scope="module")
def sane(tiny, rows, spec, tmp_path_factory):
    work = tmp_path_factory.mktemp("sane")
    return work, train(tiny, rows[:32], rows[32:36], RECIPE, work, Silent(), guard=spec)


def test_a_sane_run_goes_on_to_its_end_and_is_read_at_four_checkpoints(sane):
    run = sane[1]
    assert [entry["step"] for entry in run.guard["timeline"]] == [2, 4, 6, 8]
    assert run.guard["stopped_at"] is None
    assert {entry["outcome"] for entry in run.guard["timeline"]} == {"clear"}
    assert run.facts["steps"] == 8
    assert [row["base"]["estimate"] for row in run.guard["benchmarks"]] == [1.0, 1.0, 1.0]
    assert {snapshot.step for snapshot in run.snapshots} == {2, 4, 6, 8}


def test_guarding_changes_no_weight(sane, tiny, rows, tmp_path):
    run = sane[1]
    alone = train(tiny, rows[:32], rows[32:36], RECIPE, tmp_path, Silent())
    assert same_weights(run.snapshots[-1].folder, alone.snapshots[-1].folder)
    assert run.facts["losses"] == alone.facts["losses"]


def test_a_run_made_to_forget_is_stopped_and_the_clear_checkpoint_before_it_is_allowed(
    tiny, rows, spec, tmp_path
):
    from tunewise.rungs.guarded import allowed

    recipe = replace(RECIPE, method="full", learning_rate=0.05, epochs=4.0)
    run = train(tiny, rows[:32], rows[32:36], recipe, tmp_path, Silent(), guard=spec)
    stopped = run.guard["stopped_at"]
    assert stopped is not None
    assert stopped < 16
    last = run.guard["timeline"][-1]
    assert (last["outcome"], last["step"]) == ("alarm", stopped)
    assert last["drop"] > 0.05
    assert last["early"]["estimate"] is not None
    assert run.snapshots[-1].step == stopped == run.facts["steps"]
    clear = [entry["step"] for entry in run.guard["timeline"] if entry["outcome"] == "clear"]
    assert [snapshot.step for snapshot in allowed(run.snapshots, run.guard)] == clear


def test_with_forgetting_ignored_the_alarm_stops_nothing(tiny, rows, spec, tmp_path):
    recipe = replace(RECIPE, method="full", learning_rate=0.05)
    run = train(tiny, rows[:16], (), recipe, tmp_path, Silent(), guard=replace(spec, stop=False))
    assert run.facts["steps"] == 4
    assert run.guard["timeline"][-1]["outcome"] == "alarm"
    assert run.guard["stopped_at"] is None


class Killed(Exception):
    pass


class KilledAt:
    """A progress that ends the process's work at a step."""

    def __init__(self, step):
        self.step, self.notes = step, []

    def tell(self, event, **facts):
        if event == "training" and facts["step"] == self.step:
            raise Killed
        if event == "note":
            self.notes.append(facts["text"])


def test_a_killed_run_keeps_what_was_measured_and_ends_with_the_same_weights(
    sane, tiny, rows, spec, tmp_path
):
    with pytest.raises(Killed):
        train(tiny, rows[:32], rows[32:36], RECIPE, tmp_path, KilledAt(7), save_seconds=0.0, guard=spec)
    before = checkpoints.read_json(tmp_path / "guard.json")
    assert [entry["step"] for entry in before["timeline"]] == [2, 4, 6]
    again = train(tiny, rows[:32], rows[32:36], RECIPE, tmp_path, Silent(), guard=spec)
    assert again.guard["timeline"][:3] == before["timeline"]
    assert same_weights(again.snapshots[-1].folder, sane[1].snapshots[-1].folder)


def test_a_short_run_within_a_time_share_says_why_nothing_is_read(tiny, rows, spec, tmp_path):
    told = KilledAt(-1)
    run = train(tiny, rows[:16], (), RECIPE, tmp_path, told, guard=replace(spec, time_share=1e-6))
    assert "the run is so short" in run.guard["off"]
    assert "--guard full" in run.guard["off"]
    assert any("the guard is off" in note for note in told.notes)


def test_a_base_at_chance_is_not_used_and_small_models_are_told_what_to_take(tiny, rows, questions, tmp_path):
    rng = random.Random(1)
    names = []
    for name in ("one", "two", "three"):
        lines = (questions / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        if name == "two":
            lines = [json.dumps(json.loads(line) | {"answer_index": rng.randrange(3)}) for line in lines]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        names.append(str(tmp_path / f"{name}.jsonl"))
    told = KilledAt(-1)
    spec = GuardSpec(gather_items(names, None), time_share=None)
    run = train(tiny, rows[:16], (), RECIPE, tmp_path / "work", told, guard=spec)
    assert run.guard["used"] == ["one", "three"]
    [note] = [note for note in told.notes if "not used for stopping" in note]
    assert "two is not used for stopping: the base is at chance" in note
    assert "hellaswag, piqa, arc_easy, lambada" in note
    assert "smallest drop it can see" in note


def test_what_the_pilot_found_above_chance_is_not_called_unused_for_the_few_items_that_are_affordable(
    tiny, rows, spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(Guard, "_affordable", lambda self, *args: (1, 40))
    told = KilledAt(-1)
    run = train(tiny, rows[:16], (), RECIPE, tmp_path, told, guard=replace(spec, time_share=0.1))
    assert run.guard["used"] == ["one", "two", "three"]
    assert [(row["used"], row["why"]) for row in run.guard["benchmarks"]] == [(True, None)] * 3
    assert not any("not used for stopping" in note for note in told.notes)


def test_fewer_items_take_fewer_checkpoints_then_say_that_it_is_too_short(spec, tmp_path):
    guard = Guard(replace(spec, time_share=0.1), tmp_path / "guard.json", 100, "lora", Silent())
    assert guard._affordable(training=10_000.0, each=0.1, most=3000) == (4, 2500)
    assert guard._affordable(training=300.0, each=0.1, most=3000) == (2, 150)
    assert guard._affordable(training=30.0, each=0.1, most=3000) == (1, 30)


def test_reading_leaves_random_states_and_modes_alone():
    import numpy
    import torch

    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(2, 2))
    model[1].eval()
    before = random.getstate(), torch.get_rng_state(), numpy.random.get_state()[1].copy()
    with untouched(model):
        assert not model[0].training
        torch.rand(3), random.random(), numpy.random.rand()
    assert (model[0].training, model[1].training) == (True, False)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert (numpy.random.get_state()[1] == before[2]).all()


def test_the_model_is_read_with_its_own_layers_and_trains_on_with_the_lean_ones(tiny, spec):
    from tunewise.models import weights
    from tunewise.models.tree_scoring import TreeScorer
    from tunewise.training import lean, methods
    from tunewise.training.guard_reading import LiveReader

    asked = spec.items.a[:12]
    tokenizer = weights.load_tokenizer(tiny)
    for method in ("lora", "full"):
        recipe = replace(RECIPE, method=method)
        with quiet():
            model = methods.attach(methods.open_base(tiny, recipe), recipe)
        plain = LiveReader(methods.core_of(model), tokenizer, 256, spec.items.benchmarks).read(asked)
        with lean.installed(model):
            before = sum(map(lean.is_lean, model.modules())), model.config._attn_implementation
            reader = LiveReader(methods.core_of(model), tokenizer, 256, spec.items.benchmarks)
            assert isinstance(reader._scorer, TreeScorer)
            read = reader.read(asked)
            assert before == (sum(map(lean.is_lean, model.modules())), model.config._attn_implementation)
        assert before[0] > 0
        assert [one.right for one in read] == [one.right for one in plain]
        assert [one.gold for one in read] == pytest.approx([one.gold for one in plain], abs=1e-4)


def test_what_the_base_makes_of_items_is_kept_and_found(tiny, spec, tmp_path):
    from tunewise.benchmarks.kept import KeptScores
    from tunewise.models import weights
    from tunewise.training.guard_reading import LiveReader

    asked, kept = spec.items.a[:12], KeptScores("tiny", tmp_path / "scores.sqlite")
    model = weights.load_model(tiny)
    reader = LiveReader(model, weights.load_tokenizer(tiny), 256, spec.items.benchmarks)
    first = reader.read(asked, kept)
    reader._scorer = None  # nothing more can be read
    assert reader.read(asked, kept) == first
    with pytest.raises(AttributeError):
        reader.read(asked, kept, find=False)


def test_items_that_are_cut_are_told_and_one_that_cannot_be_read_stops_before_the_first_step(
    tiny, questions, tmp_path
):
    from tunewise.models import weights

    tokenizer = weights.load_tokenizer(tiny)
    lines = (questions / "one.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows[3]["question"] = " ".join([rows[3]["question"]] * 20)
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    names = [str(tmp_path / "long.jsonl"), *(str(questions / f"{name}.jsonl") for name in ("two", "three"))]
    state = {"used": ["long", "two", "three"], "items": 60}
    guard = Guard(GuardSpec(gather_items(names, None)), tmp_path / "guard.json", 8, "lora", Silent())
    guard.state = dict(state)
    [note] = guard._refuse_unreadable(tokenizer, 64)
    assert note.startswith("1 of 90 items of long are longer than the 64 tokens of the context window")
    rows[5]["choices"][0] = " ".join(["word"] * 90)
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    guard = Guard(GuardSpec(gather_items(names, None)), tmp_path / "guard.json", 8, "lora", Silent())
    guard.state = dict(state)
    with pytest.raises(DataError, match=r"an ending has .* tokens, the model holds 64"):
        guard._refuse_unreadable(tokenizer, 64)


def test_running_text_that_cannot_be_read_is_told_before_training(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "book.txt").write_bytes("Caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match=r"book\.txt: expected UTF-8"):
        refuse_unreadable_text(tmp_path)
    (tmp_path / "none").mkdir()
    refuse_unreadable_text(tmp_path / "none")
