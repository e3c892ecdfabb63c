"""Parameters, modules and adapters follow from the shape, to the last weight."""

import json
from pathlib import Path

import pytest

from tunewise.errors import SettingError, WorldError
from tunewise.estimation.families import shape_from_count, shape_of
from tunewise.estimation.models import catalogue, find_model, known_model

CONFIGS = Path(__file__).parents[2].parent / "shared" / "data" / "model_configs.json"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


def test_llama_3_1_8b_counted_by_hand():
    shape = shape_of(LLAMA, "llama")
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    block = attention + 3 * 4096 * 14336 + 2 * 4096
    assert shape.parameters() == 32 * block + 2 * 128256 * 4096 + 4096 == 8_030_261_248
    assert shape.linear_parameters() == 32 * (block - 2 * 4096)
    assert shape.matmul_parameters() == shape.linear_parameters() + 128256 * 4096


def test_the_catalogue_counts_every_published_parameter():
    published = {name: entry["parameters"] for name, entry in catalogue().items() if "parameters" in entry}
    assert len(published) > 90
    assert {name: find_model(name).parameters() for name in published} == published


@pytest.mark.skipif(not CONFIGS.is_file(), reason="the shared data are not here")
def test_all_63_models_of_the_shared_file_are_known_and_exact():
    for name, config in json.loads(CONFIGS.read_text(encoding="utf-8")).items():
        assert find_model(name).parameters() == config["params_from_formula"], name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Llama 3.1 8B", "Llama-3.1-8B"),
        ("Meta-Llama-3-8B-GPTQ", "Llama-3-8B"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("gpt_bigcode-santacoder", "santacoder"),
        ("Mixtral-8x7B-Instruct-v0.1-GPTQ", "Mixtral-8x7B-v0.1"),
        ("Qwen-1_8B-Chat", "Qwen-1.8B"),
        ("unsloth/llama-3-8b-bnb-4bit", "Llama-3-8B"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tiny-llama-1.1b"),
    ],
)
def test_usual_spellings_of_a_name_are_understood(spelling, name):
    found = known_model(spelling)
    assert found is not None
    assert found.name == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SettingError, match=r"Nearest:.*Qwen2\.5-7B"):
        find_model("Qwen2.5-7")


def test_a_config_without_a_needed_key_names_it():
    config = {key: value for key, value in LLAMA.items() if key != "num_hidden_layers"}
    with pytest.raises(SettingError, match="lacks 'num_hidden_layers'"):
        shape_of(config, "mine")


def test_a_value_that_cannot_be_is_named():
    with pytest.raises(SettingError, match="'hidden_size' must be a positive whole number, got -1"):
        shape_of(LLAMA | {"hidden_size": -1}, "mine")


def test_an_unknown_architecture_widens_the_interval_and_says_so():
    shape = shape_of(LLAMA | {"model_type": "strange"}, "mine")
    assert not shape.exact
    assert shape.spread > 0
    assert "strange" in str(shape.note)


def test_a_count_alone_gives_a_shape_with_that_count():
    shape = shape_from_count(7_000_000_000, "secret")
    assert shape.parameters() == 7_000_000_000
    assert not shape.exact
    assert 20 <= shape.layers <= 40


def test_lora_targets_by_name_role_and_all():
    shape = find_model("Llama-3.1-8B")
    by_hand = 32 * 16 * ((4096 + 4096) * 2 + (4096 + 1024) * 2)
    assert shape.lora_parameters(16, ("q", "k", "v", "o")) == by_hand
    assert shape.lora_parameters(16, ("q_proj", "k_proj", "v_proj", "o_proj")) == by_hand
    everything = by_hand + 32 * 16 * 3 * (4096 + 14336)
    assert shape.lora_parameters(16, ("all-linear",)) == everything


def test_a_target_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(SettingError, match=r"'q_porj' does not exist.*did you mean 'q_proj'.*gate_proj"):
        find_model("Llama-3.1-8B").lora_parameters(8, ("q_porj",))


def test_a_fused_matrix_is_targeted_once():
    shape = find_model("gpt2")
    assert shape.lora_parameters(8, ("q", "k", "v")) == 12 * 8 * (768 + 3 * 768)


def test_a_folder_and_a_file_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert (
        find_model(tmp_path).parameters()
        == find_model(tmp_path / "config.json").parameters()
        == 8_030_261_248
    )


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"without a config\.json"):
        find_model(tmp_path)


def test_offline_a_hub_id_says_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WorldError, match=r"give a config\.json"):
        find_model("nobody/has-this-model")
