"""The kinds of fields that sections of the task file are made of; each section module builds on these."""

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from tunewise.task_mistakes import shown


def mistake(words: str) -> PydanticCustomError:
    """A mistake in our own words, shown as it is."""
    return PydanticCustomError("mistake", "{text}", {"text": words})


def existing(value: object, info: ValidationInfo, *, kind: Literal["file", "documents"]) -> Path:
    """A path of the task file, resolved against the file's folder; without a file it is taken as it is."""
    if not isinstance(value, str | Path) or not str(value):
        raise mistake(f"a path was expected, got {shown(value)}")
    folder = (info.context or {}).get("folder")
    if folder is None:
        return Path(value)
    path = Path(folder, Path(value).expanduser()).absolute()
    if kind == "file" and path.is_dir():
        raise mistake(f"'{value}' is a folder; name the file with the examples ({path})")
    if not path.exists():
        raise mistake(f"'{value}' does not exist (looked for {path}); paths start at the task file's folder")
    if kind == "documents" and path.is_dir() and not any(p.is_file() for p in path.rglob("*")):
        raise mistake(f"'{value}' is an empty folder; put the documents into it ({path})")
    return path


def a_number(value: object) -> object:
    """Numbers only: YAML's true and quoted text are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise mistake(f"a number was expected, got {shown(value)}")
    return value


def a_text(value: object) -> object:
    """A text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise mistake(f"a text was expected, got {shown(value)}")
    return value


Number = Annotated[float, BeforeValidator(a_number)]
Positive = Annotated[Number, Field(gt=0)]
Count = Annotated[int, BeforeValidator(a_number), Field(ge=1)]
Text = Annotated[str, BeforeValidator(a_text)]
DataFile = Annotated[Path, BeforeValidator(partial(existing, kind="file"))]
Documents = Annotated[Path, BeforeValidator(partial(existing, kind="documents"))]


class Section(BaseModel):
    """A part of the task file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
