"""Generation by transformers' own ``generate``: for models whose attention cannot be replaced."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from tunewise.models.precision import Precision, products
from tunewise.models.writing import Prompt, Row, Written, choose, drawer, hold


class PlainGenerator:
    """transformers' own ``generate``, over prompts of one length at a time: no padding, for any model."""

    def __init__(
        self, model: Any, stops: frozenset[int], rows: int = 32, precision: Precision = "fp32"
    ) -> None:
        self.model = model
        self.stops = stops
        self.rows = rows
        self.precision = precision

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt]) -> list[Written]:
        """One answer per prompt, in order."""
        alike: dict[tuple[int, int], list[Row]] = {}
        rows = [Row(i, prompt, prompt.tokens, drawer(prompt)) for i, prompt in enumerate(prompts)]
        for row in rows:
            alike.setdefault((len(row.suffix), row.prompt.max_new_tokens), []).append(row)
        for group in alike.values():
            for first in range(0, len(group), self.rows):
                with products(self.precision) if self.precision == "bf16" else nullcontext():
                    self._write_batch(group[first : first + self.rows])
        return [Written(tuple(row.tokens), row.finish or "length") for row in rows]

    def _write_batch(self, batch: list[Row]) -> None:
        ids = torch.tensor([row.suffix for row in batch], device=self.model.device)
        out = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=batch[0].prompt.max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(self.stops),
            pad_token_id=min(self.stops),
            logits_processor=LogitsProcessorList([Drawn(batch)]),
        )
        for row, tokens in zip(batch, out[:, ids.shape[1] :].tolist(), strict=True):
            for token in tokens:
                if row.finish is None:
                    row.take(token, self.stops)


class Drawn(LogitsProcessor):
    """Leaves greedy rows as they are but for their limits, and of the others only the token drawn."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores (R, V) -> the same, with all but the drawn token of a sampled row at -inf."""
        if any(row.prompt.limit is not None for row in self.rows):
            start = len(self.rows[0].suffix)  # rows of one batch are of one length
            hold(scores, self.rows, input_ids[:, start:].tolist())
        for i, token in enumerate(choose(scores, self.rows)):
            if self.rows[i].draw is not None:
                kept = scores[i, token].clone()
                scores[i] = -torch.inf
                scores[i, token] = kept
        return scores
