"""From what a user calls a model to its shape: a config, a folder, a name of the catalogue, or a hub id."""

import difflib
import functools
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError, WorldError
from tunewise.estimation.families import shape_from_count, shape_of
from tunewise.estimation.shapes import Shape

HUB = "https://huggingface.co"
HUB_SECONDS = 20.0
# Endings and beginnings that do not change a model's shape.
_SAME_SHAPE = re.compile(
    r"(?<![a-z0-9])(instruct|chat|it|hf|base|gptq|awq|bnb|4bit|8bit|int4|int8|unsloth|meta|pretrained|finetune\w*"
    r"|gpt_bigcode|coder|math|dpo|sft|preview|fp16|bf16|gguf|quantized|dynamic)(?![a-z])"
)
_OTHER_NAMES = {  # names in use for a model that the catalogue has under another
    "embedded": "SmolLM2-135M",
    "vicuna-7b": "Llama-2-7b-hf",
    "vicuna-13b": "Llama-2-13b-hf",
    "zephyr-7b": "Mistral-7B-v0.1",
    "zephyr-7b-beta": "Mistral-7B-v0.1",
    "alpaca-7b": "llama-7b",
    "tinyllama-1.1b": "tiny-llama-1.1b",
    "tinyllama": "tiny-llama-1.1b",
    "deepseek-r1-distill-llama-8b": "R1-Distill-Llama-8B",
    "deepseek-r1-distill-llama-70b": "Llama-3.1-70B",
    "deepseek-r1-distill-qwen-1.5b": "R1-Distill-Qwen-1.5B",
    "deepseek-r1-distill-qwen-7b": "Qwen2.5-7B",
    "deepseek-r1-distill-qwen-14b": "Qwen2.5-14B",
    "deepseek-r1-distill-qwen-32b": "Qwen2.5-32B",
    "glm-4-9b-chat": "glm-4-9b",
    "phi-3-mini": "Phi-3-mini-4k-instruct",
    "phi-3.5-mini": "Phi-3.5-mini-instruct",
    "phi-3-medium": "Phi-3-medium-4k-instruct",
    "phi-4-mini": "Phi-4-mini-instruct",
    "mistral-7b": "Mistral-7B-v0.1",
    "mistral-7b-v0.2": "Mistral-7B-v0.1",
    "mixtral-8x7b": "Mixtral-8x7B-v0.1",
    "mixtral-8x22b": "Mixtral-8x22B-v0.1",
    "olmo-2-7b": "OLMo-2-1124-7B",
    "olmo-1b": "OLMo-1B-hf",
}


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, Any]]:
    """Configs of the known models by name, each with its source."""
    text = resources.files("tunewise.estimation").joinpath("models.json").read_text(encoding="utf-8")
    found: dict[str, Mapping[str, Any]] = json.loads(text)
    return found


@functools.cache
def _by_key() -> Mapping[str, str]:
    """Catalogue names by their squeezed spelling; the plain spelling wins over one without its version."""
    keys: dict[str, str] = {}
    for name in catalogue():
        keys.setdefault(_key(name), name)
    for name, target in _OTHER_NAMES.items():
        keys.setdefault(_key(name), target)
    for name in catalogue():
        keys.setdefault(_key(re.sub(r"-v\d+(\.\d+)*$", "", name)), name)
    return keys


def _key(text: str) -> str:
    """A name without case, owner, separators and words that leave the shape as it is."""
    word = text.lower().rstrip("/").split("/")[-1].replace(" ", "-")
    word = re.sub(r"(?<=\d)_(?=\d)", ".", word).replace("_", "-")
    word = word.replace("gpt-bigcode-", "").replace("gpt-bigcode", "")
    word = _SAME_SHAPE.sub("", word)
    return re.sub(r"[^a-z0-9.]+", "", word).strip(".")


@functools.lru_cache(maxsize=512)
def known_model(name: str) -> Shape | None:
    """The catalogue's shape for a name in any usual spelling, or None."""
    key = _key(name)
    found = _by_key().get(key)
    if found is None:
        found = _by_key().get(re.sub(r"v\d+(\.\d+)*$", "", key))
    if found is None:
        return None
    return shape_of(catalogue()[found], found)


def find_model(text: str | Path | Mapping[str, Any], parameters: int | None = None) -> Shape:
    """The shape of MODEL as a user gives it.

    A mapping or a ``config.json`` is read as Hugging Face's; a folder holds one; another text is a name of
    the catalogue, or a hub id (``owner/name``) whose config is downloaded. ``parameters`` is a published
    count: it settles what a config leaves open, and stands in for a model that is not known. Raises
    SettingError with the nearest names, WorldError when the hub cannot be reached.
    """
    if isinstance(text, Mapping):
        name = str(text.get("_name_or_path") or text.get("name") or "config")
        return shape_of({**_family_by_shape(text), **text}, name, parameters)
    path = Path(text).expanduser()
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise SettingError(f"{path.parent} is a folder without a config.json; a model folder holds one")
    if path.suffix == ".json" or path.is_file():
        return _from_file(path, parameters)
    name = str(text).strip()
    known = known_model(name)
    if known is not None:
        return known
    if parameters is not None:
        return shape_from_count(parameters, name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return shape_of(hub_config(name), name)
    raise SettingError(_unknown(name))


_SIX = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


def _family_by_shape(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The architecture of the model of the catalogue with these very numbers, for a config that lacks it."""
    if config.get("model_type") or config.get("architectures"):
        return {}
    numbers = [config.get(key) for key in _SIX]
    for entry in catalogue().values():
        if numbers == [entry.get(key) for key in _SIX]:
            return {key: entry[key] for key in ("model_type", "multi_query") if key in entry}
    return {}


def _unknown(name: str) -> str:
    by_key = _by_key()
    near = [by_key[key] for key in difflib.get_close_matches(_key(name), by_key, n=3, cutoff=0.5)]
    hint = f" Nearest: {', '.join(dict.fromkeys(near))}." if near else ""
    return (
        f"unknown model {name!r}: expected a config.json, a folder with one, a hub id (owner/name) or a "
        f"name of the catalogue ({len(catalogue())} models).{hint}"
    )


def _from_file(path: Path, parameters: int | None) -> Shape:
    """The shape of a ``config.json``; raises SettingError naming the file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(f"{path}: no such file; expected a model's config.json") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(config, dict):
        raise SettingError(f"{path}: expected a JSON object, the config of a model")
    return shape_of(config, path.parent.name or str(path), parameters)


def _cached_config(name: str) -> Mapping[str, Any] | None:
    """The config that an earlier download left here; None without, or without the hub's library."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        path = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub id
        return None
    if not isinstance(path, str):
        return None
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _token() -> str | None:
    """The token of whoever is logged in to the hub on this machine."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return None
    return get_token()


def hub_config(name: str) -> Mapping[str, Any]:
    """The ``config.json`` of a hub id: the one in the hub's own cache here, else the hub's.

    HF_ENDPOINT is honoured, and a token from HF_TOKEN or from ``hf auth login``.

    Raises SettingError when there is no such model or it is closed to this token, WorldError offline.
    """
    import httpx

    if (cached := _cached_config(name)) is not None:
        return cached
    home = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
    token = os.environ.get("HF_TOKEN") or _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise WorldError(
            f"{name}: not in the catalogue, and HF_HUB_OFFLINE forbids asking {home}; give a config.json"
        )
    try:
        url = f"{home}/{name}/resolve/main/config.json"
        answer = httpx.get(url, headers=headers, timeout=HUB_SECONDS, follow_redirects=True)
    except httpx.HTTPError as error:
        raise WorldError(
            f"{name}: not in the catalogue, and {home} could not be reached ({error}); "
            "give a config.json, or a name of the catalogue"
        ) from None
    if answer.status_code in (401, 403):
        raise SettingError(
            f"{name}: {home} refused ({answer.status_code}): set HF_TOKEN, or the id does not exist"
        )
    if answer.status_code != 200:
        raise SettingError(
            f"{name}: {home} has no config.json for it ({answer.status_code}). {_unknown(name)}"
        )
    try:
        config = answer.json()
    except ValueError:
        raise WorldError(f"{name}: {home} answered with something that is not JSON") from None
    if not isinstance(config, dict):
        raise WorldError(f"{name}: {home} answered with JSON that is not an object")
    return config
