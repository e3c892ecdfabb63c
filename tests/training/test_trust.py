"""Each silent failure of training is found."""

import json
import shutil
from dataclasses import replace

import pytest

from tunewise.errors import DataError
from tunewise.progress import Silent
from tunewise.training import trust
from tunewise.training.masks import TrainRow
from tunewise.training.recipe import Recipe, quiet, train

STOP = 2
GOOD = TrainRow("k", (5, 6), (7, STOP))


def served(row):
    return [list(row.prompt)]


def test_good_rows_pass():
    assert trust.check_rows([GOOD], {STOP}, served, {"other"}) is None  # it raises where a row is not good
    assert trust.check_rows([GOOD], {STOP}, lambda row: (), set()) is None


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (TrainRow("k", (5, 6), ()), "0 answer tokens"),
        (TrainRow("k", (), (7, STOP)), "0 prompt tokens"),
        (TrainRow("k", (5, 6), (7, 8)), "expected a stop token"),
    ],
)
def test_a_row_without_loss_prompt_or_stop_token_is_refused(row, says):
    with pytest.raises(trust.TrainingNotTrusted, match=says):
        trust.check_rows([GOOD, row], {STOP}, served, set())


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ((5, 6, 6), "prompt of 2 tokens, serving sends 3; one goes on where the other ends"),
        ((5, 9), "prompt of 2 tokens, serving sends 2; they part at token 1"),
    ],
)
def test_a_prompt_that_serving_sends_otherwise_is_refused_also_at_the_same_length(sent, says):
    with pytest.raises(trust.TrainingNotTrusted, match=says):
        trust.check_rows([GOOD], {STOP}, lambda row: [row.prompt, sent], set())


def test_a_prompt_that_was_cut_is_compared_with_the_end_of_what_serving_sends():
    cut = TrainRow("k", (5, 6), (7, STOP), cut=2)
    trust.check_rows([cut], {STOP}, lambda row: [(1, 2, 5, 6)], set())
    with pytest.raises(trust.TrainingNotTrusted, match="part at token 0"):
        trust.check_rows([cut], {STOP}, lambda row: [(1, 2, 4, 6)], set())


def test_training_on_a_certification_row_is_the_users_to_mend():
    with pytest.raises(DataError, match="certification part"):
        trust.check_rows([GOOD], {STOP}, served, {"k"})


@pytest.fixture(scope="module")
def trained(tiny, rows, tmp_path_factory):
    work = tmp_path_factory.mktemp("trained")
    recipe = Recipe(5e-3, 1.0, 0.0, 1.0, 4, 8, 0, "fp32")
    return train(tiny, rows[:16], (), recipe, work, Silent()).snapshots[-1].folder


def test_a_trained_adapter_changes_the_model_and_merges_without_changing_answers(tiny, rows, trained):
    found = trust.check_adapter(tiny, trained, rows[:3])
    assert found["largest_change"] > 0.01
    assert found["merged_difference"] < 1e-4


@pytest.fixture
def in_bf16(monkeypatch):
    """Local models in bf16, as on a GPU."""
    import torch

    from tunewise.models import weights

    monkeypatch.setattr(weights, "device_and_dtype", lambda: (torch.device("cpu"), torch.bfloat16))


def test_rounding_to_16_bits_is_no_wrong_merge(tiny, rows, trained, in_bf16):
    assert 0 < trust.check_adapter(tiny, trained, rows[:3])["merged_difference"] < 1e-4


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_merge_that_loses_a_part_of_the_adapter_is_refused_also_in_16_bits(
    tiny, rows, trained, in_bf16, monkeypatch, share
):
    from peft.tuners.lora import Linear

    whole = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda layer, name: share * whole(layer, name))
    with pytest.raises(trust.TrainingNotTrusted, match="answers differently than beside it"):
        trust.check_adapter(tiny, trained, rows[:3])


def test_in_16_bits_an_adapter_answers_beside_the_weights_and_loses_nothing(tiny, rows, trained, in_bf16):
    import torch

    from tunewise.models import weights

    def change(model):
        return torch.cat([trust.answer_logits(model, row).float() for row in rows[:8]]) - plain

    with quiet():
        base = weights.load_model(tiny)
        plain = torch.cat([trust.answer_logits(base, row).float() for row in rows[:8]])
        served = change(weights.load_model(tiny, trained))
        exact = weights.merged(weights.load_model(tiny).float(), trained)
        rounded = change(weights.merged(weights.load_model(tiny), trained))
        wide = torch.cat([trust.answer_logits(weights.load_model(tiny).float(), row) for row in rows[:8]])
        whole = torch.cat([trust.answer_logits(exact, row) for row in rows[:8]]) - wide

    def kept(found):
        return float((found * whole).sum() / whole.square().sum())

    assert kept(served) == pytest.approx(1.0, abs=0.05)
    assert abs(1 - kept(served)) < abs(1 - kept(rounded))


def test_rounding_of_4_bit_layers_that_multiply_in_bf16_is_allowed_for(tiny):
    import torch

    from tunewise.models.weights import load_model

    model = load_model(tiny)
    assert trust.tolerance(model) == trust.SAME_LOGIT["float32"]
    model.model.layers[0].mlp.up_proj.compute_dtype = torch.bfloat16  # as bitsandbytes' layers have it
    assert trust.tolerance(model) == trust.SAME_LOGIT["bfloat16"]


def test_an_adapter_that_changes_nothing_is_refused(tiny, rows, trained, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained, tmp_path / "idle")
    file = tmp_path / "idle" / "adapter_model.safetensors"
    save_file({name: tensor * 0 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(trust.TrainingNotTrusted, match="learnt nothing"):
        trust.check_adapter(tiny, tmp_path / "idle", rows[:3])


def test_an_adapter_that_holds_no_numbers_is_refused(tiny, rows, trained, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(trained, tmp_path / "nan")
    file = tmp_path / "nan" / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file)
    with pytest.raises(trust.TrainingNotTrusted):
        trust.check_adapter(tiny, tmp_path / "nan", rows[:3])


def test_an_adapter_that_cannot_be_opened_is_refused(tiny, rows, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "cut")
    (tmp_path / "cut" / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(trust.TrainingNotTrusted, match="could not be opened"):
        trust.check_adapter(tiny, tmp_path / "cut", rows[:3])


def test_an_adapter_saved_otherwise_than_it_was_trained_is_refused(tiny, trained, tmp_path):
    from peft import PeftModel

    from tunewise.models.weights import load_model

    with quiet():
        model = PeftModel.from_pretrained(load_model(tiny), str(trained))
    trust.as_saved(model, trained)
    next(p for name, p in model.named_parameters() if "lora_A" in name).data.add_(1e-3)
    with pytest.raises(trust.TrainingNotTrusted, match="not the one that was trained"):
        trust.as_saved(model, trained)


def test_packing_is_not_trusted_where_the_model_ignores_the_mask(tiny, rows):
    from tunewise.models.weights import load_model

    model = load_model(tiny)
    assert trust.packing_agrees(model, rows)
    inner = model.forward
    model.forward = lambda *args, attention_mask=None, **rest: inner(*args, **rest)
    assert not trust.packing_agrees(model, rows)
    model.forward = lambda input_ids: inner(input_ids)
    assert not trust.packing_agrees(model, rows)


def test_in_16_bits_a_mask_that_is_ignored_is_told_from_rounding(tiny, rows):
    """A small model's logits differ by less than a large one's rounding, whatever it does to a pack."""
    from tunewise.models.weights import load_model

    model = load_model(tiny).bfloat16()
    assert trust.packing_agrees(model, rows)
    inner = model.forward
    model.forward = lambda *args, attention_mask=None, **rest: inner(*args, **rest)
    assert not trust.packing_agrees(model, rows)


@pytest.mark.parametrize(("window", "packed"), [(16, False), (256, True), (None, True)])
def test_rows_longer_than_a_layers_window_are_not_packed_and_read_with_the_models_own_mask(
    tiny, rows, window, packed
):
    """A pack's mask knows no window: beyond it another attention would be trained than the model has."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from tunewise.training.held_out import held_out_loss
    from tunewise.training.trainer import settle

    torch.manual_seed(3)
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, sliding_window=window,
    )  # fmt: skip
    model = MistralForCausalLM(config)
    recipe = settle(model, rows, Recipe(5e-3, 1.0, 0.0, 1.0, 4, 8, 0, "fp32", method="full", lean=False))
    assert max(map(len, rows)) > 16
    assert recipe.packed is packed
    row = rows[0]
    ids, labels = torch.tensor([row.ids]), torch.tensor([row.labels])
    own = float(model(input_ids=ids, labels=labels).loss.detach())
    assert held_out_loss(model, [row], replace(recipe, rows_per_pass=1)) == pytest.approx(own, rel=1e-4)


def test_rows_that_are_only_read_count_for_the_window_too(rows):
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from tunewise.training.trainer import settle

    torch.manual_seed(3)
    by_length = sorted(rows, key=len)
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, sliding_window=len(by_length[0]),
    )  # fmt: skip
    model = MistralForCausalLM(config)
    recipe = Recipe(5e-3, 1.0, 0.0, 1.0, 4, 8, 0, "fp32", method="full", lean=False)
    short = [row for row in rows if len(row) == len(by_length[0])]
    assert settle(model, short, recipe).packed
    assert not settle(model, short, recipe, [by_length[-1]]).packed


def test_layers_that_count_their_inputs_in_the_other_order_merge_too(tmp_path):
    """GPT-2's layers are no ``nn.Linear`` and have no ``in_features``; PEFT adapts them all the same."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    with quiet():
        model = get_peft_model(
            base.bfloat16(), LoraConfig(r=4, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
        )
    assert trust.merge_error(model) == 0  # nothing learnt yet
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    assert 0 < trust.merge_error(model) < trust.SAME_SHARE


def test_the_adapter_folder_is_in_pefts_layout(trained):
    config = json.loads((trained / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA"
    assert config["target_modules"] == sorted(config["target_modules"])
    kinds = {name.rsplit(".", 1)[-1] for name in config["target_modules"]}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert (config["r"], config["lora_alpha"]) == (4, 8)


def test_with_an_adapter_beside_16_bit_weights_a_prefix_is_still_read_once(tiny, trained, in_bf16):
    from tunewise.data import Message
    from tunewise.models.door import Decoding, Request
    from tunewise.models.local import LocalDoor
    from tunewise.models.shared_prefix import JointGenerator

    door = LocalDoor(tiny, adapter=trained)
    start = "name and town of the pub " * 12
    asked = [Request((Message("user", f"{start}{n}"),), Decoding(max_new_tokens=6)) for n in range(3)]
    answers = door.answer(asked)
    assert isinstance(door._load().generator, JointGenerator)
    assert all(answer.cached_in > 0 for answer in answers[1:])
    assert [answer.tokens_out for answer in answers] != [0, 0, 0]
