"""Memory of a run: hand calculations, the maximum over phases, and what must never go down."""

from dataclasses import replace

import pytest

from tunewise.errors import SettingError
from tunewise.estimation.disk import adapter_bytes, disk
from tunewise.estimation.memory import memory
from tunewise.estimation.models import find_model
from tunewise.estimation.rule import rule_gib, rule_gpu, rule_of_thumb
from tunewise.estimation.setup import Setup, stacks

GIB = 2**30
LLAMA = find_model("Llama-3.1-8B")
COUNT = 8_030_261_248
LINEAR = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
TOKENS = 4096


def test_full_fine_tuning_of_llama_3_1_8b_at_4096_tokens_is_five_times_its_weights():
    # bf16 weights, gradients, two moments, and the transient of the foreach optimizer: published 74.80 GiB.
    found = memory(LLAMA, Setup(method="full", seq_len=TOKENS))
    assert found.peak == "step"
    assert found.allocated.expected == pytest.approx(5 * 2 * COUNT / GIB)
    assert found.trainable == COUNT


def test_a_fused_optimizer_saves_the_transient():
    found = memory(LLAMA, Setup(method="full", seq_len=TOKENS, optimizer="adamw-fused"))
    assert found.phases["step"] == pytest.approx(4 * 2 * COUNT / GIB)


def adapter_by_hand() -> int:
    return 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))


def test_lora_of_llama_3_1_8b_at_4096_tokens_by_hand():
    found = memory(
        LLAMA, Setup(method="lora", lora_rank=16, lora_targets=("q", "k", "v", "o"), seq_len=TOKENS)
    )
    adapter = adapter_by_hand()
    static = 2 * COUNT + 4 * adapter * (1 + 1 + 2)  # float32 adapter, its gradient, two moments
    boundaries = 32 * 2 * 4096 * TOKENS
    logits = (14 * 128256 + 5 * 4096) * TOKENS
    assert found.peak == "loss"
    assert found.trainable == adapter
    assert found.allocated.expected == pytest.approx((static + boundaries + logits) / GIB)


def test_qlora_of_llama_3_1_8b_at_4096_tokens_by_hand():
    setup = Setup(method="qlora", lora_targets=("q", "k", "v", "o"), seq_len=TOKENS, fp32_residual=False)
    found = memory(LLAMA, setup)
    weights = LINEAR * (0.5 + 1 / 64 + 4 / (64 * 256)) + (COUNT - LINEAR) * 2
    static = weights + 16 * adapter_by_hand()
    moving = (32 * 2 * 4096 + 14 * 128256 + 5 * 4096) * TOKENS
    assert found.allocated.expected == pytest.approx((static + moving) / GIB)


def test_the_usual_preparation_for_k_bit_training_costs_float32_embeddings_and_residuals():
    setup = Setup(method="qlora", seq_len=TOKENS)
    plain = memory(LLAMA, replace(setup, fp32_residual=False)).allocated.expected
    more = (COUNT - LINEAR) * 2 + 32 * 2 * 4096 * TOKENS
    assert memory(LLAMA, setup).allocated.expected == pytest.approx(plain + more / GIB)


def test_after_k_bit_preparation_an_mlp_keeps_gate_activation_and_up_in_float32():
    """Llama-3.1-8B has 32 layers of width 14,336: 3 x 2 bytes more for each."""
    setup = Setup(method="qlora", seq_len=TOKENS, checkpointing="none")
    plain = memory(LLAMA, replace(setup, fp32_residual=False)).phases["loss"]
    more = (COUNT - LINEAR) * 2 + 32 * 6 * 14336 * TOKENS
    assert memory(LLAMA, setup).phases["loss"] == pytest.approx(plain + more / GIB)


def test_the_peak_is_the_maximum_of_the_phases():
    for method in ("full", "lora", "qlora"):
        found = memory(LLAMA, Setup(method=method, seq_len=TOKENS))
        phases = [found.phases[name] for name in ("loss", "backward", "step")]
        assert found.allocated.expected == pytest.approx(max(phases))
        assert found.phases[found.peak] == max(phases)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("seq_len", (256, 1024, 4096, 16384)),
        ("micro_batch", (1, 2, 8, 32)),
        ("lora_rank", (4, 16, 64, 256)),
        ("accumulation", (1, 4)),
        ("checkpointing", ("full", "selective", "none")),
        ("attention", ("flash", "eager")),
        ("cross_entropy", ("fused", "chunked", "fast", "logits")),
        ("optimizer", ("sgd", "lion-8bit", "adamw-8bit", "adamw-fused", "adamw")),
    ],
)
def test_more_of_it_never_needs_less_in_any_stack(method, field, values):
    for stack in stacks():
        base = Setup(method=method, stack=stack, seq_len=1024, micro_batch=2)
        needs = [memory(LLAMA, replace(base, **{field: value})).allocated.expected for value in values]
        if field == "cross_entropy" and method == "full":
            needs = needs[2:]  # fused and chunked make the head's gradient early
        assert needs == sorted(needs), stack


@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3", "fsdp"])
def test_more_gpus_never_need_more_on_each(sharding):
    base = Setup(method="full", seq_len=2048, sharding=sharding)
    needs = [memory(LLAMA, replace(base, gpus=gpus)).allocated.expected for gpus in (2, 4, 8, 16)]
    assert needs == sorted(needs, reverse=True)


def test_what_the_driver_shows_lies_above_the_reserve_and_that_above_the_allocated():
    for gpus, sharding in ((1, None), (4, "fsdp")):
        found = memory(LLAMA, Setup(method="lora", seq_len=2048, gpus=gpus, sharding=sharding))
        assert found.allocated.expected < found.reserved.expected < found.device.expected
        for level in (found.allocated, found.reserved, found.device):
            assert level.low < level.expected < level.high


def test_a_card_that_is_nearly_full_gives_its_cache_back():
    setup = Setup(method="lora", seq_len=4096, micro_batch=8)
    free = memory(LLAMA, setup)
    held = memory(LLAMA, replace(setup, capacity_gib=free.allocated.expected + 3))
    assert held.reserved.expected < free.reserved.expected
    assert held.reserved.expected > held.allocated.expected


def test_long_contexts_published_for_unsloth_and_plain_hf_fill_the_card_they_were_found_on():
    # Largest context of Llama-3.1-8B QLoRA, rank 32, all linear, batch 1, on 24 and 80 GB (Unsloth's table).
    for stack, tokens, card in (
        ("unsloth", 78_475, 24), ("unsloth", 342_733, 80), ("hf", 5_789, 24), ("hf", 28_454, 80),
    ):  # fmt: skip
        setup = Setup(method="qlora", lora_rank=32, seq_len=tokens, stack=stack, optimizer="adamw-8bit")
        assert memory(LLAMA, setup).allocated.expected == pytest.approx(card * 0.98 - 1.5, rel=0.12)


def test_a_sequence_beyond_the_positions_is_estimated_with_a_warning():
    found = memory(find_model("gpt2"), Setup(method="full", seq_len=4096))
    assert any("positions" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "qlorra"}, "did you mean 'qlora'"),
        ({"optimizer": "adam-fused"}, "did you mean 'adamw-fused'"),
        ({"method": "qlora", "weight_dtype": "bf16"}, "say lora"),
        ({"method": "full", "weight_dtype": "nf4"}, "say qlora, or bf16"),
        ({"gpus": 4, "sharding": "none"}, "4 GPUs need a way"),
        ({"seq_len": 0}, "seq_len must be a whole number from 1"),
        ({"micro_batch": 10**6}, "absurd"),
        ({"lora_targets": ("c_attn",)}, "q_proj, k_proj"),
    ],
)
def test_a_set_up_that_cannot_be_is_refused_with_what_to_do(change, message):
    with pytest.raises(SettingError, match=message):
        memory(LLAMA, Setup(**change))


def test_a_published_adapter_file_is_predicted_within_a_thousandth():
    # PEFT's comparison: Llama-3.2-3B, rank 32 on q and v; with DoRA; rank 10 on the MLP.
    shape = find_model("Llama-3.2-3B")
    assert shape.lora_parameters(32, ("q_proj", "v_proj")) == 9_175_040
    assert adapter_bytes(shape, 32, ("q_proj", "v_proj")) == pytest.approx(36_715_216, rel=1e-3)
    assert adapter_bytes(shape, 32, ("q_proj", "v_proj"), dora=True) == pytest.approx(37_181_760, rel=1e-3)
    assert adapter_bytes(shape, 10, ("gate_proj", "up_proj", "down_proj")) == pytest.approx(
        37_868_984, rel=1e-3
    )


def test_disk_of_a_full_run_by_hand():
    found = disk(LLAMA, Setup(method="full"), kept=3)
    assert found.model == pytest.approx(2 * COUNT / GIB)
    assert found.checkpoint == pytest.approx(6 * COUNT / GIB)  # weights and two moments in bf16
    assert found.run == pytest.approx(20 * COUNT / GIB)


def test_the_rule_of_thumb_and_where_it_errs():
    assert rule_gib(7_000_000_000, "full") == pytest.approx(52.2, abs=0.05)
    assert rule_gib(7_000_000_000, "lora") == pytest.approx(15.0, abs=0.05)
    assert rule_gib(7_000_000_000, "qlora") == pytest.approx(5.3, abs=0.05)
    assert [rule_gpu(gib) for gib in (5, 17, 30, 60)] == [
        "RTX 3090 24GB", "RTX 4090 24GB", "A100 40GB", "A100 80GB",
    ]  # fmt: skip
    setup = Setup(method="lora", seq_len=4096)
    said = rule_of_thumb(LLAMA, setup, memory(LLAMA, setup))
    assert "below our" in said.errs[0]
    assert "logits of 4,096 tokens" in said.errs[1]
