"""What lies in a model's folder: which files may be loaded, their checksum, how they are loaded.

Only safetensors are read: a pickle can run any code while it is loaded. Code that comes with a model is
not run.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tunewise.errors import DoorError, SettingError, WorldError
from tunewise.models import quantised_base
from tunewise.models.chat_template import settled
from tunewise.models.embedded import cache_folder, embedded_folder, file_sha256

# Settings of a generation config with which the likeliest token is written.
PLAIN_CHOICE: dict[str, Any] = {
    "do_sample": False, "temperature": None, "top_p": None, "top_k": None, "min_p": None, "typical_p": None,
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "sequence_bias": None, "suppress_tokens": None,
    "begin_suppress_tokens": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "min_length": 0, "min_new_tokens": None, "epsilon_cutoff": None, "eta_cutoff": None, "top_h": None,
    "num_return_sequences": 1,
}  # fmt: skip
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Beside the weights, what decides about token ids and how they are read.
MEANING_FILES = (
    *("config.json", "generation_config.json", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "tokenizer.model"),
)
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def model_folder(folder_or_id: str | Path) -> Path:
    """Folder of a model given as ``embedded``, as a folder, or as a hub id (downloaded at its first use).

    Raises SettingError when there is no such folder or hub id, and DoorError when the hub cannot be reached.
    """
    if str(folder_or_id) == "embedded":
        return embedded_folder()
    folder = Path(folder_or_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise SettingError(f"{folder}: expected a model's folder (config.json, *.safetensors), found a file.")
    if isinstance(folder_or_id, Path) or not HUB_ID.fullmatch(folder_or_id):
        raise SettingError(
            f"{folder}: there is no such folder. Give a model's folder, a hub id, or embedded."
        )
    return hub_folder(folder_or_id)


def hub_folder(hub_id: str) -> Path:
    """Folder of a hub model in the hub's own cache: what is there already, else a download."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted: dict[str, Any] = {
        "allow_patterns": ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
        "ignore_patterns": ["*/*", "consolidated*"],
    }
    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True, **wanted))
        if {path.name for path in folder.iterdir()} & {SINGLE, INDEX, ADAPTER_FILES[0]}:
            return folder
        pass_on = f"model {hub_id!r}: the hub's cache here holds no weights of it"  # its tokenizer, perhaps
    except HFValidationError as error:
        raise SettingError(f"model {hub_id!r}: neither a folder here nor a hub id: {error}") from error
    except LocalEntryNotFoundError:
        pass_on = f"model {hub_id!r}: there is no such folder here"
    try:
        return Path(snapshot_download(hub_id, **wanted))
    except RepositoryNotFoundError as error:
        raise SettingError(
            f"{pass_on}, and the hub knows no such model, or does not show it to you; a hosted one is "
            f"{{endpoint: https://..., name: {hub_id}}}."
        ) from error
    except OSError as error:  # the hub's own errors are all of this kind, a missing network included
        hint = "" if "/" in hub_id else f" (a hosted model is {{endpoint: https://..., name: {hub_id}}})"
        raise DoorError(f"{pass_on}{hint}, and the hub could not be reached: {error}") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model. Raises SettingError, before anything is loaded, without any."""
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        what = (
            "an adapter: give its base model, and this as the adapter"
            if ADAPTER_FILES[0] in names
            else "no model"
        )
        raise SettingError(f"{folder}: expected a model's folder with a config.json; this is {what}.")
    if INDEX in names:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
        if missing := [shard for shard in shards if shard not in names]:
            raise SettingError(
                f"{folder}: {INDEX} names {missing[0]}, which is not there. Download the model again."
            )
        return [folder / shard for shard in shards]
    if SINGLE in names:
        return [folder / SINGLE]
    if pickles := sorted(name for name in names if name.endswith(PICKLES)):
        raise SettingError(
            f"{folder}: expected weights as {SINGLE}, found pickles only ({pickles[0]}), which can run any "
            "code when loaded and are never read. Convert them, or use a version with safetensors."
        )
    raise SettingError(f"{folder}: expected weights as {SINGLE} or {INDEX}, found neither.")


def adapter_files(adapter: Path) -> list[Path]:
    """The files of an adapter in PEFT's layout, and QLoRA's mark. SettingError where one is missing."""
    for name in ADAPTER_FILES:
        if not (adapter / name).is_file():
            raise SettingError(f"{adapter}: expected an adapter in PEFT's layout, {name} is missing.")
    mark = [adapter / quantised_base.MARK] if quantised_base.is_marked(adapter) else []
    return [*(adapter / name for name in ADAPTER_FILES), *mark]


def model_checksum(folder: Path) -> str:
    """SHA-256 over the weights and everything else that decides about a model's answers; 64 hex digits.

    Whole files are read, once: a tuned model can differ from its base in a few layers only, which samples
    would miss. Checksums are kept in the cache folder and hold while path, size, inode and time of change do.
    """
    files = [*weight_files(folder), *(path for name in MEANING_FILES if (path := folder / name).is_file())]
    sums = KnownSums(cache_folder() / "checksums.json")
    body = [[path.name, sums.of(path)] for path in files]
    sums.save()
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


class KnownSums:
    """Checksums of files that have not changed since they were computed. Losing them costs only time."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.fresh: dict[str, list[Any]] = {}
        self.known = self._read()

    def _read(self) -> dict[str, list[Any]]:
        try:
            known = json.loads(self.place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def of(self, path: Path) -> str:
        """SHA-256 of a file's content."""
        place, stat = str(path.resolve()), path.stat()
        mark = [stat.st_size, stat.st_ino, stat.st_mtime_ns]
        entry = self.known.get(place)
        if entry is None or entry[:3] != mark:
            entry = self.fresh[place] = [*mark, file_sha256(path)]
        return str(entry[3])

    def save(self) -> None:
        """Keep what was computed beside what another process kept meanwhile; forget files that went."""
        if not self.fresh:
            return
        kept = {place: entry for place, entry in self._read().items() if os.path.exists(place)} | self.fresh
        beside = self.place.with_name(f"{self.place.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(kept), encoding="utf-8")
            os.replace(beside, self.place)
        except OSError:  # a read-only or full cache folder: the next run computes them again
            with suppress(OSError):
                beside.unlink()


def copy_meaning(folder: Path, into: Path) -> None:
    """Copy everything but the weights that decides about a model's answers: tokenizer, template, configs."""
    for name in MEANING_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, into / name)


def stop_as_trained(model: Any, folder: Path) -> None:
    """Have the model's generation config end answers at the token that training put behind them.

    Ours do in any case; plain transformers and servers read that config, and a template other than the
    base's own may end its turns otherwise. folder: of the tokenizer. Nothing to do without a template.
    """
    from tunewise.models.tokens import stop_ids

    tokenizer = load_tokenizer(folder)
    if getattr(tokenizer, "chat_template", None):
        model.generation_config.eos_token_id = sorted(stop_ids(tokenizer, model.generation_config))


WINDOW_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")  # GPT-2's kin, MPT


def context_window(folder: Path) -> int | None:
    """Tokens that fit into the model, prompt and answer together; None where its config does not say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or {}
    found = [part.get(name) for name in WINDOW_KEYS for part in (config, text)]
    return next((window for window in found if isinstance(window, int)), None)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model's folder, its template ``settled``; nothing is fetched, no code is run."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if isinstance(template := getattr(tokenizer, "chat_template", None), str):
        tokenizer.chat_template = settled(template)
    return tokenizer


def own_template(folder: Path) -> str | None:
    """The chat template as the model's maker wrote it; None where there is none, or several."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    template = getattr(tokenizer, "chat_template", None)
    return template if isinstance(template, str) else None


def load_model(folder: Path, adapter: Path | None = None, *, merges: bool = True) -> Any:
    """A causal LM ready to answer: fp32 on a CPU, bf16 on a GPU, with an adapter.

    In fp32 the adapter is merged into the weights. In 16 bits, or where the caller is about to round them
    (not ``merges``), it stays beside them: rounded with the weights it loses a part of its effect, measured
    on three adapters 2 to 12 %, of weaker ones a third and more.

    Raises SettingError when transformers cannot read the folder as a causal LM, or the adapter does not fit.
    """
    device, dtype = device_and_dtype()
    model = read_model(folder, device, dtype)
    if adapter is not None:
        model = merged(model, adapter) if merges and dtype.itemsize == 4 else beside(model, adapter)
    return model.eval().requires_grad_(False)


def load_exactly(folder: Path) -> Any:
    """A causal LM in fp32 in the machine's own memory, also where models answer on a GPU. Raises as above."""
    import torch

    return read_model(folder, torch.device("cpu"), torch.float32).eval().requires_grad_(False)


def read_model(folder: Path, device: Any, dtype: Any) -> Any:
    """The causal LM in ``folder``, without an adapter. Raises as ``load_model``."""
    from transformers import AutoModelForCausalLM

    weight_files(folder)
    try:
        with quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            ).to(device)
            draw_nothing(model.generation_config)
            return model
    except (ValueError, OSError, ImportError) as error:
        raise SettingError(f"{folder}: cannot be loaded as a causal language model: {error}") from error
    except RuntimeError as error:
        raise no_room(folder, error) from error


def draw_nothing(config: Any) -> None:
    """Have a generation config ask for the likeliest token alone: no sampling, no penalties, no bans.

    Many models ship such settings (Qwen2.5: a repetition penalty of 1.05), and servers read them. What is
    measured here is the model's own choice, and a whole model that is exported carries this config.
    """
    for name, value in PLAIN_CHOICE.items():
        setattr(config, name, value)


def no_room(folder: Path, error: RuntimeError) -> Exception:
    """What to raise for a device's error: in words where it has no room for ``folder``, else the error."""
    if not out_of_memory(error):
        return error
    return WorldError(
        f"{folder}: does not fit into the memory that is free on {device_and_dtype()[0]}. Free some, or take "
        f"a smaller model. What the device said: {str(error).splitlines()[0]}"
    )


def merged(model: Any, adapter: Path) -> Any:
    """The model with an adapter's differences added to its weights, in memory only; exact in fp32."""
    return opened_beside(model, adapter).merge_and_unload()


def beside(model: Any, adapter: Path) -> Any:
    """The model with an adapter's layers in it, in the weights' number format."""
    return opened_beside(model, adapter, autocast_adapter_dtype=False).get_base_model()


def opened_beside(model: Any, adapter: Path, **options: Any) -> Any:
    """PEFT's model of ``model`` and an adapter, the base rounded where it was for training.

    Raises SettingError where it does not fit the model.
    """
    adapter_files(adapter)
    if quantised_base.is_marked(adapter):
        quantised_base.round_linears(model)
    try:
        with quiet_transformers():
            from peft import PeftModel

            return PeftModel.from_pretrained(model, str(adapter), **options)
    except (ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise no_room(adapter, error) from error
        raise SettingError(f"{adapter}: this adapter does not fit the model: {error}") from error


def device_and_dtype() -> tuple[Any, Any]:
    """Where and in which number format local models run: fp32 on a CPU, bf16 on a GPU."""
    import torch

    if on_gpu():
        return torch.device("cuda"), torch.bfloat16
    return torch.device("cpu"), torch.float32


def out_of_memory(error: RuntimeError) -> bool:
    """True for a device without memory (some say so in words only), and for a CPU without."""
    import torch

    said = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in said
        or "out of memory" in said
        or "alloc_failed" in said  # cuBLAS: no room for its workspace
    )


def on_gpu() -> bool:
    """True where local models run on a GPU."""
    import torch

    return torch.cuda.is_available()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the libraries' progress bars and notices off the terminal: standard output and error are ours."""
    from transformers.utils import logging as notices

    chatty = logging.getLogger("bitsandbytes")  # PEFT imports it; it tells of kernels that it can do without
    chattiness = chatty.level
    chatty.setLevel(logging.ERROR)

    level, bars = notices.get_verbosity(), notices.is_progress_bar_enabled()
    notices.set_verbosity_error()  # type: ignore[no-untyped-call]
    if bars:
        notices.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the libraries' warnings to each other
            yield
    finally:
        chatty.setLevel(chattiness)
        notices.set_verbosity(level)
        if bars:
            notices.enable_progress_bar()  # type: ignore[no-untyped-call]
