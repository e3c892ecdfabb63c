"""Token lengths of a run's rows: one number, or the distribution of a task's own train rows."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import SettingError

if TYPE_CHECKING:
    from tunewise.task import Task

TOKENS_PER_TURN = 8  # what chat templates put around a turn
BYTES_PER_TOKEN = 3.5  # common tokenizers on English, where the model's own is not at hand
MOST_COUNTED = 5_000  # rows; more are thinned evenly


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompt and answer per row, sorted. rows: how many there are in all. said.

    How they were counted.
    """

    values: tuple[int, ...]
    rows: int | None
    said: str

    @property
    def longest(self) -> int:
        """It sets the peak of memory."""
        return self.values[-1]

    @property
    def mean(self) -> float:
        """Tokens of a row without padding."""
        return sum(self.values) / len(self.values)

    def quantile(self, share: float) -> int:
        """The shortest length that at least this share of rows does not pass."""
        return self.values[max(0, math.ceil(share * len(self.values)) - 1)]

    def padded(self, micro_batch: int) -> float:
        """Mean tokens of a row padded to the longest of ``micro_batch`` rows drawn at random.

        Expected maximum of b draws with replacement: sum of x_i ((i/n)^b - ((i-1)/n)^b) over sorted x.
        """
        n, b = len(self.values), micro_batch
        return sum(x * ((i / n) ** b - ((i - 1) / n) ** b) for i, x in enumerate(self.values, 1))

    def to_json(self) -> dict[str, Any]:
        """The distribution in a few figures."""
        return {
            "mean": round(self.mean, 1),
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "longest": self.longest,
            "rows": self.rows,
            "counted": self.said,
        }


def fixed(length: int, rows: int | None = None) -> Lengths:
    """Every row of this length."""
    return Lengths((length,), rows, "every row at the given length")


def of_texts(texts: Sequence[tuple[str, int]], tokenizer: Path | None) -> Lengths:
    """Lengths of (text, number of turns) pairs, by a ``tokenizer.json`` or by 3.5 bytes a token.

    Raises SettingError without rows.
    """
    if not texts:
        raise SettingError("the task has no train rows, so there are no lengths to estimate with")
    step = max(1, math.ceil(len(texts) / MOST_COUNTED))
    shown = texts[::step]
    around = [TOKENS_PER_TURN * turns for _, turns in shown]
    if tokenizer is None:
        counts = [math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text, _ in shown]
        said = f"by {BYTES_PER_TOKEN} bytes a token, since the model's tokenizer is not at hand"
    else:
        from tokenizers import Tokenizer

        cutter = Tokenizer.from_file(str(tokenizer))
        cutter.no_truncation()
        cutter.no_padding()
        found = cutter.encode_batch([text for text, _ in shown], add_special_tokens=False)
        counts = [len(one.ids) for one in found]
        said = "by the model's own tokenizer"
    values = sorted(count + extra for count, extra in zip(counts, around, strict=True))
    return Lengths(tuple(values), len(texts), said)


def of_task(task: "Task", model: str | None = None) -> Lengths:
    """Lengths of a task's train rows as ``zero-shot`` and the tuned rungs write them. Reads the examples.

    model: whose tokens are counted; by default what the task tunes.
    """
    from tunewise.api import read_parts

    parts, _, _ = read_parts(task)
    texts = []
    for example in parts.train:
        turns = [task.instruction or "", *(turn.content for turn in example.turns), example.answer]
        texts.append(("\n".join(turns), 1 + len(turns)))
    return of_texts(texts, tokenizer_of(model or model_of(task)))


def model_of(task: "Task") -> str:
    """What the tuned rungs of a task train. Raises SettingError when that is no local model."""
    spec = task.tune.model if task.tune is not None and task.tune.model is not None else task.model
    if not isinstance(spec, str):
        raise SettingError(
            "the task names no local weights to tune; give MODEL, or tune.model in the task file"
        )
    return spec


def tokenizer_of(model: str) -> Path | None:
    """The ``tokenizer.json`` of a model on this machine, or None.

    Looks into the hub's cache, downloads nothing.
    """
    if model == "embedded":
        from tunewise.models.embedded import converted_place

        folder: Path | None = converted_place()
    else:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            folder = _cached(model)
    found = None if folder is None else folder / "tokenizer.json"
    return found if found is not None and found.is_file() else None


def _cached(hub_id: str) -> Path | None:
    """The newest snapshot of a hub id in the hub's cache."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    snapshots = home / "hub" / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    found = sorted(snapshots.glob("*/tokenizer.json"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None
