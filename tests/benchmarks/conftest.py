"""A tiny random model in a folder, and scores kept in a folder of the test's own."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def models_conftest() -> Any:
    """The tiny tokenizer and model that the tests of the models use."""
    path = Path(__file__).parents[1] / "models" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tests_models_conftest", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kept scores and checksums stay out of the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TUNEWISE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    pytest.importorskip("transformers")
    return models_conftest().tiny_tokenizer()


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the folder of a tiny random Llama; ``seed`` other than 0 moves its weights a little."""
    torch = pytest.importorskip("torch")

    def make(seed: int = 0, **settings: Any) -> Path:
        made = models_conftest()
        folder = tmp_path_factory.mktemp("tiny")
        model = made.tiny_model(**settings)
        if seed:
            torch.manual_seed(seed)
            for weight in model.parameters():
                weight.data += 0.05 * torch.randn_like(weight)
        model.save_pretrained(folder)
        made.tiny_tokenizer().save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder()
