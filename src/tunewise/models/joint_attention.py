"""Attention over one prefix shared by all rows of a batch, and over each row's own keys and values.

A prompt's first tokens are often the same for every row (instruction, fixed examples). Their keys and values
depend on these tokens alone, so they are kept once, not once per row. While decoding, the scores against the
prefix are one matrix product for all rows together; they enter the same softmax as the scores against the
row's own cache, so that the result is that of ordinary attention (Vaswani et al. 2017, eq. 1).

Shapes: R rows, H heads, K key-value heads (G = H / K heads share one), D head size, P prefix tokens, S own
columns, Q query tokens per row. Caches lie as (K, R, S, D): with K in front, the products against the prefix
are plain batched ones.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.cache_utils import Cache

NAME = "tunewise_joint"
SPARE_COLUMNS = 48


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


class RowsKV(Cache):
    """Keys and values of R rows, in buffers that grow: what the model takes for its cache.

    Rows are aligned at the right: the first ``pads[r]`` columns of row r hold nothing. ``aim`` says before each
    forward pass which rows are fed and from which column on.
    """

    def __init__(self, pads: list[int], columns: int, prefix: PrefixKV | None, device: torch.device) -> None:
        super().__init__(layers=[])
        self.prefix = prefix
        self.prefix_length = len(prefix.tokens) if prefix else 0
        self.columns = columns
        self.buffers: list[tuple[Tensor, Tensor]] = []
        self.pads = torch.tensor(pads, device=device)
        self.padded = any(pads)
        self.rows = slice(0, len(pads))
        self.begin = self.end = 0
        self.mask: Tensor | None = None  # of a pass with Q > 1: (R, 1, Q, P + S), True where a query may look
        self.bias: Tensor | None = None  # of a pass with Q = 1: (R, 1, S), -inf where a column holds nothing

    def aim(self, rows: slice, begin: int, length: int) -> Tensor:
        """Prepare a pass of ``length`` tokens of ``rows`` from column ``begin`` on: position ids (rows, length)."""
        self.rows, self.begin, self.end = rows, begin, begin + length
        if self.end > self.columns:
            self.columns = self.end + SPARE_COLUMNS
            self.buffers = [(widened(k, self.columns), widened(v, self.columns)) for k, v in self.buffers]
        pads = self.pads[rows, None]
        queries = torch.arange(begin, self.end, device=pads.device)
        self.mask = prefill_mask(pads, queries, self.end, self.prefix_length) if length > 1 else None
        self.bias = None
        if length == 1 and self.padded:
            empty = torch.arange(self.end, device=pads.device) < pads
            self.bias = torch.zeros(empty.shape, device=pads.device).masked_fill_(empty, -torch.inf)[:, None]
        return (queries - pads).clamp_(min=0) + self.prefix_length

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write (R, K, Q, D) states of the aimed rows; all their columns so far, as (K, R, S, D) views."""
        if layer_idx == len(self.buffers):
            shape = (key_states.shape[1], self.pads.shape[0], self.columns)
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
        """Tokens before this pass, prefix included."""
        return self.prefix_length + self.begin

    def keep(self, rows: Tensor) -> None:
        """Drop every row whose index is not in ``rows``."""
        self.buffers = [(k.index_select(1, rows), v.index_select(1, rows)) for k, v in self.buffers]
        self.pads = self.pads[rows]
        self.padded = bool(self.pads.any())

    def only_row(self, length: int) -> tuple[tuple[Tensor, Tensor], ...]:
        """Per layer, keys and values (K, length, D) of the only row."""
        return tuple((k[:, 0, :length], v[:, 0, :length]) for k, v in self.buffers)


def widened(buffer: Tensor, columns: int) -> Tensor:
    """A (K, R, S, D) buffer with ``columns`` columns, the new ones empty."""
    wide = buffer.new_zeros(*buffer.shape[:2], columns, buffer.shape[3])
    wide[:, :, : buffer.shape[2]] = buffer
    return wide


def prefill_mask(pads: Tensor, queries: Tensor, end: int, prefix_length: int) -> Tensor:
    """True where a query may look: the whole prefix, and its own row's columns up to itself; (R, 1, Q, P + S).

    A query in an empty column sees itself too: a softmax over nothing would be undefined and spread.
    """
    columns = torch.arange(end, device=pads.device)
    filled = (columns >= pads)[:, None]
    own = (filled & (columns <= queries[:, None])) | (columns == queries[:, None])
    before = own.new_ones(pads.shape[0], len(queries), prefix_length)
    return torch.cat((before, own), -1)[:, None]


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows_kv: RowsKV,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (R, H, Q, D), key and value (K, R, S, D) -> (R, Q, H, D)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = rows_kv.prefix.layers[int(module.layer_idx)] if rows_kv.prefix else None
    if query.shape[2] == 1:
        return decode(query * scale, key, value, layer, rows_kv.bias), None
    return prefill(query, key, value, layer, rows_kv.mask, scale), None


def prefill(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor] | None,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    """Many queries per row: the prefix is joined to each row's keys for this layer only, then let go."""
    groups = query.shape[1] // key.shape[0]
    key, value = key.transpose(0, 1), value.transpose(0, 1)
    if prefix:
        key = torch.cat((prefix[0].expand(key.shape[0], -1, -1, -1), key), 2)
        value = torch.cat((prefix[1].expand(value.shape[0], -1, -1, -1), value), 2)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale).transpose(1, 2)


def decode(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, bias: Tensor | None
) -> Tensor:
    """One query per row, already scaled: one softmax over prefix and own columns, the prefix not expanded."""
    heads, (kv_heads, rows, _, size) = query.shape[1], key.shape
    groups = heads // kv_heads
    folded = query.view(rows, kv_heads, groups, size).transpose(0, 1)  # (K, R, G, D)
    scores = torch.matmul(folded, key.transpose(2, 3))  # (K, R, G, S)
    if bias is not None:
        scores += bias
    if prefix is None:
        mixed = torch.matmul(torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype), value)
    else:
        flat = folded.reshape(kv_heads, rows * groups, size)
        before = torch.matmul(flat, prefix[0].transpose(1, 2))  # (K, R * G, P)
        length = before.shape[-1]
        joint = torch.cat((before.view(kv_heads, rows, groups, length), scores), -1)
        weights = torch.softmax(joint, -1, dtype=torch.float32).to(value.dtype)
        mixed = torch.matmul(weights[..., length:], value)
        mixed += torch.matmul(
            weights[..., :length].reshape(kv_heads, rows * groups, length), prefix[1]
        ).view_as(mixed)
    return mixed.transpose(0, 1).reshape(rows, 1, heads, value.shape[-1])


def register() -> None:
    """Make ``attend`` known to transformers under NAME; no mask is built for it, it brings its own."""
    AttentionInterface.register(NAME, attend)
