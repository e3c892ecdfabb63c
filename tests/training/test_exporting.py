"""What is exported loads in plain PEFT and plain transformers, and vLLM's limits are said."""

import json
from pathlib import Path

import pytest

from tunewise.errors import RunError, SettingError, StoreError
from tunewise.exporting import export, vllm_problems, vllm_rank
from tunewise.progress import Silent
from tunewise.training.checkpoints import publish
from tunewise.training.recipe import Recipe, quiet, train


@pytest.fixture(scope="module")
def run(tiny, rows, tmp_path_factory) -> Path:
    """A folder as ``tunewise train`` leaves it."""
    import shutil

    folder = tmp_path_factory.mktemp("run")
    recipe = Recipe(5e-3, 1.0, 0.0, 1.0, 4, 8, 0, "fp32")
    trained = train(tiny, rows[:16], (), recipe, folder / "work", Silent())
    snapshot = trained.snapshots[-1].folder

    def write(into):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(snapshot / name, into / name)

    publish(folder / "lora" / "adapter", write)
    (folder / "train.json").write_text(json.dumps({"model": str(tiny)}), encoding="utf-8")
    return folder


def test_the_adapter_loads_in_plain_peft_and_merged_in_plain_transformers_with_the_same_logits(
    run, tiny, rows, tmp_path
):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    beside, merged = export(run, out=tmp_path / "a"), export(run, merge=True, out=tmp_path / "m")
    assert (beside.kind, merged.kind) == ("adapter", "model")
    ids = torch.tensor([rows[0].ids])
    with quiet(), torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny)
        adapted = PeftModel.from_pretrained(base, str(beside.folder))(input_ids=ids).logits
        whole = AutoModelForCausalLM.from_pretrained(merged.folder)(input_ids=ids).logits
        plain = AutoModelForCausalLM.from_pretrained(tiny)(input_ids=ids).logits
    torch.testing.assert_close(whole, adapted, atol=1e-4, rtol=1e-4)
    assert float((whole - plain).abs().max()) > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(merged.folder)
    assert tokenizer.chat_template
    assert beside.serve == (
        f"vllm serve {tiny} --enable-lora --max-lora-rank 8 --max-loras 1 --lora-modules a={beside.folder}"
    )
    assert merged.serve == f"vllm serve {merged.folder}"


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_an_export_that_the_disk_refuses_leaves_nothing_behind(run, tmp_path, monkeypatch, merge, there):
    """With a limit on files' sizes, as a full disk: safetensors raises an error of its own."""
    import resource

    folder = tmp_path / "here" / "a"
    if there:
        folder.mkdir(parents=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(StoreError, match="could not be written"):
            export(run, out=folder, merge=merge)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "here").rglob("*")] == (["a"] if there else [])


def test_an_empty_folder_is_filled_where_it_is_a_link_or_the_working_folder(run, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(run, out=tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    export(run, out=".")
    for name in ("real", "work"):
        names = {path.name for path in (tmp_path / name).iterdir()}
        assert names == {"adapter_config.json", "adapter_model.safetensors"}


def test_a_merged_model_ends_where_training_taught_it_to_whatever_its_base_says(run, tiny, tmp_path):
    from transformers import AutoTokenizer, GenerationConfig

    stop = AutoTokenizer.from_pretrained(tiny).convert_tokens_to_ids("<|im_end|>")
    other = GenerationConfig(eos_token_id=1)
    kept = (tiny / "generation_config.json").read_text(encoding="utf-8")
    try:
        other.save_pretrained(tiny)
        merged = export(run, merge=True, out=tmp_path / "m").folder
    finally:
        (tiny / "generation_config.json").write_text(kept, encoding="utf-8")
    assert set(GenerationConfig.from_pretrained(merged).eos_token_id) == {1, stop}


def test_an_adapter_of_qlora_is_served_on_a_4_bit_base_and_not_beside_one_of_lora(run, tmp_path):
    import shutil

    from tunewise.models.quantised_base import write_mark

    plain = export(run, out=tmp_path / "plain")
    shutil.copytree(run, tmp_path / "run")
    write_mark(tmp_path / "run" / "lora" / "adapter")
    found = export(tmp_path / "run", out=tmp_path / "four")
    assert found.serve is not None
    assert " --quantization bitsandbytes --enable-lora " in found.serve
    assert (found.folder / "quantised_base.json").is_file()
    with pytest.raises(SettingError, match="do not answer on the same base"):
        export(tmp_path / "run", out=tmp_path / "both", beside=[plain.folder])


def test_several_adapters_of_one_base_stand_in_one_line_with_the_highest_rank(run, tiny, tmp_path):
    one = export(run, out=tmp_path / "one")
    config = json.loads((one.folder / "adapter_config.json").read_text(encoding="utf-8"))
    (one.folder / "adapter_config.json").write_text(json.dumps(config | {"r": 40}), encoding="utf-8")
    two = export(run, out=tmp_path / "two", beside=[one.folder])
    assert two.serve == (
        f"vllm serve {tiny} --enable-lora --max-lora-rank 64 --max-loras 2 "
        f"--lora-modules two={two.folder} one={one.folder}"
    )
    other = config | {"base_model_name_or_path": "elsewhere"}
    (one.folder / "adapter_config.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(SettingError, match="an adapter of elsewhere"):
        export(run, out=tmp_path / "three", beside=[one.folder])
    with pytest.raises(SettingError, match=r"no adapter_config\.json"):
        export(run, out=tmp_path / "three", beside=[tmp_path])
    with pytest.raises(SettingError, match="whole model"):
        export(run, out=tmp_path / "three", merge=True, beside=[two.folder])
    assert not (tmp_path / "three").exists()


def test_two_adapters_of_one_name_and_adapters_that_cannot_be_served_are_refused_before_anything_is_written(
    run, tmp_path
):
    one = export(run, out=tmp_path / "a" / "export").folder
    two = export(run, out=tmp_path / "b" / "export").folder
    with pytest.raises(SettingError, match="two adapters are called 'export'"):
        export(run, out=tmp_path / "x", beside=[one, two])
    path = one / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for broken, says in [
        ("{cut", "is not JSON"),
        (json.dumps({**config, "r": None}), "no rank r"),
        (json.dumps({**config, "use_dora": True}), "export cannot be served by vLLM: DoRA"),
    ]:
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(SettingError, match=says):
            export(run, out=tmp_path / "x", beside=[one])
    assert not (tmp_path / "x").exists()


def test_vllm_is_given_the_folder_of_the_embedded_model_not_our_word_for_it(run, tiny, tmp_path, monkeypatch):
    from tunewise import exporting

    monkeypatch.setattr(exporting, "base_of", lambda folder: (tiny, "embedded"))
    said = export(run, out=tmp_path / "a").serve
    assert said is not None
    assert said.startswith(f"vllm serve {tiny} --enable-lora")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"r": 600}, "rank 600 is above 512"),
        ({"r": 8, "bias": "all"}, "biases"),
        ({"r": 8, "modules_to_save": ["lm_head"]}, "lm_head"),
        ({"r": 8, "use_dora": True}, "DoRA"),
        ({"r": 8, "rank_pattern": {"q_proj": 600}}, "rank 600 is above 512"),
        ({"r": 8, "target_modules": ["q_proj", "mlp.gate"]}, "adapters on mlp.gate are not known"),
        ({"r": 8, "target_parameters": ["experts"]}, "target_parameters"),
    ],
)
def test_what_vllm_would_refuse_is_named(config, says):
    assert says in vllm_problems(config)[0]
    assert vllm_problems({"r": 8, "bias": "none"}) == ()


@pytest.mark.parametrize(("rank", "most"), [(1, 1), (4, 8), (8, 8), (100, 128), (600, None)])
def test_the_smallest_rank_of_vllm_that_holds_the_adapter(rank, most):
    assert vllm_rank(rank) == most


def test_what_cannot_be_exported_says_why(run, tmp_path):
    with pytest.raises(RunError, match="nothing that was tuned"):
        export(tmp_path)
    with pytest.raises(RunError, match="no tuned 'full'; it has lora"):
        export(run, rung="full")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SettingError, match="is not empty"):
        export(run, out=tmp_path / "full")
