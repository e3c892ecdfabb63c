"""The local door: what it opens, what it refuses and how it says so, and that adapters and prices count."""

import json
import shutil
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402
from tunewise.data import Message
from tunewise.errors import DataError, DoorError, SettingError
from tunewise.models import precision as precision_module
from tunewise.models import weights
from tunewise.models.door import Decoding, Door, Request
from tunewise.models.joint_attention import RowsKV
from tunewise.models.local import LocalDoor
from tunewise.models.packed_linear import PackedLinear
from tunewise.models.tokens import render


def ask(text: str, longest: int = 12, **options) -> Request:
    return Request((Message("user", text),), Decoding(longest, **options))


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model's folder, to be changed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def adapter(tiny_folder, tmp_path_factory) -> Path:
    """A LoRA adapter of the tiny model whose differences are large."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with weights.quiet_transformers():
        tuned = peft.get_peft_model(base, config)
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    place = tmp_path_factory.mktemp("adapter")
    tuned.save_pretrained(str(place))
    return place


def plain_texts(model, tokenizer, requests: list[Request]) -> list[str]:
    texts = []
    for request in requests:
        ids = torch.tensor([render(tokenizer, request.messages)[0]])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request.decoding.max_new_tokens,
            do_sample=False,
        )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def test_answers_are_those_of_plain_generate(tiny_folder, tiny_local_door):
    from transformers import AutoModelForCausalLM

    requests = [ask("the cat"), ask("sat on a mat and ate all of it"), ask("0 1 2 3")]
    answers = tiny_local_door.answer(requests)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    assert [a.text for a in answers] == plain_texts(plain, tiny_local_door.tokenizer, requests)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.status == "ok"
        assert answer.tokens_in == tiny_local_door.count_tokens(request.messages)
        assert answer.tokens_out == 12 or answer.finish == "stop"


def test_an_adapter_is_merged_into_the_weights(tiny_folder, adapter):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    requests = [ask("the cat"), ask("sat on a mat")]
    tuned = LocalDoor(tiny_folder, adapter=adapter)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    with weights.quiet_transformers():
        beside = PeftModel.from_pretrained(plain, str(adapter))
    texts = [answer.text for answer in tuned.answer(requests)]
    assert texts == plain_texts(beside, tuned.tokenizer, requests)
    assert texts != [answer.text for answer in LocalDoor(tiny_folder).answer(requests)]


def last_logits(door, text):
    """The logits behind a prompt, by the door's own generator, and its model."""
    generator = door._load().generator
    ids = tuple(door.prompt_ids(ask(text).messages))
    with torch.inference_mode():
        return generator.read(RowsKV([0], len(ids), None, generator.model.device), [ids]), generator.model


def test_layers_in_bf16_answer_nearly_as_in_fp32_with_an_adapter_beside_them(tiny_folder, adapter):
    exact, fp32 = last_logits(LocalDoor(tiny_folder, adapter=adapter), "the cat")
    rounded, bf16 = last_logits(LocalDoor(tiny_folder, adapter=adapter, precision="bf16"), "the cat")
    bare, _ = last_logits(LocalDoor(tiny_folder, precision="bf16"), "the cat")
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max() < (rounded - bare).abs().max()
    layers = [module for module in bf16.modules() if isinstance(module, PackedLinear)]
    assert [layer.rounded for layer in layers] == [layer is not bf16.lm_head for layer in layers]
    assert rounded.dtype == torch.float32
    assert any("lora_A" in name for name, _ in bf16.named_modules())
    assert not any("lora_A" in name for name, _ in fp32.named_modules())


def test_what_a_cpu_multiplies_in_is_in_the_fingerprint_and_named(tiny_folder, monkeypatch):
    fp32, bf16 = (LocalDoor(tiny_folder, precision=precision) for precision in ("fp32", "bf16"))
    assert fp32.fingerprint != bf16.fingerprint
    assert bf16.hardware.endswith("float32, layers in bfloat16")
    for amx, same in ((True, bf16), (False, fp32)):
        monkeypatch.setattr(precision_module, "has_amx", lambda amx=amx: amx)
        assert LocalDoor(tiny_folder, precision="auto").fingerprint == same.fingerprint


def test_it_is_a_door_that_stays_on_this_machine(tiny_local_door):
    assert isinstance(tiny_local_door, Door)
    assert tiny_local_door.host is None
    assert tiny_local_door.context_window == 512
    assert tiny_local_door.concurrency == 1


def test_an_answer_costs_its_share_of_the_machine_s_hour(tiny_folder):
    answer = LocalDoor(tiny_folder, usd_per_hour=7.2).answer([ask("the cat")])[0]
    assert answer.usd == pytest.approx(answer.seconds * 7.2 / 3600)
    assert LocalDoor(tiny_folder).answer([ask("the cat")])[0].usd is None


def test_counting_tokens_loads_no_weights(tiny_folder, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(weights, "load_model", fail)
    door = LocalDoor(tiny_folder)
    assert door.count_tokens((Message("user", "the cat"),)) == len(
        door.tokenizer("<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    )


def test_a_prompt_longer_than_the_window_names_its_tokens_and_the_window(tiny_local_door):
    text = "the cat " * 300
    tokens = tiny_local_door.count_tokens((Message("user", text),))
    with pytest.raises(DataError, match=rf"{tokens} tokens.* 12 more .*512 in all.*'the cat the cat"):
        tiny_local_door.answer([ask("the"), ask(text)])


def test_an_answer_that_could_pass_the_window_is_refused_too(tiny_local_door):
    tokens = tiny_local_door.count_tokens((Message("user", "the cat"),))
    assert len(tiny_local_door.answer([ask("the cat", 512 - tokens)])) == 1
    with pytest.raises(DataError):
        tiny_local_door.answer([ask("the cat", 513 - tokens)])


def test_pickles_are_refused_before_anything_is_loaded(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SettingError, match=r"pickles only.*pytorch_model\.bin"):
        LocalDoor(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("config.json", "config.json"), ("model.safetensors", "expected weights as model.safetensors")],
)
def test_a_folder_that_is_no_model_says_what_is_missing(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(SettingError, match=message):
        LocalDoor(folder)


def test_an_adapter_given_as_a_model_is_recognised(adapter):
    with pytest.raises(SettingError, match="this is an adapter"):
        LocalDoor(adapter)


def test_a_model_given_as_an_adapter_says_what_is_missing(tiny_folder):
    with pytest.raises(SettingError, match=r"PEFT's layout, adapter_config.json is missing"):
        LocalDoor(tiny_folder, adapter=tiny_folder)


def test_an_adapter_of_another_model_is_a_clear_error(tiny_folder, adapter, make_model, tmp_path):
    make_model(hidden_size=40, head_dim=10).save_pretrained(tmp_path / "wide")
    for path in tiny_folder.glob("*token*"):
        shutil.copy(path, tmp_path / "wide")
    shutil.copy(tiny_folder / "chat_template.jinja", tmp_path / "wide")
    door = LocalDoor(tmp_path / "wide", adapter=adapter)
    with pytest.raises(SettingError, match="does not fit the model"):
        door.answer([ask("the cat")])


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / weights.INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(SettingError, match=r"names model-1\.safetensors, which is not there"):
        LocalDoor(folder)


def test_weights_in_several_files_are_read(folder, tiny_local_door, make_model):
    (folder / "model.safetensors").unlink()
    make_model().save_pretrained(folder, max_shard_size="20KB")
    assert len(weights.weight_files(folder)) > 1
    requests = [ask("the cat")]
    assert LocalDoor(folder).answer(requests)[0].text == tiny_local_door.answer(requests)[0].text


@pytest.mark.parametrize("given", ["/no/such/folder", "./no-such-folder", "a b", Path("no-such-folder")])
def test_a_missing_folder_is_a_clear_error(given):
    with pytest.raises(SettingError, match="there is no such folder"):
        LocalDoor(given)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(SettingError, match="found a file"):
        LocalDoor(tmp_path / "model.gguf")


@pytest.mark.parametrize(("trouble", "error"), [("absent", SettingError), ("offline", DoorError)])
def test_a_hub_id_that_cannot_be_had_says_why(monkeypatch, trouble, error):
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    def snapshot(hub_id: str, local_files_only: bool = False, **_: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not in the cache")
        if trouble == "absent":
            raise errors.RepositoryNotFoundError(
                "404", response=httpx.Response(404, request=httpx.Request("GET", "/"))
            )
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(error, match="no such folder here, and the hub"):
        LocalDoor("someone/some-model")


def test_a_hub_model_in_the_cache_is_used_without_the_network(monkeypatch, tiny_folder):
    import huggingface_hub

    def snapshot(hub_id: str, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only
        return str(tiny_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert LocalDoor("someone/some-model").folder == tiny_folder


def test_the_fingerprint_follows_weights_and_adapter_not_the_place(folder, tiny_folder, adapter):
    same = LocalDoor(tiny_folder).fingerprint
    assert LocalDoor(folder).fingerprint == same
    assert LocalDoor(folder, adapter=adapter).fingerprint != same
    (folder / "README.md").write_text("no part of the model", encoding="utf-8")
    assert LocalDoor(folder).fingerprint == same
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert LocalDoor(folder).fingerprint != same


def test_the_fingerprint_follows_the_chat_template(folder):
    before = LocalDoor(folder).fingerprint
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert LocalDoor(folder).fingerprint != before


def test_large_files_are_read_once_for_their_checksum(folder, monkeypatch):
    before = weights.model_checksum(folder)
    monkeypatch.setattr(weights, "file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert weights.model_checksum(folder) == before


def test_a_cache_folder_that_cannot_be_written_costs_only_time(folder, monkeypatch, tmp_path):
    before = weights.model_checksum(folder)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "file" / "below"))
    assert weights.model_checksum(folder) == before


def test_doors_to_the_same_weights_share_them(tiny_folder):
    one, other = LocalDoor(tiny_folder), LocalDoor(tiny_folder, name="tune")
    request = ask("the cat sat on a mat and ate all of it by noon")
    one.answer([request])
    other.answer([request])
    assert one._held is other._held
    one.close()
    assert other.answer([request])[0].cached_in


def test_no_requests_no_answers(tiny_local_door):
    assert tiny_local_door.answer([]) == []


@pytest.mark.model
def test_the_embedded_model_answers_and_is_loaded_in_two_seconds():
    from tunewise.models.embedded import embedded_folder

    try:
        folder = embedded_folder()
    except SettingError as missing:
        pytest.skip(str(missing))
    import transformers  # noqa: F401  (its import is not what is timed)

    began, started = time.perf_counter(), time.process_time()
    weights.load_model(folder)
    weights.load_tokenizer(folder)
    own = time.process_time() - started  # without what others do on this machine meanwhile
    assert min(time.perf_counter() - began, own) < 2
    door = LocalDoor("embedded")
    capital, twice = door.answer([ask("What is the capital of France?", 24), ask("Say yes.", 8)])
    assert "Paris" in capital.text
    assert capital.finish == "stop"
    assert twice.tokens_out is not None
