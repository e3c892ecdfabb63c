"""KL to the base on general rows, as a second loss: what the model says there stays near what its base says.

    loss of a step = task loss + weight * mean over answer tokens of KL(base || tuned), in nats

The base's own next-token distributions are the target, as in Li and Hoiem, "Learning without Forgetting",
ECCV 2016, section 3; KL(p || q) = sum over the vocabulary of p * (ln p - ln q). An adapter is switched off to
get the base; full tuning keeps a frozen second copy of the weights, which takes their size once more.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from tunewise.errors import SettingError
from tunewise.training import methods
from tunewise.training.masks import IGNORED, TrainRow
from tunewise.training.packing import tensors

if TYPE_CHECKING:
    from tunewise.training.recipe import Recipe


@dataclass
class Anchor:
    """General rows, and how hard they pull. weight: of the KL beside the task loss. count: rows a step.

    copy: the frozen base of full tuning; None where an adapter can be switched off.
    """

    rows: Sequence[TrainRow]
    weight: float
    count: int
    seed: int
    copy: Any = None

    def of_step(self, step: int) -> list[TrainRow]:
        """The rows of a step (from 0): one random order, over and over; the same in a resumed run."""
        order = list(range(len(self.rows)))
        random.Random(self.seed).shuffle(order)
        begin = step * self.count
        return [self.rows[order[(begin + place) % len(order)]] for place in range(self.count)]

    def inputs(self, model: Any, step: int) -> dict[str, Any]:
        """The rows of a step as one pass."""
        return {name: value.to(model.device) for name, value in tensors(self.of_step(step)).items()}

    def divergence(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Mean KL(base || tuned) over the answer tokens of a pass, in nats; gradients flow into ``model``."""
        valid = inputs["labels"].flatten() != IGNORED
        given = {name: value for name, value in inputs.items() if name not in ("labels", "shift_labels")}
        with torch.no_grad():
            if self.copy is not None:
                before = self.copy(**given, use_cache=False).logits[0]
            else:
                with model.disable_adapter():
                    before = model(**given, use_cache=False).logits[0]
            before = before[valid].float().log_softmax(-1)
        after = model(**given, use_cache=False).logits[0][valid].float().log_softmax(-1)
        return functional.kl_div(after, before, log_target=True, reduction="none").sum(-1).mean()


def anchor_of(base: Path, model: Any, rows: Sequence[TrainRow], recipe: "Recipe") -> Anchor | None:
    """The anchor of a run; None without a weight. Raises SettingError for models that cannot be packed."""
    if not recipe.kl_weight:
        return None
    if not rows:
        raise ValueError("a KL weight needs general rows")
    if not recipe.packed:
        raise SettingError("training.kl needs a model whose rows can share a pass, and this one's cannot")
    copy = None
    if not methods.is_adapted(model):
        copy = methods.open_base(base, recipe).requires_grad_(False).eval().to(model.device)
    return Anchor(rows, recipe.kl_weight, recipe.kl_rows, recipe.seed, copy)
