"""Tiny random models with a tokenizer and chat template, in folders like any other local model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKERS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]"]
WORDS = "system user assistant the cat sat on a mat and ate all of it by noon 0 1 2 3 4 5 6 7 8 9"


def tiny_tokenizer(template: str | None = CHATML, stop: str | None = "<|im_end|>") -> Any:
    """Byte-level BPE over a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([WORDS] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=stop, pad_token=stop)
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(kind: str = "llama", **settings: Any) -> Any:
    """A random model whose logits are far apart: 3 layers, 4 heads over 2 key-value heads (GQA)."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(
        kind,
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "initializer_range": 0.4,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        | settings,
    )
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    pytest.importorskip("transformers")
    return tiny_tokenizer


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny products are not worth a second thread, which on a busy machine waits more than it works."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_model(one_thread: None) -> Callable[..., Any]:
    return tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Folder of a tiny random Llama."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> None:
    """Checksums of tiny models stay out of the user's cache folder; the embedded model's is left alone."""
    if request.node.get_closest_marker("model") is None:
        patch = request.getfixturevalue("monkeypatch")
        patch.setenv("TUNEWISE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tiny_local_door(tiny_folder: Path) -> Any:
    from tunewise.models.local import LocalDoor

    return LocalDoor(tiny_folder, usd_per_hour=3.6)
