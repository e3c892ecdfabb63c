"""One recipe, three methods: what each trains, and that bad settings are refused with what to do."""

import json
from dataclasses import replace

import pytest

from tunewise.errors import SettingError
from tunewise.progress import Silent
from tunewise.training import methods, trust
from tunewise.training.recipe import Recipe, quiet, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=1.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", schedule="cosine",
)  # fmt: skip


def opened(tiny, **fields):
    recipe = replace(RECIPE, **fields)
    with quiet():
        return methods.attach(methods.open_base(tiny, recipe), recipe)


def test_full_trains_every_weight_and_the_others_only_an_adapter(tiny):
    full, lora = opened(tiny, method="full"), opened(tiny)
    assert methods.describe(full)["share"] == 1.0
    assert all(p.requires_grad for p in full.parameters())
    assert {name.split(".")[-3] for name, p in lora.named_parameters() if p.requires_grad} == {
        "lora_A", "lora_B"
    }  # fmt: skip
    # rank 4 on 2 layers: q and o 32x32, k and v 32x16, gate and up 32x64, down 64x32
    assert methods.describe(lora)["trainable_parameters"] == 2 * 4 * (2 * 64 + 2 * 48 + 3 * 96)


def test_qlora_holds_the_layers_in_nf4_with_double_quantisation(tiny):
    pytest.importorskip("bitsandbytes")
    model = opened(tiny, method="qlora")
    layer = model.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    state = layer.weight.quant_state
    assert (state.quant_type, state.nested, state.blocksize) == ("nf4", True, 64)
    assert layer.weight.numel() == 32 * 32 // 2
    lora = methods.describe(opened(tiny))
    assert methods.describe(model)["trainable_parameters"] == lora["trainable_parameters"]


def test_reading_the_4_bit_base_does_not_change_it(tiny, rows):
    pytest.importorskip("bitsandbytes")
    import torch

    model = opened(tiny, method="qlora")
    before = trust.answer_logits(model.train(), rows[0])
    trust.answer_logits(model.eval(), rows[1])
    torch.testing.assert_close(trust.answer_logits(model.train(), rows[0]), before, rtol=0, atol=0)


def test_a_target_that_the_model_does_not_have_is_refused_with_those_it_has(tiny):
    with pytest.raises(
        SettingError, match=r"'q_project'; did you mean 'q_proj'.*down_proj, gate_proj, k_proj"
    ):
        opened(tiny, targets=("q_project",))
    model = opened(tiny, targets=("q_proj", "v_proj"))
    layers = {name.split(".")[-4] for name, p in model.named_parameters() if p.requires_grad}
    assert layers == {"q_proj", "v_proj"}


def test_without_bitsandbytes_qlora_says_what_to_use(monkeypatch, tiny):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(SettingError, match=r"tunewise\[qlora\].*use lora"):
        opened(tiny, method="qlora")


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_run_ends_with_what_answers_as_it_was_trained(method, tiny, rows, tmp_path):
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    run = train(tiny, rows[:16], rows[30:36], replace(RECIPE, method=method, epochs=2.0), tmp_path, Silent())
    assert run.facts["losses"][-1] < run.facts["losses"][0]
    folder = run.snapshots[-1].folder
    if method == "qlora":  # in bf16, to which TRL rounds adapters on 4-bit weights, small updates are lost
        from safetensors.torch import load_file

        weights = load_file(folder / "adapter_model.safetensors").values()
        assert {str(tensor.dtype) for tensor in weights} == {"torch.float32"}
    check = trust.check_model if method == "full" else trust.check_adapter
    assert check(tiny, folder, rows[:3])["largest_change"] > 1e-3
    if method == "full":
        from tunewise.models.local import LocalDoor

        assert LocalDoor(folder).fingerprint != LocalDoor(tiny).fingerprint


def test_a_model_saved_otherwise_than_it_was_trained_is_refused(tiny, tmp_path):
    model = opened(tiny, method="full")
    with quiet():
        methods.save(model, tmp_path, tiny)
    trust.as_saved(model, tmp_path)
    next(model.parameters()).data.add_(1e-3)
    with pytest.raises(trust.TrainingNotTrusted, match="not the one that was trained"):
        trust.as_saved(model, tmp_path)


def test_disk_need_of_full_tuning_is_twelve_bytes_a_weight_and_more(tiny):
    model = opened(tiny, method="full")
    weights = sum(p.numel() for p in model.parameters())
    snapshots, chosen, last = 3, 1, 1  # of 4 bytes a weight each
    assert methods.disk_need(model, 3) == weights * (4 * (snapshots + chosen + last) + 3 * 12)


def test_a_rounded_base_has_the_weights_that_qlora_trains_beside(tiny):
    torch = pytest.importorskip("torch")
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from tunewise.models import quantised_base, weights

    rounded = weights.load_model(tiny)
    quantised_base.round_linears(rounded)
    layers = dict(rounded.named_modules())
    held = 0
    for name, layer in methods.open_in_4_bits(tiny).named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            back = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            weight = layers[name].weight
            torch.testing.assert_close(weight, back.reshape(weight.shape).to(weight.dtype), rtol=0, atol=0)
            held += 1
    assert held == sum(type(layer) is torch.nn.Linear for layer in layers.values()) - 1  # but the head


def test_held_out_loss_with_an_adapter_beside_the_weights_is_that_of_the_merged_model(tiny, rows, tmp_path):
    """As on a GPU, where adapters stay beside weights in 16 bits."""
    from tunewise.models import weights
    from tunewise.training.held_out import held_out_loss

    folder = train(tiny, rows[:16], (), RECIPE, tmp_path, Silent()).snapshots[-1].folder
    beside, merged, bare = (
        held_out_loss(
            weights.load_model(tiny, *how, merges=merges), rows[16:20], replace(RECIPE, rows_per_pass=1)
        )
        for how, merges in (((folder,), False), ((folder,), True), ((), True))
    )
    assert beside == pytest.approx(merged, rel=1e-5)
    assert beside != pytest.approx(bare, rel=1e-3)


def test_an_adapter_of_qlora_answers_beside_the_base_it_was_trained_on(tiny, rows, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("bitsandbytes")
    from tunewise.models import quantised_base, weights
    from tunewise.training.trust import answer_logits, check_adapter

    recipe = replace(RECIPE, method="qlora", epochs=1.0)
    folder = train(tiny, rows[:16], (), recipe, tmp_path, Silent()).snapshots[-1].folder
    assert quantised_base.is_marked(folder)
    assert weights.adapter_files(folder)[-1].name == quantised_base.MARK
    check_adapter(tiny, folder, rows[:2])
    served = answer_logits(weights.load_model(tiny, folder), rows[0])
    (folder / quantised_base.MARK).rename(tmp_path / "mark")
    unrounded = answer_logits(weights.load_model(tiny, folder), rows[0])
    assert float((served - unrounded).abs().max()) > 1e-3
    base = weights.load_model(tiny)
    quantised_base.round_linears(base)
    torch.testing.assert_close(
        served, answer_logits(weights.merged(base, folder), rows[0]), atol=1e-5, rtol=1e-4
    )
    (folder / quantised_base.MARK).write_text('{"format": "fp4"}')
    with pytest.raises(SettingError, match="nf4"):
        weights.load_model(tiny, folder)


def test_a_mixture_whose_experts_are_written_one_by_one_is_found_as_it_was_trained(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=60, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    model = Qwen3MoeForCausalLM(config)
    with quiet():
        model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert any(".experts.0." in name for name in names)
    assert not any(".experts.0." in name for name in model.state_dict())
    trust.as_saved(model, tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    one = next(name for name in weights if ".experts.1." in name)
    save_file(weights | {one: weights[one] + 1e-3}, file, {"format": "pt"})
    with pytest.raises(trust.TrainingNotTrusted, match="not the one that was trained"):
        trust.as_saved(model, tmp_path)


def test_a_mixture_of_experts_keeps_its_own_router_settings(tmp_path):
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(
        json.dumps({"output_router_logits": True, "router_aux_loss_coef": 0.02, "vocab_size": 9})
    )
    after.write_text(
        json.dumps({"output_router_logits": False, "router_aux_loss_coef": 0.0, "vocab_size": 9})
    )
    methods.keep_router_settings(before, after)
    assert json.loads(after.read_text()) == json.loads(before.read_text())
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({"vocab_size": 9}))
    methods.keep_router_settings(plain, plain)
    assert json.loads(plain.read_text()) == {"vocab_size": 9}
