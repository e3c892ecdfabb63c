"""Peak memory in float32 against counted tensors of real steps (benchmarks/own_memory.py, torch 2.13)."""

import pytest

import tunewise

# SmolLM2-135M, 2 rows, AdamW foreach, sdpa, no checkpointing: bytes of tensors at the peak of steps 2 and 3
COUNTED = {
    ("lora", 128): 1_058_225_304,
    ("lora", 256): 1_519_774_872,
    ("lora", 512): 2_442_874_008,
    ("qlora", 128): 688_550_544,
    ("qlora", 256): 1_150_100_112,
    ("qlora", 512): 2_073_199_248,
    ("full", 128): 2_690_303_552,
    ("full", 256): 2_690_305_600,
    ("full", 512): 3_595_256_904,
}


def predicted(method: str, length: int, **more) -> float:
    settings = {"micro_batch": 2, "checkpointing": "none", "attention": "sdpa", **more}
    found = tunewise.estimate("SmolLM2-135M", method=method, lengths=length, gpu="cpu", **settings)
    return found.memory.allocated.expected * 2**30


@pytest.mark.parametrize(("method", "length"), COUNTED)
def test_predicted_peaks_lie_within_ten_per_cent_of_counted_tensors(method, length):
    assert predicted(method, length) == pytest.approx(COUNTED[method, length], rel=0.10)


def test_a_token_more_costs_what_the_block_s_tensors_take():
    """LoRA on every matrix, by hand: inputs of norms and matrices 4h, attention 2q + 2kv, MLP 4I, 7 ranks."""
    h, q, kv, width, rank = 576, 576, 192, 1536, 16
    block = 4 * h + 2 * q + 2 * kv + 4 * width + 7 * rank
    token = 4 * (30 * block + 3 * 49152 + 3 * h)
    assert predicted("lora", 512) - predicted("lora", 256) == pytest.approx(2 * 256 * token, rel=1e-6)


def test_eager_attention_keeps_the_probabilities_of_every_layer():
    more = predicted("lora", 256, attention="eager") - predicted("lora", 256)
    assert more == pytest.approx(30 * 9 * 256 * 256 * 2 * 4)


def test_checkpointing_keeps_one_hidden_state_a_layer():
    less = predicted("lora", 512) - predicted("lora", 512, checkpointing="full")
    assert less > 0.9e9
