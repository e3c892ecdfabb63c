"""Attention over one prefix shared by all rows of a batch, and over each row's own keys and values.

A prompt's first tokens are often the same for every row (instruction, fixed examples). Their keys and values
depend on these tokens alone, so they are kept once, not once per row. The scores against the prefix are one
matrix product for all rows together; they enter the same softmax as the scores against the row's own cache,
so that the result is that of ordinary attention (Vaswani et al. 2017, eq. 1).

Shapes: R rows, H heads, K key-value heads (G = H / K heads share one), D head size, P prefix tokens, S own
columns, Q query tokens per row, N = R * G * Q. Caches lie as (K, R, S, D): with K in front, the products
against the prefix are plain batched ones.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from tunewise.models.packed_linear import PackedWeight
from tunewise.models.precision import products

NAME = "tunewise_joint"
SPARE_COLUMNS = 48
WORTH_ROUNDING = 64  # queries of a row; of fewer the copies that rounding needs take longer than it saves


@dataclass(frozen=True, slots=True)
class PrefixKV:
    """Keys and values of a prefix, a pair of (K, P, D) tensors per layer, and the tokens they stand for."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def first(self, length: int) -> "PrefixKV":
        """The first ``length`` tokens: views, nothing is copied."""
        if length == len(self.tokens):
            return self
        return PrefixKV(self.tokens[:length], tuple((k[:, :length], v[:, :length]) for k, v in self.layers))

    def followed_by(self, rows: "RowsKV", tokens: tuple[int, ...]) -> "PrefixKV":
        """This prefix and the ``tokens`` that the only row of ``rows`` holds, as one longer prefix."""
        longer = zip(self.layers, rows.only_row(len(tokens)), strict=True)
        joined = tuple(
            (torch.cat((k, own_k), 1), torch.cat((v, own_v), 1)) for (k, v), (own_k, own_v) in longer
        )
        return PrefixKV(self.tokens + tokens, joined)

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        return sum(t.numel() * t.element_size() for pair in self.layers for t in pair)


class SharedPrefix:
    """A prefix in use: its two products with the queries of all rows.

    packed: lay keys and values out for oneDNN first (fp32 on a CPU), which halves the time of the products.
    """

    def __init__(self, kv: PrefixKV, packed: bool) -> None:
        self.length = len(kv.tokens)
        self.layers = kv.layers
        self.packed: list[tuple[list[PackedWeight], list[PackedWeight]]] = []
        if packed:
            self.packed = [([PackedWeight(k) for k in keys], [PackedWeight(v.t()) for v in values])
                           for keys, values in kv.layers]  # fmt: skip

    def scores(self, layer: int, queries: Tensor, into: Tensor) -> None:
        """Write queries (K, N, D) times the keys into (K, N, P)."""
        if self.packed:
            for head, keys in enumerate(self.packed[layer][0]):
                into[head] = keys.times(queries[head])
        else:
            into.copy_(torch.bmm(queries, self.layers[layer][0].transpose(1, 2)))

    def mixed(self, layer: int, weights: Tensor) -> Tensor:
        """Values weighted by (K, N, P): (K, N, D)."""
        if self.packed:
            pairs = zip(self.packed[layer][1], weights, strict=True)
            return torch.stack([values.times(by_head) for values, by_head in pairs])
        return torch.bmm(weights, self.layers[layer][1])


class RowsKV(Cache):
    """Keys and values of R rows, in buffers that grow: what the model takes for its cache.

    Rows are aligned at the right: the first ``pads[r]`` columns of row r hold nothing. ``aim`` says before
    each forward pass which rows are fed and from which column on. Columns whose tokens turned out not to be
    a row's are left behind as gaps (``take_back``). held (R, columns): which columns are a row's own; those
    not yet written count as such.

    rounded: where many queries are read, factors of the products may be rounded to bf16.
    """

    def __init__(
        self,
        pads: list[int],
        columns: int,
        prefix: SharedPrefix | None,
        device: torch.device,
        *,
        rounded: bool = False,
    ) -> None:
        super().__init__(layers=[])
        self.rounded = rounded
        self.prefix = prefix
        self.prefix_length = prefix.length if prefix else 0
        self.columns = columns
        self.buffers: list[tuple[Tensor, Tensor]] = []
        beginnings = torch.tensor(pads, device=device)
        self.held = torch.arange(columns, device=device) >= beginnings[:, None]
        self.gaps = any(pads)
        self.rows = slice(0, len(pads))
        self.begin = self.end = 0
        self.bias: Tensor | None = None  # (R, 1, Q, S) of a pass: -inf where a query may not look, else 0

    def aim(self, rows: slice, begin: int, length: int, guessed: Tensor | None = None) -> Tensor:
        """Prepare a pass of ``length`` tokens from column ``begin`` on; position ids (rows, length).

        guessed (rows,): how many tokens behind the first are a row's guesses; those after them fill up.
        """
        self.rows, self.begin, self.end = rows, begin, begin + length
        if self.end > self.columns:
            self.widen(self.end + SPARE_COLUMNS)
        held = self.held[rows, : self.end]
        self.bias = hidden_columns(held, begin) if length > 1 or self.gaps else None
        positions = (held.cumsum(1)[:, begin:] - 1).clamp_(min=0)
        if guessed is not None:
            positions = torch.minimum(positions, positions[:, :1] + guessed[:, None])
        return positions + self.prefix_length

    def take_back(self, counts: Tensor) -> None:
        """Of the last pass only the first ``counts[r]`` tokens are row r's, (R,); the others are gaps."""
        kept = torch.arange(self.end - self.begin, device=counts.device) < counts[:, None]
        self.held[:, self.begin : self.end] = kept
        self.gaps = self.gaps or not bool(kept.all())

    def widen(self, columns: int) -> None:
        """Make room for ``columns``; what is written stays where it is."""
        for i, (keys, values) in enumerate(self.buffers):  # layer by layer: only one is held twice
            self.buffers[i] = widened(keys, columns), widened(values, columns)
        more = columns - self.held.shape[1]
        self.held = torch.cat((self.held, self.held.new_ones(len(self.held), more)), 1)
        self.columns = columns

    def close_gaps(self) -> None:
        """Move what rows hold to the right, so that as few columns as possible are in use."""
        held = self.held[:, : self.end]
        longest = int(held.sum(1).max())
        if longest == self.end:
            return
        order = held.to(torch.uint8).argsort(dim=1, stable=True)[:, -longest:]  # empty ones first
        for i, (keys, values) in enumerate(self.buffers):
            chosen = order[None, :, :, None].expand(len(keys), -1, -1, keys.shape[3])
            self.buffers[i] = (
                widened(keys.gather(2, chosen), self.columns),
                widened(values.gather(2, chosen), self.columns),
            )
        kept = held.gather(1, order)
        self.held = torch.cat((kept, kept.new_ones(len(kept), self.columns - longest)), 1)
        self.end, self.gaps = longest, not bool(kept.all())

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write (R, K, Q, D) states of the aimed rows; all their columns so far, as (K, R, S, D) views."""
        if layer_idx == len(self.buffers):
            shape = (key_states.shape[1], self.held.shape[0], self.columns)
            self.buffers.append(
                (
                    key_states.new_zeros(*shape, key_states.shape[3]),
                    value_states.new_zeros(*shape, value_states.shape[3]),
                )
            )
        keys, values = self.buffers[layer_idx]
        keys[:, self.rows, self.begin : self.end] = key_states.transpose(0, 1)
        values[:, self.rows, self.begin : self.end] = value_states.transpose(0, 1)
        return keys[:, self.rows, : self.end], values[:, self.rows, : self.end]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before this pass, prefix included."""
        return self.prefix_length + self.begin

    def keep(self, rows: Tensor) -> None:
        """Drop every row whose index is not in ``rows``."""
        for i, (keys, values) in enumerate(self.buffers):
            self.buffers[i] = keys.index_select(1, rows), values.index_select(1, rows)
        self.held = self.held[rows]
        self.gaps = not bool(self.held.all())

    def only_row(self, length: int) -> tuple[tuple[Tensor, Tensor], ...]:
        """Per layer, keys and values (K, length, D) of the only row."""
        return tuple((k[:, 0, :length], v[:, 0, :length]) for k, v in self.buffers)


def widened(buffer: Tensor, columns: int) -> Tensor:
    """A (K, R, S, D) buffer with ``columns`` columns, the new ones empty."""
    wide = buffer.new_zeros(*buffer.shape[:2], columns, buffer.shape[3])
    wide[:, :, : buffer.shape[2]] = buffer
    return wide


def hidden_columns(held: Tensor, begin: int) -> Tensor:
    """What is added to own scores, (R, 1, Q, S): -inf for columns that hold nothing and later ones, else 0.

    held (R, S); the queries are the columns from ``begin`` on. A query in an empty column sees itself: a
    softmax over nothing would be undefined, and spread.
    """
    columns = torch.arange(held.shape[1], device=held.device)
    queries = columns[begin:, None]
    seen = (held[:, None] & (columns <= queries)) | (columns == queries)
    return torch.zeros(seen.shape, device=held.device).masked_fill_(~seen, -torch.inf)[:, None]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows_kv: RowsKV,
    scaling: float | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (R, H, Q, D), key and value (K, R, S, D) -> (R, Q, H, D)."""
    rounds = rows_kv.rounded and query.shape[2] >= WORTH_ROUNDING
    scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    with products("bf16") if rounds else nullcontext():
        return mixed_values(module.layer_idx, scaled, key, value, rows_kv), None


def mixed_values(layer: int, scaled: Tensor, key: Tensor, value: Tensor, rows_kv: RowsKV) -> Tensor:
    """Values weighted by the softmax of queries times keys; shapes as in ``attend``."""
    rows, heads, width, size = scaled.shape
    kv_heads, columns = key.shape[0], key.shape[2]
    folded = scaled.reshape(rows, kv_heads, -1, size).transpose(0, 1).reshape(kv_heads, -1, size)  # (K, N, D)
    own = torch.matmul(folded.view(kv_heads, rows, -1, size), key.transpose(2, 3))  # (K, R, G * Q, S)
    if rows_kv.bias is not None:
        own.view(kv_heads, rows, -1, width, columns).add_(rows_kv.bias)
    prefix = rows_kv.prefix
    if prefix is None:
        weights = torch.softmax(own, -1, dtype=torch.float32).to(value.dtype)
        mixed = torch.matmul(weights, value)
    else:
        joint = own.new_empty(*folded.shape[:2], prefix.length + columns)
        prefix.scores(layer, folded, joint[..., : prefix.length])
        joint[..., prefix.length :] = own.view(kv_heads, -1, columns)
        weights = torch.softmax(joint, -1, dtype=torch.float32).to(value.dtype)
        own_weights = weights[..., prefix.length :].view(*own.shape)
        mixed = torch.matmul(own_weights, value)  # (K, R, G * Q, D)
        mixed += prefix.mixed(layer, weights[..., : prefix.length]).view_as(mixed)
    by_row = mixed.view(kv_heads, rows, -1, width, value.shape[-1]).permute(1, 3, 0, 2, 4)
    return by_row.reshape(rows, width, heads, -1)


def register() -> None:
    """Make ``attend`` known to transformers under NAME; no mask is built for it, it brings its own."""
    AttentionInterface.register(NAME, attend)
