"""Models of which some layers see a window and some the whole context; adapters on experts; ranks."""

import pytest

from tunewise.estimation.compute import training_flops
from tunewise.estimation.inference import inference
from tunewise.estimation.models import find_model
from tunewise.estimation.setup import Setup

GIB = 2**30


def test_keys_and_values_of_gpt_oss_are_those_of_twelve_full_layers_and_twelve_windows():
    """By hand: 2 x 8 heads x 64 x 2 bytes = 2,048 a token and layer; 12 layers hold all, 12 hold 128."""
    found = inference(find_model("gpt-oss-20b"), context=131_072)
    assert found.kv_gib * GIB == pytest.approx(2048 * (12 * 131_072 + 12 * 128))


@pytest.mark.parametrize(
    ("config", "full"),
    [
        ({"layer_types": ["sliding_attention", "full_attention"] * 2}, 2),
        ({"sliding_window_pattern": 4}, 1),
        ({"model_type": "gemma2"}, 2),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 3}, 3),
        ({"model_type": "mistral"}, 0),
    ],
)
def test_which_layers_see_everything_is_read_from_the_config(config, full):
    numbers = {
        "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": 1000, "sliding_window": 16,
    }  # fmt: skip
    shape = find_model({"model_type": "llama", **numbers, **config})
    kv = 2 * shape.kv_width * 2  # bytes of a token in a layer
    found = inference(shape, context=256)
    assert found.kv_gib * GIB == pytest.approx(kv * (full * 256 + (4 - full) * 16))
    assert inference(shape, context=8).kv_gib * GIB == pytest.approx(kv * 4 * 8)


def test_an_adapter_on_experts_is_multiplied_where_the_token_goes():
    shape = find_model("Mixtral-8x7B-v0.1")
    setup = Setup(
        method="lora", seq_len=1, lora_rank=16, lora_targets=("gate", "up", "down"), checkpointing="none"
    )
    experts = 32 * 2 * 3 * 16 * (4096 + 14336)  # layers, active experts, matrices, rank, widths
    without = 2 * shape.matmul_parameters()
    assert training_flops(shape, setup).forward == pytest.approx(without + 2 * experts, rel=1e-3)


def test_the_router_is_no_matrix_that_a_rank_is_too_large_for():
    shape = find_model("Mixtral-8x7B-v0.1")
    assert not [
        line for line in Setup(method="lora").complete().warnings(shape) if "exceeds the width" in line
    ]
    few = Setup(method="lora", lora_rank=2048, lora_targets=("k",)).complete().warnings(shape)
    assert any("lora_rank 2048 exceeds the width 1024" in line for line in few)


def test_a_distilled_qwen_has_a_head_of_its_own():
    assert find_model("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B").parameters() == 1_777_088_000
