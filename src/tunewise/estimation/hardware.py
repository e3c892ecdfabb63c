"""GPUs and what they cost: ``hardware.json``, overridden or extended by a file of the user's."""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError

CATALOGUE = Path(__file__).with_name("hardware.json")  # JSON: a YAML parser costs 15 ms of start
CPU = "cpu"
FORMATS = ("bf16", "fp16", "fp8")
# Assumed, not measured: a core of a server with AVX2 or AVX-512 in fp32, and two channels of its memory.
CPU_TFLOPS_PER_CORE = 0.15
CPU_BANDWIDTH_GB_S = 30.0
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Price:
    """USD per hour of one GPU. ``date`` and ``source`` say where the range comes from."""

    low: float
    expected: float
    high: float
    date: str
    source: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One entry of the catalogue.

    memory_gib: the label; usable_gib: what a program can allocate, its context included. tflops: dense, bf16
    (fp16 where the GPU lacks bf16). reachable: share of it that large matrix products reach. fp32_tflops:
    without TF32; None: a quarter of ``tflops`` is assumed. bandwidth_gb_s: of its memory. link_gb_s: to
    another GPU of the machine, one direction, 0 without.
    lacks: number formats it has no hardware for. price: None where no offer is known.
    """

    name: str
    memory_gib: float
    usable_gib: float
    tflops: float
    reachable: float
    bandwidth_gb_s: float
    link: str
    link_gb_s: float
    lacks: tuple[str, ...] = ()
    specs: str = ""
    aliases: tuple[str, ...] = ()
    price: Price | None = None
    fp32_tflops: float | None = None

    @property
    def rentable(self) -> bool:
        """True when a price is known."""
        return self.price is not None


def load_hardware(override: Path | None = None, price: float | None = None) -> tuple[Gpu, ...]:
    """The catalogue in its own order; entries of ``override`` replace those of the same name or are added.

    price: USD per GPU-hour that replaces every range. Raises SettingError naming file, entry and key.
    """
    found = {gpu.name: gpu for gpu in _shipped()}
    if override is not None:
        found |= {gpu.name: gpu for gpu in _read(override, found)}
    if price is None:
        return tuple(found.values())
    if not math.isfinite(price) or price < 0:
        raise SettingError(f"price: expected USD per GPU-hour, 0 or more, got {price}")
    own = Price(price, price, price, "", "given with --price")
    return tuple(replace(gpu, price=own) for gpu in found.values())


def find_gpu(name: str, catalogue: Sequence[Gpu]) -> Gpu:
    """The GPU of this name or alias; case, spaces, dashes and makers' names do not matter.

    ``cpu`` is this machine. Raises SettingError with the nearest names.
    """
    if _plain(name) == CPU:
        return this_cpu()
    known = {_plain(said): gpu for gpu in reversed(catalogue) for said in (*gpu.aliases, gpu.name)}
    wanted = _plain(name)
    if wanted in known:
        return known[wanted]
    import difflib

    near = [known[said].name for said in difflib.get_close_matches(wanted, known, n=5, cutoff=0.5)]
    near += [gpu.name for gpu in catalogue if wanted and wanted in _plain(gpu.name)]
    said = f"nearest: {', '.join(dict.fromkeys(near))}" if near else f"the catalogue has {len(catalogue)}"
    raise SettingError(
        f"unknown GPU {name!r}; {said} (tunewise estimate MODEL --all-gpus lists them). For another one, "
        "`tunewise estimate` takes --hardware FILE"
    )


def gpu_of_device(said: str, memory_gib: float, catalogue: Sequence[Gpu]) -> Gpu:
    """The entry for a GPU as its driver calls it ("NVIDIA A100-SXM4-80GB"): same family, nearest memory.

    Raises SettingError when no entry is of its family.
    """
    plain = re.sub(r"[^a-z0-9]", "", said.lower())

    def family(gpu: Gpu) -> str:
        return re.sub(r"[^a-z0-9]", "", re.sub(r"\d+ ?GB|PCIe|NVL|Apple", "", gpu.name).lower())

    same = [gpu for gpu in catalogue if family(gpu) in plain]
    if not same:
        raise SettingError(
            f"the GPU of this machine, {said!r}, is not in the catalogue; add it with --hardware FILE"
        )

    def distance(gpu: Gpu) -> tuple[int, float, bool]:
        other_slot = ("PCIe" in gpu.name) != ("pcie" in plain)
        return (-len(family(gpu)), abs(gpu.memory_gib - memory_gib) // 8, other_slot)

    return min(same, key=distance)


def refuse_format(gpu: Gpu, wanted: str) -> None:
    """Raise SettingError when the GPU has no hardware for the number format ``wanted``."""
    if wanted in gpu.lacks:
        instead = next(form for form in ("fp16", "fp32") if form not in gpu.lacks)
        raise SettingError(
            f"{gpu.name} has no {wanted}: torch would emulate it many times slower, and kernels for it do not"
            f" load; use {instead} there, or a GPU with {wanted}"
        )


def this_cpu() -> Gpu:
    """The processor and main memory of this machine as a GPU without a price, its speed assumed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = host_memory_gib() or 0.0
    return Gpu(
        name=CPU,
        memory_gib=round(memory, 1),
        usable_gib=round(memory * 0.9, 1),
        tflops=CPU_TFLOPS_PER_CORE * cores,
        reachable=0.8,
        bandwidth_gb_s=CPU_BANDWIDTH_GB_S,
        link="none",
        link_gb_s=0.0,
        lacks=("bf16", "fp16", "fp8"),
        specs=f"{cores} cores, {CPU_TFLOPS_PER_CORE} TFLOP/s each assumed",
    )


def host_memory_gib() -> float | None:
    """Main memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, ValueError, OSError):
        return None  # Windows has no sysconf


def _plain(name: str) -> str:
    lowered = re.sub(r"nvidia|geforce|tesla|amd|[^a-z0-9]", "", name.lower())
    return re.sub(r"(\d)gi?b$", r"\1", lowered)


@cache
def _shipped() -> tuple[Gpu, ...]:
    return tuple(_read(CATALOGUE, {}))


def _read(path: Path, known: Mapping[str, Gpu]) -> list[Gpu]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: the hardware file cannot be read: {error}") from error
    said = json.loads(text) if path == CATALOGUE else _yaml(path, text)
    if not isinstance(said, dict) or not isinstance(said.get("gpus"), list):
        raise SettingError(f"{path}: expected a list of GPUs under the key gpus")
    return [_gpu(path, place, entry, known) for place, entry in enumerate(said["gpus"], 1)]


def _yaml(path: Path, text: str) -> Any:
    """A file of the user's; JSON is YAML too."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingError(f"{path}: no YAML: {error}") from error


def _gpu(path: Path, place: int, entry: Any, known: Mapping[str, Gpu]) -> Gpu:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise SettingError(f"{path}, GPU {place}: expected keys and values, with a name")
    where = f"{path}, GPU {entry['name']!r}"
    before = known.get(entry["name"])
    numbers = (
        "memory_gib",
        "usable_gib",
        "tflops",
        "fp32_tflops",
        "reachable",
        "bandwidth_gb_s",
        "link_gb_s",
    )
    texts = ("name", "link", "specs")
    allowed = (*numbers, *texts, "aliases", "lacks", "usd_per_hour")
    for key in entry:
        if key not in allowed:
            import difflib

            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"; nearest: {near[0]}" if near else f"; known: {', '.join(allowed)}"
            raise SettingError(f"{where}: unknown key {key!r}{hint}")
    values: dict[str, Any] = {key: str(entry[key]) for key in texts if key in entry}
    for key in numbers:
        if key in entry:
            values[key] = _number(where, key, entry[key], zero=key == "link_gb_s")
    values |= {
        key: tuple(map(str, _list(where, key, entry[key]))) for key in ("aliases", "lacks") if key in entry
    }
    if entry.get("usd_per_hour") is not None:
        values["price"] = _price(where, entry["usd_per_hour"])
    if before is not None:
        return replace(before, **values)
    values.setdefault("usable_gib", 0.97 * values.get("memory_gib", 0.0))
    for key, default in (("reachable", 0.8), ("link", "none"), ("link_gb_s", 0.0)):
        values.setdefault(key, default)
    if missing := [key for key in ("memory_gib", "tflops", "bandwidth_gb_s") if key not in values]:
        raise SettingError(f"{where}: {', '.join(missing)} missing")
    return Gpu(**values)


def _number(where: str, key: str, value: Any, zero: bool = False) -> float:
    right = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not right or value < 0 or (value == 0 and not zero):
        raise SettingError(f"{where}: {key}: expected a number above 0, got {value!r}")
    return float(value)


def _list(where: str, key: str, value: Any) -> Iterable[Any]:
    if not isinstance(value, list):
        raise SettingError(f"{where}: {key}: expected a list, got {value!r}")
    return value


def _price(where: str, said: Any) -> Price:
    """A range, or one number for all three."""
    if not isinstance(said, dict):
        one = _number(where, "usd_per_hour", said, zero=True)
        return Price(one, one, one, "", "given in the hardware file")
    if missing := [key for key in ("low", "expected", "high") if key not in said]:
        raise SettingError(f"{where}: usd_per_hour: {', '.join(missing)} missing")
    low, expected, high = (
        _number(where, f"usd_per_hour.{key}", said[key], zero=True) for key in ("low", "expected", "high")
    )
    if not low <= expected <= high:
        raise SettingError(f"{where}: usd_per_hour: expected low <= expected <= high, got {said}")
    return Price(low, expected, high, str(said.get("date", "")), str(said.get("source", "")))
