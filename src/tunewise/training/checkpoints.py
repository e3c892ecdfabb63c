"""What a training run leaves on disk, so that a kill at any moment costs little and never corrupts.

    lora/              or qlora/, full/
      settings.json    what the run depends on; other settings start it anew
      work/steps/      the trainer's checkpoints, each complete only with its mark
      work/epochs/     adapters (or whole models) to choose from, one per epoch
      adapter/         the chosen adapter, in PEFT's layout; or
      model/           the chosen model, as safetensors with tokenizer and configs
      last/            what the last step left, where another checkpoint was chosen
      done.json        written last: the build is found again

Every file that says "this is whole" is written after what it vouches for, flushed, and renamed into place.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise.errors import RunError, StoreError

MARK = "whole.json"
TUNED = ("adapter", "model")  # where a finished build lies: one of these
LAST = "last"
ALONE = "one process"
PLACES_SHOWN = 5
PREFIX = "checkpoint-"


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write ``body`` to ``path`` so that a reader sees all of it or the file of before. Raises StoreError."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            json.dump(body, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise StoreError(f"{path} could not be written: {error}. Free some space, then run again.") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in ``path``; None when it is absent, cut short or no object."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark_whole(folder: Path) -> None:
    """Put size and SHA-256 of every file of ``folder`` into its mark, all of them on disk before."""
    files = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MARK):
        sync(file)
        files[file.relative_to(folder).as_posix()] = [file.stat().st_size, file_sha256(file)]
    write_json(folder / MARK, {"files": files})


def sync(file: Path) -> None:
    """Have the disk hold what was written to ``file``."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def is_whole(folder: Path) -> bool:
    """True when every file named by the mark is there, with its size and checksum."""
    mark = read_json(folder / MARK)
    if mark is None:
        return False
    try:
        return all(
            (folder / name).stat().st_size == size and file_sha256(folder / name) == sha256
            for name, (size, sha256) in mark["files"].items()
        )
    except (OSError, KeyError, TypeError, ValueError):
        return False


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name, -1 for another name."""
    number = folder.name.removeprefix(PREFIX)
    return int(number) if folder.name.startswith(PREFIX) and number.isdigit() else -1


def newest_whole(folder: Path) -> Path | None:
    """The whole checkpoint of the highest step in ``folder``; None without one."""
    found = sorted((path for path in folder.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)
    return next((path for path in reversed(found) if is_whole(path)), None)


def whole_ones(folder: Path) -> list[Path]:
    """All whole checkpoints in ``folder``, in order of steps."""
    found = [path for path in folder.glob(f"{PREFIX}*") if step_of(path) >= 0 and is_whole(path)]
    return sorted(found, key=step_of)


def prune(folder: Path, keep: int = 2) -> None:
    """Remove all but the last ``keep`` checkpoints. The mark goes first, so that half of one is none."""
    found = sorted((path for path in folder.glob(f"{PREFIX}*") if step_of(path) >= 0), key=step_of)
    for old in found[:-keep]:
        (old / MARK).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``folder``, mark it whole and rename it into place.

    What was at ``folder`` before is replaced. Raises StoreError when the disk refuses.
    """
    with part_beside(folder, folder) as part:
        write(part)
        mark_whole(part)
        if folder.exists():
            (folder / MARK).unlink(missing_ok=True)
            shutil.rmtree(folder)
        part.rename(folder)


def fill(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill ``folder``, which is empty or not there, for other programs to read: no mark.

    A folder that is there may be a mount or a link: it is filled from within, the largest file last. Raises
    StoreError when the disk refuses.
    """
    folder = folder.resolve()
    with part_beside(folder, folder / "export" if folder.exists() else folder) as part:
        write(part)
        for file in part.iterdir():
            sync(file)
        if not folder.exists():
            part.rename(folder)
            return
        for file in sorted(part.iterdir(), key=lambda file: file.stat().st_size):
            file.rename(folder / file.name)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold ``folder`` against a second training while it lasts.

    Raises RunError at once where another process holds it, StoreError when it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "train.lock", thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"{folder} is in use by another training: wait until it ends, end it, or choose another --out."
        ) from None
    except OSError as error:
        raise StoreError(f"{folder} could not be written: {error}. Name another folder.") from error
    try:
        yield
    finally:
        lock.release()


def is_part(path: Path) -> bool:
    """Whether ``path`` is what a kill left of a folder that was being written."""
    return path.name.startswith(".") and path.name.endswith(".part")


@contextlib.contextmanager
def part_beside(folder: Path, place: Path) -> Iterator[Path]:
    """A new folder beside ``place`` to write into, gone afterwards, as are those that a kill left there.

    folder: named where the disk refuses.
    """
    from safetensors import SafetensorError

    for left in place.parent.glob(f".{place.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    part = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{folder} could not be written: {error}. Free some space or name another folder, then run again."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def need_space(folder: Path, wanted: int) -> None:
    """Raise StoreError unless ``wanted`` bytes are free where ``folder`` lies, or will lie.

    What an earlier process wrote into ``folder`` counts: a run that goes on needs only the rest.
    """
    place = folder
    while not place.exists():
        place = place.parent
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    free = shutil.disk_usage(place).free + there
    if free < wanted:
        raise StoreError(
            f"{folder}: training writes up to {wanted / 2**30:.1f} GiB of checkpoints, and only "
            f"{free / 2**30:.1f} GiB are free. Free some space or let --out name a larger disk; nothing was "
            "trained yet."
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, one line each, by name; nested objects by dotted name."""
    flat_before, flat_now = _flat(before), _flat(now)
    return [
        f"{name}: {flat_before.get(name, 'absent')} before, {flat_now.get(name, 'absent')} now"
        for name in sorted({*flat_before, *flat_now})
        if flat_before.get(name) != flat_now.get(name)
    ]


def _flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in body.items():
        flat.update(
            _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
        )
    return flat


def begin(home: Path, settings: Mapping[str, Any], *, refuse: bool = False) -> list[str]:
    """Make ``home`` ready for a run with ``settings``; says what differs when an older run is thrown away.

    With the same settings everything stays, also under other library versions (``versions_changed``). With
    others, or without a readable settings file, what lies there is removed, ``done.json`` first; or, with
    ``refuse``, stays, and RunError says what differs.
    """
    before, now = read_json(home / "settings.json"), json.loads(json.dumps(settings))
    steps_done = (home / "work" / "trained.json").is_file() or finished(home) is not None
    said = [] if before is None else changes(before, now, launched=not steps_done)
    if before is not None and not said:
        return []
    trained = (
        *TUNED,
        "work/steps",
        "work/epochs",
        "work/trained.json",
    )  # a job that was only written is none
    if refuse and any((home / name).exists() for name in trained):
        why = "\n".join(f"  - {line}" for line in said) or "  - its settings.json is missing or cut short"
        raise RunError(
            f"{home} holds a training with other settings:\n{why}\nName another folder with --out, put the "
            "settings back, or remove this one to train anew."
        )
    for name in ("done.json", "settings.json"):
        (home / name).unlink(missing_ok=True)
    for name in (*TUNED, LAST, "work", "curve"):
        shutil.rmtree(home / name, ignore_errors=True)
    write_json(home / "settings.json", settings)
    return said


def in_its_precision(home: Path, settings: dict[str, Any], auto: bool) -> dict[str, Any]:
    """``settings``, with the precision that the training in ``home`` was begun in where nothing else differs.

    Another machine then goes on with it and finds what is finished. auto: the task leaves the precision open.
    """
    before = read_json(home / "settings.json")
    kept = {**settings, "recipe": {**settings["recipe"]}}
    if auto and before is not None and "recipe" in before:
        kept["recipe"]["precision"] = before["recipe"].get("precision")
        if not changes(before, json.loads(json.dumps(kept))):
            return kept
    return settings


def changes(before: Mapping[str, Any], now: Mapping[str, Any], *, launched: bool = False) -> list[str]:
    """As ``differences``, of all but library versions; train rows are told by their places.

    launched: the launch counts as well, as it does while steps are to be gone on with: the data of a step
    are cut for as many processes as began. What only one of the two names of it (rows by place, launch),
    since an earlier version wrote the other, is no difference.
    """
    apart = {"versions", "launch", "train_rows", "train_row_places"}
    plain = [{k: v for k, v in settings.items() if k not in apart} for settings in (before, now)]
    said = differences(*plain)
    if before.get("train_rows") != now.get("train_rows"):
        places = [settings.get("train_row_places", []) for settings in (before, now)]
        said.insert(0, row_changes(*places))
    if launched and "launch" in before and "launch" in now:
        said += differences(*({"launch": settings["launch"]} for settings in (before, now)))
    return said


def row_changes(before: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> str:
    """Which rows (each [digest, place]) are others, new or gone, in words; where rows are known of both."""
    if not before or not now:
        return "train_rows: other rows than before"
    gone, new = places_without(before, now), places_without(now, before)
    changed = set(gone) & set(new)
    said = {
        "changed": [place for place in new if place in changed],
        "new": [place for place in new if place not in changed],
        "gone": [place for place in gone if place not in changed],
    }
    parts = [f"{len(places)} {what} ({shortened(places)})" for what, places in said.items() if places]
    return f"train_rows: {', '.join(parts) or 'the same rows in another order'}"


def places_without(rows: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> list[str]:
    """Places of ``rows`` whose digest is not among ``others``, each of which stands for one row."""
    left = Counter(row[0] for row in others)
    left.subtract(row[0] for row in rows)
    missing = {digest: -count for digest, count in left.items() if count < 0}
    found: list[str] = []
    for digest, place in reversed(rows):  # of rows that say the same, the last ones are the new ones
        if missing.get(digest, 0):
            missing[digest] -= 1
            found.append(place)
    return found[::-1]


def shortened(places: Sequence[str]) -> str:
    """The first few places."""
    more = len(places) - PLACES_SHOWN
    return ", ".join([*places[:PLACES_SHOWN], *([f"and {more} more"] if more > 0 else [])])


def versions_changed(home: Path, settings: Mapping[str, Any]) -> list[str]:
    """Which library versions an unfinished run goes on under that it was not begun with; empty for none."""
    if finished(home) is not None or newest_whole(home / "work" / "steps") is None:
        return []
    before = read_json(home / "settings.json") or {}
    return differences(before.get("versions", {}), settings.get("versions", {}))


def finished(home: Path) -> dict[str, Any] | None:
    """The facts of a finished build whose adapter or model is still whole; None otherwise."""
    done = read_json(home / "done.json")
    return done if done is not None and any(is_whole(home / name) for name in TUNED) else None
