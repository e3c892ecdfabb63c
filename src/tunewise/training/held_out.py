"""The loss of rows under a model, packed or one by one. Heavy: imports torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from tunewise.models.precision import half
from tunewise.training import lean
from tunewise.training.masks import IGNORED, TrainRow
from tunewise.training.packing import tensors

if TYPE_CHECKING:
    from tunewise.training.recipe import Recipe


def on_device(inputs: dict[str, Any], device: Any) -> dict[str, Any]:
    """The tensors of a pack moved; a layout of rows stays."""
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()
    }


def pack_loss(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Summed negative log-likelihood in nats of a pack's targets, and how many there are."""
    return (lean.pack_loss if "row_layout" in inputs else lean.own_loss)(model, inputs)


def held_out_loss(model: Any, rows: Sequence[TrainRow], recipe: "Recipe") -> float | None:
    """Mean negative log-likelihood in nats per answer token of ``rows``; None without rows."""
    if not rows:
        return None
    total, count = 0.0, 0
    was_training = model.training
    model.eval()
    size = recipe.rows_per_pass if recipe.packed else 1
    with torch.no_grad(), half(recipe.precision, model.device.type):
        for start in range(0, len(rows), size):
            if recipe.packed:
                some = tensors(rows[start : start + size], bool(recipe.lean))
                loss, targets = pack_loss(model, on_device(some, model.device))
            else:
                loss, targets = row_loss(model, rows[start])
            total, count = total + float(loss), count + targets
    model.train(was_training)
    return total / count


def row_loss(model: Any, row: TrainRow) -> tuple[torch.Tensor, int]:
    """As ``pack_loss``, of one row under the model's own mask, whatever that is."""
    ids = torch.tensor([row.ids], device=model.device)
    targets = torch.tensor(row.labels[1:], device=model.device)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, :-1]
    total = torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
    return total, int((targets != IGNORED).sum())
