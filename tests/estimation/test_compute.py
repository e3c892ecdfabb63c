"""FLOPs against hand calculation, and time against what must follow from it."""

from dataclasses import replace

import pytest

from tunewise.estimation.compute import (
    activation_bytes,
    speed,
    training_flops,
    visible_tokens,
)
from tunewise.estimation.hardware import find_gpu, load_hardware
from tunewise.estimation.models import find_model
from tunewise.estimation.setup import Setup

LLAMA = find_model("Llama-3.1-8B")
A100 = find_gpu("A100", load_hardware())
# 32 layers of q, k, v, o (4096 x 4096, twice 4096 x 1024, 4096 x 4096) and three of 4096 x 14336; the head
MATRICES = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 4096 * 128256
ATTENTION = 4 * 32 * 4096 * (4096 / 2)  # scores and values, causal half, at 4,096 tokens


def test_forward_costs_two_flops_per_weight_and_attention_over_the_causal_half():
    flops = training_flops(LLAMA, Setup(method="full", seq_len=4096))
    assert flops.forward == 2 * MATRICES + ATTENTION


def test_full_tuning_costs_six_per_weight_and_eight_with_recomputation():
    none = training_flops(LLAMA, Setup(method="full", seq_len=4096, checkpointing="none"))
    full = training_flops(LLAMA, Setup(method="full", seq_len=4096, checkpointing="full"))
    assert none.executed == 6 * MATRICES + 3 * ATTENTION
    assert full.executed == 8 * MATRICES + 4 * ATTENTION
    assert full.useful == none.executed


def test_frozen_weights_need_no_gradient_so_lora_costs_four_and_its_own_six():
    flops = training_flops(
        LLAMA, Setup(method="lora", seq_len=4096, lora_rank=16, lora_targets=("q",), checkpointing="none")
    )
    adapters = 32 * 16 * (4096 + 4096)
    assert flops.executed == 4 * MATRICES + 3 * ATTENTION + 6 * adapters


def test_an_expert_that_a_token_does_not_visit_costs_it_nothing():
    mixtral = find_model("Mixtral-8x7B-v0.1")
    flops = training_flops(mixtral, Setup(method="lora", seq_len=2048))
    assert flops.forward < 2 * 14e9 < 2 * mixtral.parameters()


@pytest.mark.parametrize(
    ("length", "window", "seen"), [(8, None, 4), (8, 16, 4), (8, 4, 3), (1000, 1, 0.9995)]
)
def test_a_window_bounds_what_a_query_sees(length, window, seen):
    assert visible_tokens(length, window) == seen


def test_activation_bytes_follow_the_formula_for_a_block_of_llama_3():
    assert activation_bytes(LLAMA) == 32 * (16 * 4096 + 4 * 4096 + 4 * 1024 + 8 * 14336)


def test_the_parts_of_a_step_add_up_and_utilisation_follows_from_them():
    setup = Setup(method="full", seq_len=4096, micro_batch=4, accumulation=2)
    fast = speed(LLAMA, setup, A100)
    assert sum(fast.parts.values()) == pytest.approx(fast.step_seconds.expected)
    tokens = 4 * 4096 * 2
    assert fast.tokens_per_second.expected == pytest.approx(tokens / fast.step_seconds.expected)
    useful = training_flops(LLAMA, setup).useful * tokens / fast.step_seconds.expected
    assert fast.utilisation == pytest.approx(useful / 312e12)
    assert fast.tokens_per_second.low < fast.tokens_per_second.expected < fast.tokens_per_second.high


def test_no_gpu_passes_the_share_of_its_peak_that_products_reach():
    for gpu in load_hardware():
        for method in ("full", "lora", "qlora"):
            fast = speed(LLAMA, Setup(method=method, seq_len=8192, micro_batch=8, stack="hf-fused"), gpu)
            assert fast.executed_share < gpu.reachable, gpu.name


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ({"checkpointing": "full"}, {"checkpointing": "none"}),
        ({"stack": "hf"}, {"stack": "hf-fused"}),
        ({"method": "full"}, {"method": "lora"}),
        ({"method": "qlora"}, {"method": "lora"}),
        ({"lora_targets": ("all-linear",)}, {"lora_targets": ("q", "v")}),
        ({"compute_dtype": "fp32", "weight_dtype": "fp32"}, {}),
        ({"compile": False}, {"compile": True}),
    ],
)
def test_what_does_more_work_trains_slower(slow, fast):
    base = Setup(method="lora", seq_len=2048, micro_batch=4)

    def rate(**changed):
        return speed(LLAMA, replace(base, **changed), A100).tokens_per_second.expected

    assert rate(**slow) < rate(**fast)


def test_two_gpus_train_faster_than_one_but_not_twice_as_fast():
    one = speed(LLAMA, Setup(method="lora", seq_len=2048, micro_batch=4), A100)
    for sharding in ("ddp", "fsdp", "zero3"):
        two = speed(LLAMA, Setup(method="lora", seq_len=2048, micro_batch=4, gpus=2, sharding=sharding), A100)
        assert one.tokens_per_second.expected < two.tokens_per_second.expected
        assert two.tokens_per_second.expected <= 2 * one.tokens_per_second.expected


def test_a_measured_factor_scales_time_and_is_named():
    setup = Setup(method="lora", seq_len=2048)
    plain, corrected = speed(LLAMA, setup, A100), speed(LLAMA, setup, A100, factor=1.5)
    assert corrected.step_seconds.expected == pytest.approx(1.5 * plain.step_seconds.expected)
    assert "corrected by 1.50 from measured runs" in corrected.why
