"""Causal attention within the rows of a pack, each row with the stem that all share, for fp32 on a CPU.

A masked product over the whole pack computes every row against every other and throws that away; torch's CPU
kernel does so at half the speed of its matrix products. Here rows of similar length stand side by side,
filled up at the end, where a causal mask hides it; a pack of 8 rows costs an eighth. Heavy: imports torch.

Shapes: T tokens of a pack, R rows of a group, L tokens of its longest (the stem included), H heads, K
key-value heads, G = H / K heads that share one, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from transformers import AttentionInterface

from tunewise.models.precision import products

NAME = "tunewise_rows"
ROUNDED = 16  # lengths of groups: odd ones took three times as long in oneDNN's products
ALIKE = 0.75  # a row joins a group whose longest row it has at least this share of
PLAIN_UP_TO = 256  # tokens: beyond, torch's kernel, which skips what a causal mask hides, is faster


@dataclass(frozen=True, slots=True)
class Group:
    """Rows side by side.

    places: (R * L,), the place in the pack that each slot reads; what fills up reads place 0. slots, own: the
    slots whose outputs count, and their places in the pack. L is ``length``. in_place: one row that stands at
    the beginning of the pack as it is read: nothing needs to be gathered, and what fills up is what follows
    there, so that a pack has at least L tokens (``packing`` rounds to a multiple of ``ROUNDED``).
    """

    rows: int
    length: int
    places: Tensor
    slots: Tensor
    own: Tensor
    in_place: bool = False

    def read(self, packed: Tensor) -> Tensor:
        """The slots (R * L, N, D) of what lies packed, (T, N, D)."""
        return packed[: self.length] if self.in_place else packed[self.places]

    def spread(self, packed: Tensor) -> Tensor:
        """The slots (R * L, N, D) whose outputs count, of what lies packed; 0 in the others."""
        slots = packed.new_zeros(self.rows * self.length, *packed.shape[1:])
        if self.in_place:
            slots[: len(self.own)] = packed[: len(self.own)]
        else:
            slots[self.slots] = packed[self.own]
        return slots

    def write(self, packed: Tensor, slots: Tensor) -> None:
        """Put the slots whose outputs count into their places."""
        if self.in_place:
            packed[: len(self.own)] = slots[: len(self.own)]
        else:
            packed[self.own] = slots[self.slots]


@dataclass(frozen=True, slots=True)
class Layout:
    """The groups of a pack, and how many tokens of stem stand before its rows."""

    stem: int
    groups: tuple[Group, ...]


def layout(stem: int, lengths: Sequence[int]) -> Layout:
    """The groups for rows of ``lengths`` tokens after the stem, which stand one after the other behind it.

    The outputs of the stem itself are taken from the first row of the first group.
    """
    begins, at = [], stem
    for length in lengths:
        begins.append(at)
        at += length
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    bins: list[list[int]] = []
    for row in order:
        if bins and stem + lengths[row] >= ALIKE * (stem + lengths[bins[-1][0]]):
            bins[-1].append(row)
        else:
            bins.append([row])
    return Layout(
        stem, tuple(group(stem, rows, begins, lengths, number == 0) for number, rows in enumerate(bins))
    )


def group(
    stem: int, rows: Sequence[int], begins: Sequence[int], lengths: Sequence[int], first: bool
) -> Group:
    """One group; ``first``: the stem's outputs are taken from it."""
    length = stem + lengths[rows[0]]
    length += -length % ROUNDED
    places = torch.zeros(len(rows), length, dtype=torch.long)
    slots, own = [], []
    for number, row in enumerate(rows):
        begin, count = begins[row], lengths[row]
        places[number, :stem] = torch.arange(stem)
        places[number, stem : stem + count] = torch.arange(begin, begin + count)
        slots.append(torch.arange(stem, stem + count) + number * length)
        own.append(torch.arange(begin, begin + count))
    if first and stem:
        slots.insert(0, torch.arange(stem))
        own.insert(0, torch.arange(stem))
    alone = first and len(rows) == 1 and begins[rows[0]] == stem
    return Group(len(rows), length, places.flatten(), torch.cat(slots), torch.cat(own), alone)


class RowAttention(Function):
    """softmax(q k^T * scale) v within each row, causal. q (T, H, D), k and v (T, K, D) -> (T, H, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Layout, scale: float) -> Tensor:
        out = torch.zeros(q.shape, dtype=q.dtype)
        saved: list[Tensor] = []
        for one in rows.groups:
            mixed, kept = (
                plain(one, q, k, v, scale) if one.length <= PLAIN_UP_TO else flash(one, q, k, v, scale)
            )
            one.write(out, mixed)
            saved += kept
        ctx.save_for_backward(*saved)
        ctx.rows, ctx.scale, ctx.shapes = rows, scale, (q.shape, k.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_shape, k_shape = ctx.shapes
        dq, dk, dv = (torch.zeros(shape) for shape in (q_shape, k_shape, k_shape))
        saved, stem = ctx.saved_tensors, ctx.rows.stem
        for one in ctx.rows.groups:
            back, count = (plain_back, 4) if one.length <= PLAIN_UP_TO else (flash_back, 5)
            mine, saved = saved[:count], saved[count:]
            q_grad, k_grad, v_grad = back(one, one.spread(grads[0]), *mine, scale=ctx.scale)
            one.write(dq, q_grad)
            for whole, part in ((dk, k_grad), (dv, v_grad)):
                if one.in_place:
                    whole[: one.length] += part
                    continue
                ends = one.own >= stem
                whole[one.own[ends]] = part[one.slots[ends]]
                whole[:stem] += part.view(one.rows, one.length, *k_shape[1:])[:, :stem].sum(0)
        return dq, dk, dv, None, None


def by_query(one: Group, packed: Tensor, kv_heads: int) -> Tensor:
    """Slots (R * L, H, D) as (R, K, G * L, D): the heads that share keys stand one under the other."""
    size = packed.shape[-1]
    shaped = packed.view(one.rows, one.length, kv_heads, -1, size).permute(0, 2, 3, 1, 4)
    return shaped.reshape(one.rows, kv_heads, -1, size)


def by_head(one: Group, packed: Tensor) -> Tensor:
    """Slots (R * L, N, D) as (R, N, L, D)."""
    return packed.view(one.rows, one.length, *packed.shape[1:]).transpose(1, 2).contiguous()


def slots_of(one: Group, shaped: Tensor) -> Tensor:
    """(R, N, L, D) as slots (R * L, N, D)."""
    return shaped.transpose(1, 2).reshape(one.rows * one.length, shaped.shape[1], shaped.shape[3])


def slots_of_queries(one: Group, shaped: Tensor) -> Tensor:
    """(R, K, G * L, D) as slots (R * L, H, D)."""
    rows, kv_heads, _, size = shaped.shape
    spread = shaped.view(rows, kv_heads, -1, one.length, size).permute(0, 3, 1, 2, 4)
    return spread.reshape(rows * one.length, -1, size)


def plain(one: Group, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Attention of a group by matrix products: its slots (R * L, H, D), and what the way back needs."""
    queries = by_query(one, one.read(q), k.shape[1]) * scale
    keys, values = by_head(one, one.read(k)), by_head(one, one.read(v))
    scores = torch.matmul(queries, keys.transpose(2, 3))
    later = torch.full((one.length, one.length), -torch.inf).triu_(1)
    scores.view(*scores.shape[:2], -1, one.length, one.length).add_(later)
    weights = torch.softmax(scores, -1)
    return slots_of_queries(one, torch.matmul(weights, values)), [queries, keys, values, weights]


def plain_back(
    one: Group, grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor, *, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a group's slots: queries (R * L, H, D), keys and values (R * L, K, D)."""
    mixed_grad = by_query(one, grad, keys.shape[1])
    value_grad = torch.matmul(weights.transpose(2, 3), mixed_grad)
    weight_grad = torch.matmul(mixed_grad, values.transpose(2, 3))
    score_grad = torch._softmax_backward_data(weight_grad, weights, -1, torch.float32)
    query_grad = torch.matmul(score_grad, keys).mul_(scale)
    key_grad = torch.matmul(score_grad.transpose(2, 3), queries)
    return slots_of_queries(one, query_grad), slots_of(one, key_grad), slots_of(one, value_grad)


def flash(one: Group, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, list[Tensor]]:
    """Attention of a group by torch's kernel, which leaves out what a causal mask hides."""
    queries, keys, values = (by_head(one, one.read(packed)) for packed in (q, k, v))
    with products("fp32"):  # its products are too small to be rounded first: twice the time
        mixed, norms = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, *wide(queries, keys, values), 0.0, True, scale=scale
        )
    return slots_of(one, mixed), [queries, keys, values, mixed, norms]


def flash_back(
    one: Group, grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, mixed: Tensor, norms: Tensor,
    *, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As ``plain_back``."""
    back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    given = by_head(one, grad)
    with products("fp32"):
        query_grad, *rest = back(
            given, queries, *wide(queries, keys, values), mixed, norms, 0.0, True, scale=scale
        )
    narrow = [part.view(*keys.shape[:2], -1, *keys.shape[2:]).sum(2) for part in rest]
    return slots_of(one, query_grad), slots_of(one, narrow[0]), slots_of(one, narrow[1])


def wide(queries: Tensor, *shared: Tensor) -> list[Tensor]:
    """Keys or values (R, K, L, D) once for each of the heads that share them, (R, H, L, D)."""
    times = queries.shape[1] // shared[0].shape[1]
    return [part.repeat_interleave(times, 1) for part in shared]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    row_layout: Layout,
    scaling: float | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    mixed: Tensor = RowAttention.apply(q, k, v, row_layout, scale)  # type: ignore[no-untyped-call]
    return mixed[None], None


def register() -> None:
    """Make ``attend`` known to transformers under NAME; no mask is built for it, it brings its own."""
    AttentionInterface.register(NAME, attend)
