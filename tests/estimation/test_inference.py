"""Serving: sizes by hand, bounds in the right order."""

import pytest

from tunewise.errors import SettingError
from tunewise.estimation.hardware import find_gpu, load_hardware
from tunewise.estimation.inference import inference, kv_bytes_per_token, weight_bytes
from tunewise.estimation.models import find_model

LLAMA = find_model("Llama-3.1-8B")
A100 = find_gpu("A100", load_hardware())


def test_keys_and_values_of_llama_3_take_128_kib_a_token():
    assert kv_bytes_per_token(LLAMA) == 2 * 32 * 8 * 128 * 2 == 128 * 1024


def test_the_cache_grows_with_context_and_concurrency_and_a_window_bounds_it():
    one = inference(LLAMA, context=8192)
    assert one.kv_gib == 1.0
    assert inference(LLAMA, context=8192, concurrency=4).kv_gib == 4.0
    mistral = find_model("Mistral-7B-v0.1")
    if mistral.sliding_window:
        assert inference(mistral, context=32768).kv_gib == inference(mistral, context=4096).kv_gib


def test_weights_in_16_bits_take_two_bytes_each_and_four_bits_spare_the_embeddings():
    assert weight_bytes(LLAMA, "bf16") == 2 * LLAMA.parameters()
    rest = LLAMA.parameters() - LLAMA.linear_parameters()
    assert weight_bytes(LLAMA, "nf4") == 0.5625 * LLAMA.linear_parameters() + 2 * rest


def test_decoding_one_sequence_is_bound_by_reading_the_weights():
    found = inference(LLAMA, context=1024, gpu=A100)
    read = (2 * LLAMA.parameters() + 1024 * 128 * 1024) / 2039e9
    assert found.decode_seconds.low == pytest.approx(read / 0.85)
    assert found.decode_seconds.low < found.decode_seconds.expected < found.decode_seconds.high


def test_a_large_batch_is_bound_by_arithmetic_and_serves_more_tokens():
    one = inference(LLAMA, context=256, gpu=A100)
    many = inference(LLAMA, context=256, concurrency=512, gpu=A100)
    assert many.decode_seconds.expected > one.decode_seconds.expected
    assert many.tokens_per_second.expected > 50 * one.tokens_per_second.expected


def test_plain_eager_decoding_measured_on_an_a100_40_lies_within_the_bounds():
    """litgpt's published figure for Llama-2-7B in bf16: 31 tokens/s."""
    found = inference(find_model("Llama-2-7b-hf"), context=256, gpu=find_gpu("A100-40", load_hardware()))
    assert found.tokens_per_second.low * 0.95 <= 31 <= found.tokens_per_second.high


def test_many_adapters_on_one_base_take_less_than_as_many_models():
    found = inference(LLAMA, context=1024, gpu=A100, adapters=100, adapter_parameters=41_943_040)
    assert found.adapters["one_base_gib"] == pytest.approx(
        found.weights_gib + found.kv_gib + 100 * 41_943_040 * 2 / 2**30
    )
    assert found.adapters["merged_models_gib"] == pytest.approx(100 * (found.weights_gib + found.kv_gib))
    assert found.adapters["adapters_that_fit"] > 100 > found.adapters["merged_models_that_fit"] > 0


def test_absurd_sizes_are_refused():
    with pytest.raises(SettingError, match="start at 1"):
        inference(LLAMA, context=0)
    with pytest.raises(SettingError, match="unknown weight format 'q3'"):
        inference(LLAMA, context=1, weights="q3")
