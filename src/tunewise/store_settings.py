"""The settings that a run was started with: what resumes it, what makes way, and differences in words."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MEASURED = """
    SELECT (SELECT count(*) FROM calls) + (SELECT count(*) FROM outcomes) + (SELECT count(*) FROM costs)
        + (SELECT count(*) FROM failures WHERE coalesce(usd, upper_usd, 0) > 0)
"""


@dataclass(frozen=True, slots=True)
class Named:
    """Settings, and how to name those, by dotted key, whose values say nothing to people."""

    settings: dict[str, Any]
    words: dict[str, str]


def make_way(path: Path, settings: dict[str, Any], application_id: int) -> None:
    """Remove a run of other settings that has no answer, no outcome and no cost; to be called under its lock.

    Such a run comes of a mistake in the settings (a wrong address), and holds nothing worth going on with.
    A file that cannot be read as a run is left for ``Store.open`` to name.
    """
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=1.0)) as connection:
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            if owner != application_id:
                return
            then = connection.execute("SELECT value FROM meta WHERE name = 'settings'").fetchone()
            (measured,) = connection.execute(_MEASURED).fetchone()
    except sqlite3.Error:
        return
    if then is not None and not measured and json.loads(then[0]) != settings:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)


def other_settings(path: Path, then: Named, now: Named) -> str:
    """The message of a refusal: every setting that differs, as it was and as it is."""
    before, after = _flat(then.settings), _flat(now.settings)
    lines = [
        f"  - {key}: then {_short(before, then.words, key)}, now {_short(after, now.words, key)}"
        for key in sorted({*before, *after})
        if key not in before or key not in after or before[key] != after[key]
    ]
    return "\n".join(
        [
            f"{path} holds a run that was started with other settings:",
            *lines,
            "Choose another --out for a new run, or go back to these settings to resume this one.",
        ]
    )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            flat.update(_flat(inner, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = inner
    return flat


def _short(settings: dict[str, Any], words: dict[str, str], key: str) -> str:
    if key not in settings:
        return "(not set)"
    text = json.dumps(settings[key], ensure_ascii=False)
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return text if key not in words else f"{words[key]} ({text[1:13]})"
