"""``guard`` in the task file: what watches a training run for forgetting.

guard: {data: benchmarks/, benchmarks: [hellaswag, piqa, lambada], max_relative_drop: 0.05, time_share: 0.10,
        forgetting: stop}
guard: full            # no time budget; guard: off takes the guard away
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo

from tunewise.marked_yaml import nearest
from tunewise.task_fields import Number, Section, a_text, mistake
from tunewise.task_mistakes import shown

HUB = "hub"
FEWEST_BENCHMARKS = 3
MODES = ("on", "full", "off")


def _folder(value: object, info: ValidationInfo) -> str:
    """``hub``, or a folder resolved against the task file's."""
    text = str(a_text(str(value) if isinstance(value, Path) else value))
    folder = (info.context or {}).get("folder")
    if text == HUB or folder is None:
        return text
    path = Path(folder, Path(text).expanduser()).absolute()
    if not path.is_dir():
        raise mistake(
            f"'{text}' is no folder (looked for {path}); name the folder that holds the benchmarks' rows "
            "(hellaswag/*.jsonl, piqa/*.jsonl, ...), or 'hub' to read them from there"
        )
    return str(path)


def _benchmarks(value: object, info: ValidationInfo) -> tuple[str, ...]:
    """Known names or files of questions, at least three."""
    from tunewise.benchmarks.tasks import NAMES

    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise mistake(f"a list of names was expected ([hellaswag, piqa, lambada]), got {shown(value)}")
    folder, found = (info.context or {}).get("folder"), []
    for name in value:
        if name.endswith(".jsonl"):
            path = Path(folder or ".", Path(name).expanduser()).absolute()
            if folder is not None and not path.is_file():
                raise mistake(f"'{name}' does not exist (looked for {path})")
            found.append(str(path))
        elif name not in NAMES:
            raise mistake(
                f"unknown benchmark {shown(name)}{nearest(name, NAMES)}; there are {', '.join(NAMES)}, and "
                ".jsonl files with question, choices and answer_index in each row"
            )
        elif name in ("ifeval", "text"):
            raise mistake(
                f"{name} has no right and wrong items to compare in pairs; take a benchmark of choices"
            )
        else:
            found.append(name)
    if {"mmlu", "mmlu_5shot"} <= set(found):
        raise mistake(
            "mmlu and mmlu_5shot ask the same questions, and the test takes each for a new one; name one"
        )
    if len(set(found)) < FEWEST_BENCHMARKS:
        raise mistake(
            f"at least {FEWEST_BENCHMARKS} different benchmarks were expected, got {len(set(found))}"
        )
    return tuple(dict.fromkeys(found))


class Guard(Section):
    """What watches for forgetting.

    data: folder with the benchmarks' rows, or ``hub``; None: the guard is off. benchmarks: None takes those
    that the model does above chance. max_relative_drop: of all right answers together. time_share: of the
    training time that the readings may take. forgetting: whether an alarm stops the run and keeps the rung
    from winning. mode: ``full`` ignores time_share.
    """

    mode: Literal["on", "full", "off"] = "on"
    data: Annotated[str, BeforeValidator(_folder)] | None = None
    benchmarks: Annotated[tuple[str, ...], BeforeValidator(_benchmarks)] | None = None
    max_relative_drop: Annotated[Number, Field(gt=0, lt=1)] = 0.05
    time_share: Annotated[Number, Field(gt=0, le=1)] = 0.10
    forgetting: Literal["stop", "ignore"] = "stop"

    def settings(self) -> dict[str, Any]:
        """What shapes a verdict, as JSON values; the rows count where they are read, not where they lie."""
        named = None if self.benchmarks is None else [Path(name).name for name in self.benchmarks]
        return {**self.model_dump(mode="json", exclude={"data"}), "benchmarks": named}


def as_section(value: object) -> object:
    """``guard: full`` and ``guard: off`` as sections."""
    if value is False:
        value = "off"
    if isinstance(value, str):
        if value not in MODES:
            raise mistake(
                f"{', '.join(MODES)} or a section was expected, got {shown(value)}{nearest(value, MODES)}"
            )
        return {"mode": value}
    return value


GuardSection = Annotated[Guard, BeforeValidator(as_section)]
