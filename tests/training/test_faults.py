"""What goes wrong in a step is caught, said once, and costs no result."""

import json
from collections import namedtuple
from dataclasses import replace

import pytest

from tunewise.errors import StoreError, WorldError
from tunewise.models import weights
from tunewise.progress import Silent
from tunewise.training import checkpoints, trainer
from tunewise.training.recipe import Recipe, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=2.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", rows_per_pass=8,
)  # fmt: skip


class Told:
    def __init__(self):
        self.notes = []

    def tell(self, event, **facts):
        if event == "note":
            self.notes.append(facts["text"])


def with_memory_for(monkeypatch, tokens, kind=None):
    """Let a pass of more than ``tokens`` tokens run out of memory, on the way back as well as forth."""
    import torch

    inner = trainer.pack_loss

    def pack_loss(model, inputs):
        if inputs["input_ids"].shape[1] > tokens:
            inner(model, inputs)[0].backward()  # what a failed pass leaves behind must not count
            raise (kind or torch.OutOfMemoryError)("can't allocate memory")
        return inner(model, inputs)

    monkeypatch.setattr(trainer, "pack_loss", pack_loss)


@pytest.mark.parametrize("kind", [None, RuntimeError])
def test_out_of_memory_halves_the_pass_says_so_once_and_changes_no_result(
    tiny, rows, tmp_path, monkeypatch, kind
):
    plain = train(tiny, rows[:16], (), RECIPE, tmp_path / "plain", Silent())
    with_memory_for(monkeypatch, 128, kind)
    told = Told()
    small = train(tiny, rows[:16], (), RECIPE, tmp_path / "small", told)
    assert small.facts["losses"] == pytest.approx(plain.facts["losses"], abs=2e-5)
    [note] = told.notes
    assert "out of memory with 8 rows in a pass; from now on 4" in note


def test_out_of_memory_with_a_single_row_says_what_helps(tiny, rows, tmp_path, monkeypatch):
    with_memory_for(monkeypatch, 0)
    with pytest.raises(WorldError, match=r"single row.*training\.checkpointing"):
        train(tiny, rows[:16], (), RECIPE, tmp_path, Silent())


def test_padded_batches_are_cut_into_parts_where_memory_runs_out(tiny, rows, tmp_path, monkeypatch):
    import torch
    from trl.trainer.sft_trainer import SFTTrainer

    recipe = replace(RECIPE, packed=False)
    plain = train(tiny, rows[:16], (), recipe, tmp_path / "plain", Silent())
    inner, sizes = SFTTrainer.compute_loss, []

    def compute_loss(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return inner(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", compute_loss)
    told = Told()
    small = train(tiny, rows[:16], (), recipe, tmp_path / "small", told)
    assert sizes[:6] == [8, 4, 2, 2, 2, 2]
    assert small.facts["losses"] == pytest.approx(plain.facts["losses"], abs=2e-5)
    [note] = told.notes
    assert "out of memory with 8 rows in a pass; from now on 4" in note


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        ("MPS backend out of memory (MPS allocated: 9 GB)", True),
        ("CUDA error: out of memory", True),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True),
        ("shapes differ", False),
    ],
)
def test_devices_that_run_out_of_memory_say_so_in_different_words(error, is_memory):
    assert weights.out_of_memory(RuntimeError(error)) is is_memory


def test_an_error_that_is_not_about_memory_is_not_swallowed(tiny, rows, tmp_path, monkeypatch):
    def broken(model, inputs):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(trainer, "pack_loss", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(tiny, rows[:16], (), RECIPE, tmp_path, Silent())


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint_and_names_the_batch(
    tiny, rows, tmp_path, monkeypatch
):
    named = [replace(row, place=f"rows.jsonl:{n}") for n, row in enumerate(rows[:16])]
    inner, calls = trainer.pack_loss, []

    def pack_loss(model, inputs):
        loss, count = inner(model, inputs)
        calls.append(1)
        return (loss * float("nan") if len(calls) == 4 else loss), count

    monkeypatch.setattr(trainer, "pack_loss", pack_loss)
    with pytest.raises(WorldError) as caught:
        train(tiny, named, (), RECIPE, tmp_path, Silent(), save_seconds=0.0)
    said = str(caught.value)
    assert "at step 4 the loss is nan" in said
    assert said.count("rows.jsonl:") == 8
    kept = checkpoints.newest_whole(tmp_path / "steps")
    assert checkpoints.step_of(kept) == 3 or "of step 2" in said
    assert f"is kept in {kept}" in said
    from safetensors.torch import load_file

    weights = load_file(kept / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_full_disk_is_found_before_the_start(tiny, rows, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(
        StoreError, match=r"GiB of checkpoints, and only 0\.0 GiB are free.*nothing was trained"
    ):
        train(tiny, rows[:16], (), RECIPE, tmp_path / "new", Silent())
    assert not (tmp_path / "new").exists()


def test_what_an_earlier_process_wrote_counts_for_the_disk_that_a_run_needs(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "weights").write_bytes(b"w" * 500)
    checkpoints.need_space(tmp_path, 1500)
    with pytest.raises(StoreError, match="GiB are free"):
        checkpoints.need_space(tmp_path, 1501)


def test_what_is_recomputed_gives_the_same_loss_as_what_is_kept(tiny, rows, tmp_path):
    kept = train(tiny, rows[:16], (), RECIPE, tmp_path / "kept", Silent())
    again = train(tiny, rows[:16], (), replace(RECIPE, checkpointing=True), tmp_path / "again", Silent())
    assert again.facts["losses"] == pytest.approx(kept.facts["losses"], abs=2e-5)


def test_rows_of_very_different_length_are_spread_and_give_the_same_loss(tiny, rows, tmp_path):
    from tunewise.training.packing import passes

    recipe = replace(RECIPE, rows_per_pass=2)
    plain = train(tiny, rows[:16], (), replace(recipe, balanced=False), tmp_path / "plain", Silent())
    spread = train(tiny, rows[:16], (), replace(recipe, balanced=True), tmp_path / "spread", Silent())
    assert spread.facts["losses"] == pytest.approx(plain.facts["losses"], abs=2e-5)
    packs = passes(rows[:16], 4, True)
    assert sorted(row.key for some in packs for row in some) == sorted(row.key for row in rows[:16])
    assert len(packs) == 4
    assert json.dumps([len(some) for some in packs]) == json.dumps([4, 4, 4, 4])


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(28, "No space left on device"), StoreError, "Free some space"),
        (
            RuntimeError("PytorchStreamWriter failed writing file"),
            StoreError,
            "could not be written",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), WorldError, "AdamW's moments"),
        (BrokenPipeError(32, "Broken pipe"), BrokenPipeError, "Broken pipe"),
        (RuntimeError("mat1 and mat2 shapes"), RuntimeError, "shapes"),
    ],
)
def test_what_ends_a_training_beside_its_passes_is_told_in_words_where_the_words_are_true(
    tiny, rows, tmp_path, monkeypatch, error, kind, says
):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("torch.optim.AdamW.step", fails)
    with pytest.raises(kind, match=says) as found:
        train(tiny, rows[:16], (), RECIPE, tmp_path, Silent())
    assert type(found.value) is kind
