"""What must be the same for a run to be resumed, and how its models are named to people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunewise.task import EndpointSpec, Task

if TYPE_CHECKING:
    from tunewise.api import Opened


def settings_of_run(opened: "Opened", seed: int, rungs: Sequence[str] | None) -> dict[str, Any]:
    """What must be the same for a run to be resumed: all but budget and how a host is reached."""
    settings = opened.task.settings()
    del settings["budget"], settings["economics"]
    if settings["limits"] is None:
        del settings["limits"]
    settings["model"] = opened.door.fingerprint
    if opened.judge_door is not None:
        settings["judge"]["model"] = opened.judge_door.fingerprint
        del settings["judge"]["labels"]  # they are made on a run's own answers, and fixed once they are used
    if opened.teacher_door is not None:
        settings["teacher"]["model"] = opened.teacher_door.fingerprint
    tune = settings["tune"] or {}
    settings["tune"] = tune.get("model") if tune.get("method") is None else [tune["model"], tune["method"]]
    return {**settings, "seed": seed, "rungs": sorted(rungs) if rungs is not None else None}


def model_words(task: Task) -> dict[str, str]:
    """The models of a task as its file names them, for settings that hold their fingerprints."""
    named = {
        "model": task.model,
        "judge.model": task.judge.model if task.judge is not None else None,
        "teacher.model": task.teacher.model if task.teacher is not None else None,
    }
    return {
        key: f"{spec.name} at {spec.endpoint}" if isinstance(spec, EndpointSpec) else str(spec)
        for key, spec in named.items()
        if spec is not None
    }
