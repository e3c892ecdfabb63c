"""Task file -> one validated frozen object; all mistakes reported at once, each with line and key."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from tunewise.errors import TaskFileError
from tunewise.marked_yaml import Lines, nearest, read_sections
from tunewise.task_facts import AdviceSection, advice_problems
from tunewise.task_fields import (
    Count,
    DataFile,
    Documents,
    Number,
    Positive,
    Section,
    Text,
    a_text,
    mistake,
)
from tunewise.task_guard import GuardSection
from tunewise.task_limits import Economics, Limits
from tunewise.task_metric import checked_options, known_metric, metric_mistakes, split_metric
from tunewise.task_mistakes import explain
from tunewise.task_output import Output, output_mistakes
from tunewise.task_style import Style, prepared_mistakes
from tunewise.task_training import Training

DOOR_CONCURRENCY = 8  # calls under way at once at an endpoint


class PartPaths(Section):
    """Parts that the user split: three files."""

    train: DataFile
    selection: DataFile
    certification: DataFile


class Split(Section):
    """Shares of the parts (sum 1), and the row field whose equal values stay together."""

    train: Annotated[Number, Field(ge=0)] = 0.50
    selection: Annotated[Number, Field(ge=0)] = 0.15
    certification: Positive = 0.35
    group: Text | None = None

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Split":
        total = self.train + self.selection + self.certification
        if abs(total - 1) > 1e-6:
            shares = f"train {self.train:g} + selection {self.selection:g}"
            raise mistake(
                f"the shares must sum to 1, got {shares} + certification {self.certification:g} = {total:g} "
                "(a share that is left out has its default: 0.50, 0.15, 0.35)"
            )
        return self


class Knowledge(Section):
    """Documents that hold what the model cannot know: a folder or a file.

    changes: how fast what they say changes. documents_after: a later version of them; ``decide`` then also
    reports how each rung does after the change (rows: ``output_after``).
    """

    documents: Documents
    changes: Literal["never", "yearly", "monthly", "weekly", "daily"] | None = None
    documents_after: Documents | None = None


class DecodingSettings(Section):
    """How answers are drawn. ``max_new_tokens`` in tokens of the model; ``temperature`` 0 is greedy.

    ``precision`` of local weights on a CPU: ``auto`` takes bf16 where the CPU multiplies it itself.
    """

    max_new_tokens: Count = 256
    temperature: Annotated[Number, Field(ge=0)] = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"


class PriceSpec(Section):
    """USD per million tokens."""

    input: Annotated[Number, Field(ge=0)]
    output: Annotated[Number, Field(ge=0)]
    cached_input: Annotated[Number, Field(ge=0)] | None = None


class EndpointSpec(Section):
    """An OpenAI-compatible endpoint. ``api_key_env`` names the environment variable that holds the key."""

    endpoint: Annotated[Text, Field(pattern=r"^https?://\S+$")]
    name: Text
    usd_per_million: PriceSpec | None = None
    api_key_env: Text | None = None
    concurrency: Count = DOOR_CONCURRENCY
    timeout_s: Positive = 120.0


class ScriptedSpec(Section):
    """A Python object that answers: ``module:attribute``. For tests and for systems without an endpoint."""

    scripted: Annotated[Text, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


def _model_name(value: object, info: ValidationInfo) -> object:
    """``embedded``, a hub id, or a folder (resolved against the task file's folder)."""
    text = str(a_text(value))
    folder = (info.context or {}).get("folder")
    if folder is None or text == "embedded":
        return text
    path = Path(folder, Path(text).expanduser()).absolute()
    if path.is_dir():
        return str(path)
    if "/" not in text and (near := nearest(text, ["embedded"])):
        raise mistake(f"'{text}' is no folder here{near}")
    if text.startswith((".", "/", "~")) or len(Path(text).parts) > 2:
        raise mistake(
            f"'{text}' is no folder (looked for {path}); use 'embedded', a folder of weights, a hub id "
            "(OWNER/NAME) or {endpoint: URL, name: NAME}"
        )
    return text


def _model_kind(value: object) -> str:
    if isinstance(value, EndpointSpec) or (isinstance(value, Mapping) and "scripted" not in value):
        return "endpoint"
    return "scripted" if isinstance(value, ScriptedSpec | Mapping) else "name"


ModelName = Annotated[str, BeforeValidator(_model_name)]
ModelSpec = Annotated[
    Annotated[ModelName, Tag("name")]
    | Annotated[EndpointSpec, Tag("endpoint")]
    | Annotated[ScriptedSpec, Tag("scripted")],
    Discriminator(_model_kind),
]


def _tune_kind(value: object) -> str:
    return "scripted" if isinstance(value, ScriptedSpec | Mapping) else "name"


class Tune(Section):
    """The local weights that the tuned rungs train; ``usd_per_hour`` prices the machine they run on.

    method: how they are trained where no rung is named: ``lora`` by default.
    """

    model: (
        Annotated[
            Annotated[ModelName, Tag("name")] | Annotated[ScriptedSpec, Tag("scripted")],
            Discriminator(_tune_kind),
        ]
        | None
    ) = None
    usd_per_hour: Annotated[Number, Field(ge=0)] | None = None
    method: Literal["lora", "qlora", "full"] | None = None


class JudgeSpec(Section):
    """A model that reads answers by a rubric. labels: people's labels, which it has to agree with to decide.

    show_reference: whether the judge sees a right answer beside the one it grades. max_new_tokens: room for
    its answer.
    """

    model: ModelSpec
    rubric: DataFile
    labels: DataFile | None = None
    show_reference: bool = False
    max_new_tokens: Count = 400


class Teacher(Section):
    """Who answers the inputs that ``distilled`` learns from; a door alone stands for ``{model: DOOR}``.

    model: by default the task's. rung: how it is asked. inputs: what it answers, rows whose answers may be
    missing; by default the train part's inputs. most: inputs that it is asked at most.
    """

    model: ModelSpec | None = None
    rung: Literal["zero-shot", "few-shot", "few-shot-nearest", "rag"] = "zero-shot"
    inputs: DataFile | None = None
    most: Count = 2000


def _a_teacher(value: object) -> object:
    """A door alone is a teacher asked with the bare prompt."""
    if isinstance(value, str) or (isinstance(value, Mapping) and {"endpoint", "scripted"} & set(value)):
        return {"model": value}
    return value


class Budget(Section):
    """The cap on one run: money in USD, time in hours. None: no cap."""

    usd: Annotated[Number, Field(ge=0)] | None = None
    hours: Positive | None = None


def _examples_kind(value: object) -> str:
    return "parts" if isinstance(value, PartPaths | Mapping) else "file"


class Task(Section):
    """What is wanted, complete and checked. Paths are absolute when the task was read from a file.

    target: the quality to prove, in (0, 1). tolerance: see ``zone``. instruction: None when what is
    wanted cannot be said in words. metric, metric_options: in a file both stand under ``metric``, a name or
    ``{name: ..., options}``. path: the task file.
    """

    name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    instruction: Text | None = None
    examples: Annotated[
        Annotated[DataFile, Tag("file")] | Annotated[PartPaths, Tag("parts")], Discriminator(_examples_kind)
    ]
    split: Split = Split()
    metric: Annotated[str, BeforeValidator(known_metric)]
    metric_options: Annotated[dict[str, Any], BeforeValidator(checked_options)] = {}  # noqa: RUF012
    target: Annotated[Number, Field(gt=0, lt=1)]
    tolerance: Annotated[Number, Field(ge=0, lt=1)] | None = None
    limits: Limits | None = None
    output: Output | None = None
    knowledge: Knowledge | None = None
    decoding: DecodingSettings = DecodingSettings()
    model: ModelSpec = "embedded"
    tune: Tune | None = None
    training: Training = Training()
    guard: GuardSection | None = None
    economics: Economics | None = None
    style: Style | None = None
    judge: JudgeSpec | None = None
    teacher: Annotated[Teacher, BeforeValidator(_a_teacher)] | None = None
    budget: Budget | None = None
    on_not_proved: Literal["climb", "stop"] = "climb"
    advice: AdviceSection | None = None
    path: Path = Field(default=Path("task.yaml"), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _metric_with_options(cls, given: Any) -> Any:
        return split_metric(given) if isinstance(given, Mapping) else given

    @property
    def zone(self) -> float:
        """The tolerance in force: the given one, else 0.02 * sqrt(t (1 - t) / 0.09), 2 points at 0.90."""
        if self.tolerance is not None:
            return self.tolerance
        return 0.02 * math.sqrt(self.target * (1 - self.target) / 0.09)

    def settings(self) -> dict[str, Any]:
        """All settings that shape a verdict, as JSON values; data and documents stand for their SHA-256."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        if not plain["metric_options"]:
            del plain["metric_options"]
        del plain["advice"], plain["training"]["curve"]  # neither shapes a verdict
        if plain["decoding"]["precision"] == "fp32":  # as runs had it before there was a choice
            del plain["decoding"]["precision"]
        for name in ("style", "judge", "teacher"):
            if plain[name] is None:
                del plain[name]
        for side in ("reference", "base") if self.style is not None else ():
            if getattr(self.style, side) is not None:
                plain["style"][side] = _content(getattr(self.style, side))
        if self.guard is None:
            del plain["guard"]
        else:
            plain["guard"] = self.guard.settings()
        if self.teacher is not None and self.teacher.inputs is not None:
            plain["teacher"]["inputs"] = _content(self.teacher.inputs)
        if self.judge is not None:
            plain["judge"]["rubric"] = _content(self.judge.rubric)
            if self.judge.labels is not None:
                plain["judge"]["labels"] = _content(self.judge.labels)
        if isinstance(self.examples, PartPaths):
            files = {part: getattr(self.examples, part) for part in PartPaths.model_fields}
            plain["examples"] = {part: _content(path) for part, path in files.items()}
        else:
            plain["examples"] = _content(self.examples)
        if self.training.mix is not None:
            plain["training"]["mix"]["general"] = _content(self.training.mix.general)
            if not self.training.mix.replay:
                del plain["training"]["mix"]["replay"], plain["training"]["mix"]["max_new_tokens"]
        for name in ("cpt", "retrieval"):
            if plain["training"][name] is None:
                del plain["training"][name]
        for name in ("documents", "general") if self.training.cpt is not None else ():
            if getattr(self.training.cpt, name) is not None:
                plain["training"]["cpt"][name] = _content(getattr(self.training.cpt, name))
        if self.knowledge is not None:
            plain["knowledge"] = {"documents": _content(self.knowledge.documents)}
        if self.output is not None:
            plain["output"] = self.output.settings()
        return plain

    def fingerprint(self) -> str:
        """64 hex digits of SHA-256 over all settings and the content of the data files."""
        text = json.dumps(self.settings(), ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def _content(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names in it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{part.relative_to(path).as_posix()}\0{_content(part)}\n".encode())
    return whole.hexdigest()


def load_task(path: str | Path) -> Task:
    """Read a task file. Raises TaskFileError with every mistake in it, one line each."""
    file = Path(path).absolute()
    document, lines, problems = read_sections(file)
    problems += _across_sections(document, lines)
    problems += metric_mistakes(document, lines)
    problems += prepared_mistakes(document, lines)
    problems += advice_problems(document, lines)
    problems += output_mistakes(document, lines, file.parent)
    if "path" in document:
        problems.append(
            (lines.at(("path",)), "path: unknown key; the task file needs none for its own place")
        )
    try:
        task = Task.model_validate(document | {"path": file}, context={"folder": file.parent})
    except ValidationError as error:
        problems += [explain(detail, lines, Task) for detail in error.errors(include_url=False)]
    if problems:
        raise TaskFileError(path, [f"line {line}: {text}" for line, text in sorted(set(problems))])
    return task


def _across_sections(document: Mapping[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """Mistakes that no key makes alone."""
    problems: list[tuple[int, str]] = []
    examples, split = document.get("examples"), document.get("split")
    if isinstance(examples, dict):
        if isinstance(split, dict) and (shares := sorted(set(split) & set(PartPaths.model_fields))):
            text = f"split.{shares[0]}: 'examples' already names the three parts; take the shares out"
            problems.append((lines.at(("split", shares[0])), text + " or give 'examples' one file"))
        first_part: dict[str, str] = {}
        for part, path in examples.items():
            first = first_part.setdefault(str(path), part)
            if first != part:
                text = f"examples.{part}: '{path}' is also examples.{first}; the parts must be disjoint"
                problems.append((lines.at(("examples", part)), text))
    problems += _more_at_once_than_the_door(document, lines)
    target, tolerance = document.get("target"), document.get("tolerance")
    if isinstance(target, float) and isinstance(tolerance, float) and 0 < target < 1 and tolerance >= target:
        text = f"tolerance: {tolerance:g} must be smaller than the target {target:g}"
        problems.append((lines.at(("tolerance",)), text))
    return problems


def _more_at_once_than_the_door(document: Mapping[str, Any], lines: Lines) -> list[tuple[int, str]]:
    """Calls that wait here for their turn would count as slow ones of the host."""
    limits, model = document.get("limits"), document.get("model")
    if not isinstance(limits, dict) or not isinstance(model, dict) or "endpoint" not in model:
        return []
    asked, most = limits.get("concurrency", 1), model.get("concurrency", DOOR_CONCURRENCY)
    if not isinstance(asked, int) or not isinstance(most, int) or asked <= most:
        return []
    text = f"limits.concurrency: {asked} calls at once cannot be timed where the model takes {most}"
    return [(lines.at(("limits", "concurrency")), f"{text}; raise model.concurrency to {asked} as well")]
