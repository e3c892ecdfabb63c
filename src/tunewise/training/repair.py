"""Less of what was trained: an adapter at a part of its strength, a model between the base and the tuned one.

Weights at scale s are base + s * (tuned - base): for an adapter ``lora_alpha`` times s, for a whole model the
interpolation of Wortsman et al., "Robust Fine-tuning of Zero-shot Models" (WiSE-FT), CVPR 2022, section 3.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewise.training import checkpoints
from tunewise.training.methods import Method
from tunewise.training.trust import TrainingNotTrusted

SCALES = (0.75, 0.5, 0.25)
NOT_COPIED = ("snapshot.json", checkpoints.MARK)


def write_scaled(base: Path, tuned: Path, scale: float, folder: Path, method: Method) -> None:
    """Write what lies in ``tuned`` at a part of its strength into ``folder``, whole or not at all.

    scale: in (0, 1]; 1 is ``tuned`` itself. Raises ValueError for another scale, TrainingNotTrusted where
    base and tuned model do not have the same weights.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"expected a scale in (0, 1], got {scale}")
    write = write_adapter if method != "full" else write_model
    checkpoints.publish(folder, lambda part: write(base, tuned, scale, part))


def write_adapter(base: Path, tuned: Path, scale: float, folder: Path) -> None:
    """The adapter with ``lora_alpha``, a layer's own too, times ``scale``; its weights as they are."""
    for file in files_of(tuned):
        shutil.copyfile(file, folder / file.name)
    config = checkpoints.read_json(folder / "adapter_config.json") or {}
    config["lora_alpha"] = config["lora_alpha"] * scale
    if config.get("alpha_pattern"):
        config["alpha_pattern"] = {name: alpha * scale for name, alpha in config["alpha_pattern"].items()}
    checkpoints.write_json(folder / "adapter_config.json", config)


def write_model(base: Path, tuned: Path, scale: float, folder: Path) -> None:
    """The weights between base and tuned model, file by file, in fp32 arithmetic."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from tunewise.models.weights import weight_files

    shards = weight_files(tuned)
    for file in files_of(tuned):
        if file not in shards:
            shutil.copyfile(file, folder / file.name)
    places = where_weights_lie(base)
    for shard in shards:
        mixed: dict[str, Any] = {}
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - a handle, no mapping
                if name not in places:
                    raise TrainingNotTrusted(
                        f"{tuned}: {name} is no weight of {base}, so that nothing lies between them. "
                        "Tune again on this base."
                    )
                after, before = file.get_tensor(name), weight(places[name], name)
                mixed[name] = before.float().lerp(after.float(), scale).to(after.dtype).contiguous()
        save_file(mixed, folder / shard.name, metadata={"format": "pt"})


def where_weights_lie(folder: Path) -> Mapping[str, Path]:
    """The file of each weight of a model."""
    from safetensors import safe_open

    from tunewise.models.weights import weight_files

    places: dict[str, Path] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def weight(path: Path, name: str) -> Any:
    """One weight of a file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def files_of(folder: Path) -> list[Path]:
    """The files of an adapter or a model, and nothing of the run."""
    return [file for file in sorted(folder.iterdir()) if file.is_file() and file.name not in NOT_COPIED]
