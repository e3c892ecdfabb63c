"""Batch mode: one answer per request, in order, quickly; a bad request spoils only its own line."""

import csv
import json
import time
from pathlib import Path

import pytest

from tunewise.estimation.batch import estimate_batch, estimate_request
from tunewise.estimation.setup import CHOICES
from tunewise.estimation.spelling import (
    ATTENTION,
    CROSS_ENTROPY,
    METHODS,
    OPTIMIZERS,
    SHARDING,
    STACKS,
    read,
)

MEASURED = Path(__file__).parents[2].parent / "shared" / "data" / "training_memory" / "measured.csv"
REQUEST = {
    "id": "a",
    "model": "Llama 3.1 8B",
    "params_b": 8.03,
    "method": "lora",
    "weight_dtype": "bf16",
    "optimizer": "adamw_torch (foreach)",
    "lora_rank": 16,
    "lora_targets": "q,k,v,o",
    "seq_len": 4096,
    "micro_batch": 2,
    "grad_checkpointing": "yes (recipe default)",
    "attention": "sdpa flash",
    "gpus": 1,
    "stack": "hf",
    "gpu_model": "A100 80GB",
}


def test_answers_come_in_the_order_of_the_requests_and_echo_the_id():
    lines = [json.dumps(REQUEST | {"id": number}) for number in range(5)]
    assert [answer["id"] for answer in estimate_batch(lines)] == [0, 1, 2, 3, 4]


def test_an_answer_has_the_three_levels_with_their_intervals():
    answer = estimate_request(REQUEST)
    for level in ("allocated_gib", "reserved_gib", "device_gib"):
        figures = answer["memory"][level]
        assert 0 < figures["low"] < figures["expected"] < figures["high"]
    expected = [
        answer["memory"][level]["expected"] for level in ("allocated_gib", "reserved_gib", "device_gib")
    ]
    assert expected == sorted(expected)
    assert answer["trainable_params"] == 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))
    assert answer["checkpoint_gib"] > 0
    assert answer["warnings"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "Lama 3.1 8X", "params_b": None}, "unknown model"),
        ({"model": {"hidden_size": 64}, "params_b": None}, "num_attention_heads"),
        ({"method": "telepathy"}, "telepathy"),
        ({"lora_targets": "q_proj,banana"}, "'banana' does not exist"),
        ({"seq_len": -4}, "seq_len"),
        ({"micro_batch": 0}, "micro_batch"),
        ({"micro_batch": 10**9}, "absurd"),
        ({"gpus": "many"}, "gpus"),
        ({"weight_dtype": "int3x"}, "weight_dtype"),
        ({"method": "full", "weight_dtype": "nf4"}, "full fine-tuning cannot train quantised"),
        ({"optimizer": ["adamw"]}, "optimizer"),
    ],
)
def test_a_bad_request_gives_an_error_and_the_rest_go_on(change, message):
    lines = [json.dumps(REQUEST), json.dumps(REQUEST | change | {"id": "bad"}), json.dumps(REQUEST)]
    first, second, third = estimate_batch(lines)
    assert first == third
    assert second["id"] == "bad"
    assert message in second["error"]
    assert "memory" not in second


def test_lines_that_are_no_requests_give_errors():
    answers = list(estimate_batch(["not json", "[1, 2]", "", "null", json.dumps(REQUEST)]))
    assert ["error" in answer for answer in answers] == [True, True, True, False]


def test_an_unknown_key_is_ignored_with_a_warning():
    answer = estimate_request(REQUEST | {"colour": "red"})
    assert "unknown key 'colour' is ignored" in answer["warnings"]
    assert answer["memory"] == estimate_request(REQUEST)["memory"]


def test_an_inline_config_is_read_and_its_count_is_exact():
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    }
    full = estimate_request(
        REQUEST | {"model": config, "method": "full", "lora_rank": "", "lora_targets": ""}
    )
    assert full["trainable_params"] == 8_030_261_248


def test_a_name_nobody_knows_is_estimated_from_its_count_with_a_wide_interval():
    answer = estimate_request(REQUEST | {"model": "in-house-8b", "lora_targets": "all-linear"})
    known = estimate_request(REQUEST | {"lora_targets": "all-linear"})
    width = {
        name: figures["high"] / figures["expected"]
        for name, figures in (
            ("guess", answer["memory"]["allocated_gib"]),
            ("known", known["memory"]["allocated_gib"]),
        )
    }
    assert width["guess"] > width["known"] + 0.2
    assert any("is not known" in warning for warning in answer["warnings"])


def test_a_thousand_requests_take_less_than_five_seconds():
    lines = [json.dumps(REQUEST | {"id": number, "seq_len": 128 + number}) for number in range(1000)]
    start = time.perf_counter()
    assert sum("memory" in answer for answer in estimate_batch(lines)) == 1000
    assert time.perf_counter() - start < 5


@pytest.mark.skipif(not MEASURED.is_file(), reason="the shared data are not here")
def test_every_spelling_of_the_published_table_is_understood():
    with MEASURED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    answers = list(estimate_batch([json.dumps(row) for row in rows]))
    assert [answer.get("error") for answer in answers if "error" in answer] == []
    assert len(answers) == len(rows)


def test_an_inline_config_without_its_type_takes_the_family_of_the_model_with_its_numbers():
    config = {
        "hidden_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 10240,
        "vocab_size": 51200,
        "tie_word_embeddings": False,
    }
    full = {"model": config, "method": "full", "seq_len": 512, "micro_batch": 1}
    assert estimate_request(full)["trainable_params"] == 2_779_683_840  # phi-2


@pytest.mark.parametrize("key", ["optimizer", "cross_entropy", "stack", "sharding", "attention", "method"])
def test_every_word_of_our_own_is_understood_as_itself(key):
    patterns = {
        "optimizer": OPTIMIZERS,
        "cross_entropy": CROSS_ENTROPY,
        "stack": STACKS,
        "sharding": SHARDING,
        "attention": ATTENTION,
        "method": METHODS,
    }
    for word in CHOICES[key]:
        assert read(word, patterns[key], key) == word


def test_an_embedding_among_the_targets_is_trained_whole():
    plain = estimate_request(REQUEST)["trainable_params"]
    more = estimate_request(REQUEST | {"lora_targets": "q,k,v,o,embed_tokens,lm_head"})["trainable_params"]
    assert more - plain == 2 * 128256 * 4096


@pytest.mark.parametrize(
    ("change", "same_as"),
    [
        ({"weight_dtype": "bfloat16"}, {}),
        ({"lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj"]}, {}),
        ({"seq_len": "4k", "micro_batch": "2.0"}, {}),
        ({"grad_checkpointing": True, "attention": "FA2"}, {}),
        ({"method": "QLoRA", "weight_dtype": "4 bit"}, {"method": "qlora", "weight_dtype": "nf4"}),
        ({"optimizer": "adamw_bnb_8bit"}, {"optimizer": "AdamW8bit"}),
        ({"cross_entropy": "Liger fused linear"}, {"cross_entropy": "cut cross-entropy"}),
        ({"gpus": 2, "sharding": "FSDP full shard"}, {"gpus": "2", "sharding": "fsdp2"}),
        ({"gpus": 2, "sharding": "DeepSpeed ZeRO-3"}, {"gpus": 2, "sharding": "zero_3"}),
    ],
)
def test_other_spellings_mean_the_same(change, same_as):
    one, other = estimate_request(REQUEST | change), estimate_request(REQUEST | same_as)
    assert "error" not in one
    assert one["memory"] == other["memory"]
