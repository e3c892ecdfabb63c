"""Estimate against measured, kept in the user's data folder; later estimates are corrected by it and say so.

One JSON object per line in ``calibration.jsonl``. A record holds no text of the user's: model name, set-up,
device, the uncorrected estimate and what was measured.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

FILE = "calibration.jsonl"
MOST = 2000  # newest records that are read
LIMITS = (0.25, 4.0)  # a ratio beyond these comes from another cause than the estimator's constants


@dataclass(frozen=True, slots=True)
class Record:
    """One measured run. Bytes are GiB, times seconds per optimizer step; what was not measured is None.

    source: ``probe`` or ``train``. device: name of the GPU, or ``cpu``.
    """

    source: str
    model: str
    method: str
    stack: str
    device: str
    estimated_gib: float
    measured_gib: float
    estimated_seconds: float | None = None
    measured_seconds: float | None = None
    length: int | None = None
    micro_batch: int | None = None
    checkpointing: str | None = None
    at: str = field(default="")


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors for memory and time, and the sentence that says where they come from.

    1 and "" without records.
    """

    memory: float = 1.0
    time: float = 1.0
    runs: int = 0
    said: str = ""


def calibration_file() -> Path:
    """Where records are kept: the folder of ``openings``."""
    from tunewise.openings import data_folder

    return data_folder() / FILE


def record(found: Record, path: Path | None = None) -> str | None:
    """Append a record. Returns None, or in words why it could not be kept: that never fails a run."""
    place = path or calibration_file()
    now = found.at or datetime.now(UTC).isoformat(timespec="seconds")
    row = {name: getattr(found, name) for name in Record.__slots__} | {"at": now}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"the measured memory could not be kept in {place}: {error}"
    return None


def read_records(path: Path | None = None) -> list[Record]:
    """The newest records, oldest first. Lines that are no records are passed over.

    A kill may cut one short.
    """
    place = path or calibration_file()
    try:
        lines = place.read_text(encoding="utf-8").splitlines()[-MOST:]
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
            found.append(Record(**{name: row.get(name) for name in Record.__slots__}))
        except (ValueError, TypeError, AttributeError):
            continue
    return [one for one in found if _usable(one)]


def _usable(one: Record) -> bool:
    pair = (one.estimated_gib, one.measured_gib)
    return all(isinstance(x, int | float) and math.isfinite(x) and x > 0 for x in pair)


def correction(
    model: str, method: str, stack: str, device: str, records: Sequence[Record] | None = None
) -> Correction:
    """The median of measured over estimated in the closest records: same model, else same method and stack.

    Only records of the same device count. Ratios outside ``LIMITS`` are left out.
    """
    known = [one for one in (read_records() if records is None else records) if one.device == device]
    same = {"method": method, "stack": stack}
    for keys in ({"model": model, **same}, same):
        chosen = [one for one in known if _matches(one, keys)]
        ratios = [r for one in chosen if (r := one.measured_gib / one.estimated_gib) and _within(r)]
        if ratios:
            times = [t for one in chosen if (t := _time_ratio(one)) is not None and _within(t)]
            factors = (median(ratios), median(times) if times else 1.0)
            what = f"{model}, {method}" if "model" in keys else f"{method} on {stack}"
            said = (
                f"corrected by {len(ratios)} measured run{'s' if len(ratios) > 1 else ''} of {what} on "
                f"{device}: memory x {factors[0]:.3f}" + (f", time x {factors[1]:.2f}" if times else "")
            )
            return Correction(factors[0], factors[1], len(ratios), said)
    return Correction()


def _matches(one: Record, keys: Mapping[str, Any]) -> bool:
    return all(getattr(one, key) == value for key, value in keys.items())


def _within(ratio: float) -> bool:
    return LIMITS[0] <= ratio <= LIMITS[1]


def _time_ratio(one: Record) -> float | None:
    if not one.estimated_seconds or not one.measured_seconds:
        return None
    return one.measured_seconds / one.estimated_seconds
