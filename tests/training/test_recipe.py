"""The fast way of training computes what the plain way computes."""

import json
import math
import re
from dataclasses import replace

import pytest

from tunewise.errors import WorldError
from tunewise.models.precision import best_precision, has_amx, products
from tunewise.progress import Silent
from tunewise.training import checkpoints
from tunewise.training.recipe import (
    Recipe,
    quiet,
    snapshots_in,
    steps_per_epoch,
    total_steps,
    train,
)

RECIPE = Recipe(
    learning_rate=2e-3, epochs=2.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", rows_per_pass=4,
)  # fmt: skip


class Told:
    """Keeps what it is told."""

    def __init__(self):
        self.events = []

    def tell(self, event, **facts):
        self.events.append((event, facts))


def adapter_of(snapshot):
    from safetensors.torch import load_file

    return load_file(snapshot.folder / "adapter_model.safetensors")


def change(**fields):
    from dataclasses import replace

    return replace(RECIPE, **fields)


@pytest.fixture(scope="module")
def packed_run(tiny, rows, tmp_path_factory):
    told = Told()
    work = tmp_path_factory.mktemp("packed")
    return train(tiny, rows[:24], rows[30:36], RECIPE, work, told), told


def test_packs_train_as_trl_does_on_padded_batches(tiny, rows, packed_run, tmp_path):
    import torch

    padded = train(tiny, rows[:24], (), change(packed=False), tmp_path, Silent())
    packed, _ = packed_run
    assert packed.facts["packed"]
    assert not padded.facts["packed"]
    assert packed.facts["losses"] == pytest.approx(padded.facts["losses"], abs=2e-5)
    ours, theirs = adapter_of(packed.snapshots[-1]), adapter_of(padded.snapshots[-1])
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=2e-4, rtol=1e-2)


def test_loss_and_gradient_of_a_pack_equal_full_logits_of_the_padded_batch(tiny, rows):
    import torch
    from torch.nn import functional

    from tunewise.training import methods, trainer
    from tunewise.training.packing import tensors

    with quiet():
        model = methods.attach(methods.open_base(tiny, RECIPE), RECIPE)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # zero at the start: A would get no gradient
    some = rows[:6]
    longest = max(map(len, some))
    ids = torch.tensor([[*row.ids, *[0] * (longest - len(row))] for row in some])
    labels = torch.tensor([[*row.labels, *[-100] * (longest - len(row))] for row in some])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in some])

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    plain = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    wanted = gradients(plain)
    total, count = trainer.pack_loss(model, tensors(some))
    assert count == int((labels[:, 1:] != -100).sum())
    assert (total / count).item() == pytest.approx(plain.item(), rel=1e-6)
    found = gradients(total / count)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tiny, rows, packed_run, tmp_path):
    again = train(tiny, rows[:24], (), RECIPE, tmp_path / "again", Silent())
    other = train(tiny, rows[:24], (), change(seed=4), tmp_path / "other", Silent())
    first, second, third = (
        [(snapshot.folder / "adapter_model.safetensors").read_bytes() for snapshot in run.snapshots]
        for run in (packed_run[0], again, other)
    )
    assert first == second
    assert first[-1] != third[-1]


def test_a_snapshot_after_every_epoch_with_its_loss_on_held_out_rows(tiny, rows, packed_run):
    import torch
    from peft import PeftModel

    from tunewise.models.weights import load_model
    from tunewise.training.trust import answer_logits

    run, _ = packed_run
    assert [(s.step, s.epoch) for s in run.snapshots] == [(3, 1.0), (6, 2.0)]
    last = run.snapshots[-1]
    with quiet():
        model = PeftModel.from_pretrained(load_model(tiny), str(last.folder))
    total, count = 0.0, 0
    for row in rows[30:36]:
        chances = torch.log_softmax(answer_logits(model, row), dim=-1)
        total -= float(chances[range(len(row.answer)), list(row.answer)].sum())
        count += len(row.answer)
    assert last.held_out_loss == pytest.approx(total / count, rel=1e-4)


def test_progress_and_facts_say_what_was_done(rows, packed_run):
    run, told = packed_run
    events = [facts for event, facts in told.events if event == "training"]
    assert [facts["step"] for facts in events] == [1, 2, 3, 4, 5, 6]
    assert {facts["steps"] for facts in events} == {6}
    assert events[-1]["eta_seconds"] == 0
    assert all(facts["tokens_per_second"] > 0 for facts in events)
    assert run.facts["tokens"] == 2 * sum(map(len, rows[:24]))
    assert run.facts["loss_tokens"] == 2 * sum(len(row.answer) for row in rows[:24])
    assert run.facts["losses"] == [pytest.approx(facts["loss"], abs=1e-5) for facts in events]
    assert run.facts["trainable_parameters"] == sum(t.numel() for t in adapter_of(run.snapshots[-1]).values())
    assert run.facts["losses"][-1] < run.facts["losses"][0]


@pytest.mark.parametrize(
    ("rows", "batch", "per_pass", "epochs", "wanted"),
    [(24, 8, 4, 2.0, (3, 6)), (25, 8, 4, 1.0, (4, 4)), (25, 8, 8, 1.5, (4, 6)), (3, 8, 2, 1.0, (1, 1))],
)
def test_steps_are_batches_times_epochs_the_last_batch_counted_whole(rows, batch, per_pass, epochs, wanted):
    recipe = change(batch_size=batch, rows_per_pass=per_pass, epochs=epochs)
    assert (steps_per_epoch(rows, recipe), total_steps(rows, recipe)) == wanted


def test_part_of_an_epoch_ends_with_a_snapshot_as_well(tiny, rows, tmp_path):
    run = train(tiny, rows[:10], (), change(epochs=1.5), tmp_path, Silent())
    assert [s.step for s in run.snapshots] == [2, 3]


@pytest.mark.parametrize("packed", [True, False])
def test_a_run_that_diverges_names_the_batch_and_says_to_lower_the_learning_rate(
    tiny, rows, tmp_path, packed
):
    recipe = change(learning_rate=1e30, epochs=6.0, packed=packed)
    with pytest.raises(WorldError, match="learning_rate") as found:
        train(tiny, rows[:8], rows[8:10], recipe, tmp_path, Silent())
    assert all(row.key in str(found.value) for row in rows[:8]), str(found.value)


def test_half_precision_trains_to_nearly_the_same_loss(tiny, rows, packed_run, tmp_path):
    half = train(tiny, rows[:24], (), change(precision="bf16"), tmp_path, Silent())
    assert half.facts["losses"][0] == pytest.approx(packed_run[0].facts["losses"][0], rel=0.02)
    assert all(math.isfinite(loss) for loss in half.facts["losses"])


@pytest.mark.parametrize("amx", [True, False])
def test_a_cpu_trains_in_bf16_only_where_it_has_a_unit_for_it(monkeypatch, amx):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
    assert best_precision() == ("bf16" if amx else "fp32")
    assert best_precision(whole=True) == "fp32"  # small steps from weights that bf16 holds would not be seen


def test_on_a_cpu_bf16_rounds_factors_with_amx_and_never_results():
    import torch

    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    one, other = torch.randn(64, 256), torch.randn(256, 128)
    exact = one.double() @ other.double()

    def error(product):
        return float(torch.linalg.vector_norm(product - exact) / torch.linalg.vector_norm(exact))

    with products("fp32"):
        assert error(one @ other) < 1e-6
    with products("bf16"):
        found = one @ other
    rounded = one.bfloat16().double() @ other.bfloat16().double()
    assert error(found) == pytest.approx(error(rounded) if has_amx() else 0, abs=1e-6)
    assert found.dtype == torch.float32
    assert matmul.fp32_precision == before


@pytest.mark.parametrize(("precision", "setting"), [("fp32", "ieee"), ("bf16", "bf16")])
def test_the_steps_of_a_training_multiply_in_its_precision(
    tiny, rows, tmp_path, monkeypatch, precision, setting
):
    import torch

    from tunewise.training.trainer import PackedTrainer

    seen, step = set(), PackedTrainer.training_step

    def look(self, *args):
        seen.add(torch.backends.mkldnn.matmul.fp32_precision)
        return step(self, *args)

    monkeypatch.setattr("tunewise.models.precision.has_amx", lambda: True)
    monkeypatch.setattr(PackedTrainer, "training_step", look)
    train(tiny, rows[:8], (), change(epochs=1.0, precision=precision), tmp_path, Silent())
    assert seen == {setting}


def test_padded_batches_of_rows_far_apart_in_length_hold_like_lengths(tiny, rows, tmp_path, monkeypatch):
    from tunewise.training.trainer import PackedTrainer

    some = [replace(row, answer=row.answer * (12 if n % 8 == 0 else 1)) for n, row in enumerate(rows[:32])]
    shapes, step = [], PackedTrainer.training_step

    def look(self, model, inputs, *args):
        shapes.append(inputs["input_ids"].shape[1])
        return step(self, model, inputs, *args)

    monkeypatch.setattr(PackedTrainer, "training_step", look)
    train(tiny, some, (), change(epochs=1.0, packed=False, rows_per_pass=4), tmp_path, Silent())
    longest = max(map(len, some))
    assert sum(shape == longest for shape in shapes) <= 2  # the four long rows would stand in four passes


def test_a_half_written_snapshot_is_none(tiny, rows, tmp_path):
    run = train(tiny, rows[:8], (), change(epochs=1.0), tmp_path, Silent())
    assert [s.step for s in snapshots_in(tmp_path)] == [run.snapshots[-1].step]
    (run.snapshots[-1].folder / checkpoints.MARK).unlink()
    assert snapshots_in(tmp_path) == ()


def test_training_prints_nothing(tiny, rows, tmp_path, capfd):
    train(tiny, rows[:8], (), change(epochs=1.0), tmp_path, Silent())
    assert capfd.readouterr() == ("", "")


def test_snapshots_hold_pefts_two_files_and_nothing_else_of_note(packed_run):
    folder = packed_run[0].snapshots[-1].folder
    names = {path.name for path in folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "snapshot.json", checkpoints.MARK}
    assert json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))["step"] == 6


def test_rows_alike_in_length_come_in_an_order_of_seed_and_epoch_alone():
    import torch

    from tunewise.training.batches import LengthOrder

    lengths = [5, 90, 7, 80, 6, 70, 8, 60] * 30
    order = LengthOrder(lengths, 8, seed=3)
    order.set_epoch(2)
    first = list(order)
    torch.manual_seed(99)  # what a fresh process has drawn by then
    again = LengthOrder(lengths, 8, seed=3)
    again.set_epoch(2)
    assert list(again) == first
    assert sorted(first) == list(range(len(lengths)))
    order.set_epoch(3)
    assert list(order) != first
    spread = [max(some) - min(some) for some in zip(*[iter(lengths[n] for n in first)] * 8, strict=True)]
    assert sum(spread) / len(spread) < 30  # rows drawn at random: 80 and more


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model.vision_tower.encoder.layers.0.q_proj", True),
        ("visual.blocks.0.attn.qkv", True),
        ("model.multi_modal_projector.linear_1", True),
        ("model.layers.0.self_attn.q_proj", False),
        ("model.language_model.layers.0.mlp.up_proj", False),
        ("model.layers.0.revision.proj", False),
    ],
)
def test_what_sees_or_hears_is_not_trained_on_text(name, other):
    from tunewise.training.methods import OTHER_SENSES

    assert bool(OTHER_SENSES.search(name)) is other
    assert bool(re.fullmatch(rf"(.*){OTHER_SENSES.pattern}.*", name)) is other
