"""``tunewise export``: what a run tuned, in a form that other programs load.

An adapter is copied in PEFT's layout, checked against what vLLM serves; with ``merge`` it is added to its
base and written as a whole model in safetensors, which plain transformers loads.
"""

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunewise.errors import RunError, SettingError
from tunewise.inputs import read_decision
from tunewise.models.quantised_base import is_marked

# What --max-lora-rank takes: MaxLoRARanks in vllm/config/lora.py. Fully trained layers, biases and DoRA are
# what its adapter loader refuses (vllm/lora/peft_helper.py).
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Linear layers of its language models that take adapters: their names in Hugging Face's checkpoints, which
# packed_modules_mapping of vllm/model_executor/models/*.py joins, and the older ones of GPT-2, NeoX and Phi.
VLLM_TARGETS = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj",
    "out_proj", "fc1", "fc2", "c_attn", "c_proj", "c_fc", "query_key_value", "dense", "dense_h_to_4h",
    "dense_4h_to_h",
)  # fmt: skip
METHODS = (
    "lora",
    "qlora",
    "full",
    "distilled",
    "cpt",
    "cpt-sft",
    "rag-lora",
)  # folders in which an adapter or a model may lie


@dataclass(frozen=True)
class Exported:
    """kind: ``adapter`` or ``model``. problems: why vLLM would not serve it, empty when it would.

    serve: the line that starts vLLM with it; None when it would not.
    """

    kind: str
    folder: Path
    base: str
    bytes: int
    problems: tuple[str, ...]
    serve: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "folder": str(self.folder)}


def export(
    run: str | Path,
    *,
    rung: str | None = None,
    merge: bool = False,
    out: str | Path | None = None,
    beside: Sequence[str | Path] = (),
) -> Exported:
    """Write what a run tuned into ``out`` (by default ``RUN/export``).

    run: a folder of ``decide`` or of ``train``. rung: which, where several were tuned. merge: an adapter
    becomes a whole model. beside: folders of adapters exported before, which the line that starts vLLM serves
    on the same base. A call that is cut off leaves nothing at a new ``out``. Raises RunError when nothing was
    tuned there or its base is gone, SettingError when ``out`` exists or when one of ``beside`` is no adapter
    of this base, StoreError when the disk refuses.
    """
    from tunewise.training.checkpoints import fill, is_part
    from tunewise.training.pretraining import merge as merge_into

    home = find_tuned(Path(run), rung)
    base, name = base_of(Path(run))
    into = Path(out) if out is not None else Path(run) / "export"
    if into.exists() and any(not is_part(path) for path in into.iterdir()):
        raise SettingError(f"{into} exists already and is not empty; name another folder with --out")
    if beside and (merge or home.name == "model"):
        raise SettingError("--beside serves adapters on one base, and this is a whole model")
    others = [adapter_beside(Path(folder), home, name) for folder in beside]
    check_names([into, *map(Path, beside)])
    problems: tuple[str, ...] = ()
    rank = None
    kind = "model" if merge or home.name == "model" else "adapter"
    if merge and home.name != "model":
        fill(into, lambda folder: merge_into(base, home, folder))
    else:
        fill(into, lambda folder: copy(home, folder))
    if kind == "adapter":
        name_base(into / "adapter_config.json", name)
        config = json.loads((into / "adapter_config.json").read_text(encoding="utf-8"))
        problems = vllm_problems(config)
        rank = vllm_rank(max(map(rank_of, (config, *others))))
    template = write_template(base, into)
    size = sum(file.stat().st_size for file in into.glob("*.safetensors"))
    known = str(base) if name == "embedded" else name  # vLLM does not know our word for it
    more = [f"{name_of(Path(folder))}={folder}" for folder in beside]
    in_4_bits = kind == "adapter" and is_marked(into)
    line = None if problems else serve_line(known, into, kind, rank, more, in_4_bits)
    if line is not None and template is not None and kind == "adapter":
        line += f" --chat-template {shlex.quote(str(template))}"
    return Exported(kind, into, name, size, problems, line)


def name_base(path: Path, name: str) -> None:
    """Have an adapter's config name a base of the hub by its id, which other machines know too."""
    if name == "embedded" or Path(name).expanduser().exists():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = name
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def adapter_beside(folder: Path, home: Path, name: str) -> dict[str, Any]:
    """The config of an adapter to serve beside that in ``home``. Raises SettingError where it cannot be."""
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise SettingError(f"{folder} holds no adapter_config.json: name a folder that export wrote")
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(f"{path} is not JSON ({error}): export that adapter again") from error
    if not isinstance(config, dict) or not isinstance(config.get("r"), int):
        raise SettingError(f"{path} is not of a LoRA adapter: it has no rank r")
    own = json.loads((home / "adapter_config.json").read_text(encoding="utf-8"))
    bases = [one.get("base_model_name_or_path") for one in (own, config)]
    if bases[1] not in (bases[0], name):
        raise SettingError(f"{folder} is an adapter of {bases[1]}, and this run tuned {bases[0]}")
    if is_marked(folder) != is_marked(home):
        raise SettingError(
            f"{folder} and this run's adapter do not answer on the same base: one of them was trained on "
            "4-bit weights (qlora). Serve them apart, or merge"
        )
    if problems := vllm_problems(config):
        raise SettingError(f"{folder} cannot be served by vLLM: {'; '.join(problems)}")
    return config


def check_names(folders: Sequence[Path]) -> None:
    """Raise SettingError where two adapters of one server would have the same name."""
    names = [name_of(folder) for folder in folders]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(
                f"two adapters are called {name!r}: adapters are named after their folders, so export one of "
                "them into another (--out)"
            )


def name_of(folder: Path) -> str:
    """What an adapter is called where it is served: the name of its folder."""
    return folder.resolve().name


def find_tuned(run: Path, rung: str | None) -> Path:
    """The folder of the tuned adapter or model. Raises RunError when there is none, or none of that name."""
    places = {
        method: folder
        for method in METHODS
        for home in (run / "rungs" / method, run / method)
        for folder in (home / "adapter", home / "model")
        if folder.is_dir()
    }
    if rung is not None and rung not in places:
        raise RunError(f"{run} holds no tuned {rung!r}; it has {', '.join(places) or 'none'}")
    chosen = rung or chosen_in(run)
    if chosen in places:
        return places[chosen]
    if len(places) == 1:
        return next(iter(places.values()))
    if not places:
        raise RunError(f"{run} holds nothing that was tuned: no adapter and no model")
    raise RunError(f"{run} holds several: {', '.join(places)}; name one with --rung")


def chosen_in(run: Path) -> str | None:
    """The winner of a decision, where the folder holds one."""
    if not (run / "decision.json").is_file():
        return None
    choice: str | None = read_decision(run)["choice"]
    return choice


def base_of(run: Path) -> tuple[Path, str]:
    """Folder and name of the base that a run tuned."""
    from tunewise.models.embedded import embedded_folder
    from tunewise.models.weights import model_folder

    for name in ("task.json", "train.json"):
        path = run / name
        if path.is_file():
            said = json.loads(path.read_text(encoding="utf-8"))
            spec = (said.get("tune") or {}).get("model") or said.get("model")
            if isinstance(spec, str):
                return (embedded_folder() if spec == "embedded" else model_folder(spec)), spec
    raise RunError(f"{run} does not say which base was tuned: expected task.json or train.json in it")


def copy(folder: Path, into: Path) -> None:
    """All files but our own mark."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name != "whole.json":
            shutil.copyfile(file, into / file.name)


def write_template(base: Path, into: Path) -> Path | None:
    """The chat template that was measured, written where it is not the base's own; else None."""
    from tunewise.models.weights import load_tokenizer, own_template

    measured = getattr(load_tokenizer(base), "chat_template", None)
    if not isinstance(measured, str) or measured == own_template(base):
        return None
    path = into / "chat_template.jinja"
    path.write_text(measured, encoding="utf-8")
    return path


def vllm_problems(config: dict[str, Any]) -> tuple[str, ...]:
    """Why vLLM would not serve an adapter with this ``adapter_config.json``; empty when it would."""
    found = []
    rank = rank_of(config)
    if rank > VLLM_RANKS[-1]:
        found.append(f"rank {rank} is above {VLLM_RANKS[-1]}, the highest that vLLM serves")
    if config.get("bias", "none") != "none":
        found.append(f"trained biases ({config['bias']}) are not served")
    if config.get("modules_to_save"):
        layers = ", ".join(config["modules_to_save"])
        found.append(f"fully trained layers ({layers}) are not served; merge instead")
    if config.get("use_dora"):
        found.append("DoRA is not served; merge instead")
    if config.get("target_parameters"):
        found.append("parameters outside linear layers (target_parameters) are not served; merge instead")
    named = config.get("target_modules") or ()
    targets = [named] if isinstance(named, str) else sorted(named)
    if others := [name for name in targets if name.rsplit(".", 1)[-1] not in VLLM_TARGETS]:
        found.append(f"adapters on {', '.join(others)} are not known to be served; merge instead")
    return tuple(found)


def rank_of(config: dict[str, Any]) -> int:
    """The highest rank of an adapter's layers."""
    return max([int(config["r"]), *(int(rank) for rank in (config.get("rank_pattern") or {}).values())])


def vllm_rank(rank: int) -> int | None:
    """The smallest --max-lora-rank that holds ``rank``; None above all."""
    return next((most for most in VLLM_RANKS if most >= rank), None)


def serve_line(
    base: str,
    folder: Path,
    kind: str,
    rank: int | None,
    more: Sequence[str] = (),
    in_4_bits: bool = False,
) -> str:
    """The line that starts vLLM with the model, or with the base and its adapters.

    in_4_bits: adapters of QLoRA; vLLM quantises their base in flight, to NF4 (bitsandbytes).
    """
    if kind == "model":
        return f"vllm serve {shlex.quote(str(folder))}"
    adapters = " ".join(shlex.quote(one) for one in (f"{name_of(folder)}={folder}", *more))
    words = [
        "vllm serve",
        shlex.quote(base),
        *(["--quantization bitsandbytes"] if in_4_bits else []),
        f"--enable-lora --max-lora-rank {rank} --max-loras {1 + len(more)} --lora-modules {adapters}",
    ]
    return " ".join(words)
