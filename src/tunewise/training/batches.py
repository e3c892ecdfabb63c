"""What a step is made of: rows in an order, handed to the trainer as one batch. Heavy: imports torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler

from tunewise.training import mixing
from tunewise.training.masks import IGNORED, TrainRow


@dataclass(eq=False)
class Batch:
    """The rows of one step in one process; opaque to the libraries, which would copy lists item by item."""

    rows: list[TrainRow]


class MixedOrder(Sampler[int]):
    """The rows of each epoch as ``mixing.order`` says; the trainer names the epoch, also when it resumes."""

    def __init__(self, mix: mixing.Mix, seed: int) -> None:
        self.mix, self.seed, self.epoch = mix, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.mix.total

    def __iter__(self) -> Iterator[int]:
        return iter(mixing.order(self.mix, self.seed, self.epoch))


class LengthOrder(Sampler[int]):
    """Rows in batches alike in length, drawn anew each epoch from seed and epoch alone.

    The trainer's own draws from the global generator, so that a run that goes on within an epoch would have
    another order than the one that was cut off.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = list(lengths), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        from transformers import trainer_pt_utils

        drawn = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        group: Any = trainer_pt_utils.get_length_grouped_indices
        return iter(group(self.lengths, self.batch, generator=drawn))


class Collate:
    """Dataset rows as one Batch, beside the labels that the trainer counts."""

    def __init__(self, rows: Sequence[TrainRow]) -> None:
        self.rows = rows

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """``labels`` and ``shift_labels``: all targets of the batch, (1, targets)."""
        some = [self.rows[example["row"]] for example in examples]
        targets = torch.tensor([[label for row in some for label in row.labels if label != IGNORED]])
        return {"batch": Batch(some), "labels": targets, "shift_labels": targets}
