"""Attention within trees of tokens that stand one after the other in a single row, and to their prefix.

The matrices of a transformer work token by token, so that trees of any length fill a row without padding;
only attention has to know where a tree ends. On a CPU it is computed tree by tree with torch's flash kernel;
attention to the prefix is one more call for all tokens of the pass, and the two are joined by their
normalisers (Dao et al. 2022, FlashAttention, section 3.1). On other devices one masked product does it all.

Shapes: T tokens of a pass, L tokens of a tree, P of the prefix, H heads, K key-value heads, G = H / K heads
that share one, D head size.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from tunewise.models.token_trees import FILLER, ROUNDED, Pack

NAME = "tunewise_trees"
KV = list[tuple[Tensor, Tensor]]  # per layer, keys and values (1, K, P, D)


@dataclass(slots=True)
class Pass:
    """What a forward pass reads and who may look where; one object for all layers.

    ids, positions: (1, T). kept: (M,) places whose logits are asked for; targets: (M,). spans: of each tree,
    where it begins and ends and its mask (L, L), 0 where a token may look and -inf elsewhere. prefix: keys
    and values read before. mask: (T, P + T), true where a token may look; None on a CPU, where spans are
    used. store: where this pass leaves its own keys and values; None when nobody needs them.
    """

    ids: Tensor
    positions: Tensor
    kept: Tensor
    targets: Tensor
    spans: list[tuple[int, int, Tensor]]
    prefix: KV | None = None
    mask: Tensor | None = None
    store: KV | None = None
    folded: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def folded_mask(self, number: int, group: int) -> Tensor:
        """The mask of a tree for G heads one under the other, (G * L, L); built once for all layers."""
        key = (number, group)
        if key not in self.folded:
            self.folded[key] = self.spans[number][2].repeat(group, 1)
        return self.folded[key]


def laid_out(pack: Pack, prefix: KV | None, device: torch.device, rounded: int = ROUNDED) -> Pass:
    """A pack as tensors; its length and the number of scored places are rounded up with what nobody reads."""
    filler = -pack.tokens % rounded
    ids: list[int] = []
    positions: list[int] = []
    kept: list[int] = []
    targets: list[int] = []
    spans = []
    for tree in pack.trees:
        begin = len(ids)
        kept += [begin + place for place, _, _ in tree.asked]
        targets += [target for _, target, _ in tree.asked]
        ids += tree.ids
        positions += tree.positions
        spans.append((begin, len(ids), sees(tree.segments)))
    ids += [0] * filler
    positions += [0] * filler
    kept += [0] * (-len(kept) % (rounded // 2))
    one_pass = Pass(
        ids=torch.tensor([ids], device=device),
        positions=torch.tensor([positions], device=device),
        kept=torch.tensor(kept, device=device),
        targets=torch.tensor(targets, device=device),
        spans=spans,
        prefix=prefix,
    )
    if device.type == "cpu":
        one_pass.spans = [
            (begin, end, torch.zeros(m.shape).masked_fill_(~m, -torch.inf)) for begin, end, m in spans
        ]
    else:
        one_pass.mask = whole_mask(spans, len(ids), prefix).to(device)
    return one_pass


def sees(segments: list[int]) -> Tensor:
    """(L, L), true where a token (row) may look (column): the stem and its own rest, up to itself."""
    of = torch.tensor(segments)
    own = of[None, :] == of[:, None]
    return (own | (of == 0)[None, :]).tril_()


def whole_mask(spans: list[tuple[int, int, Tensor]], tokens: int, prefix: KV | None) -> Tensor:
    """(T, P + T), true where a token may look. Tokens that fill up see themselves and the prefix."""
    before = prefix[0][0].shape[2] if prefix else 0
    mask = torch.eye(tokens, dtype=torch.bool)
    for begin, end, own in spans:
        mask[begin:end, begin:end] = own
    return torch.cat((torch.ones(tokens, before, dtype=torch.bool), mask), 1)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    trees: Pass,
    scaling: float | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D)."""
    if trees.store is not None:
        trees.store.append((key.contiguous(), value.contiguous()))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    before = trees.prefix[module.layer_idx] if trees.prefix else None
    if trees.mask is not None:
        return masked(query, key, value, trees.mask, before, scale), None
    heads, tokens, size = query.shape[1:]
    kv_heads = key.shape[1]
    group = heads // kv_heads
    by_head = query[0].view(kv_heads, group, tokens, size)  # (K, G, T, D)
    out = query.new_zeros(kv_heads, group, tokens, size)
    norms = query.new_full((kv_heads, group, tokens), -torch.inf) if before else None
    for number, (begin, end, _) in enumerate(trees.spans):
        own, norm = flash(
            by_head[:, :, begin:end].flatten(1, 2)[None],
            key[:, :, begin:end],
            value[:, :, begin:end],
            attn_mask=trees.folded_mask(number, group),
            scale=scale,
        )
        out[:, :, begin:end] = own.reshape(kv_heads, group, end - begin, size)
        if norms is not None:
            norms[:, :, begin:end] = norm.reshape(kv_heads, group, end - begin)
    if before and norms is not None:
        far, norm = flash(by_head.flatten(1, 2)[None], *before, scale=scale)
        share = torch.sigmoid(norms - norm.reshape(norms.shape))  # of the tree in the whole softmax
        out = torch.lerp(far.reshape(out.shape), out, share[..., None])
    return out.permute(2, 0, 1, 3).reshape(1, tokens, heads, size), None


def flash(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """torch's CPU kernel: (1, K, N, D) queries -> (1, K, N, D), and the log of each softmax's normaliser."""
    pair: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, **options
    )
    return pair


def masked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    before: tuple[Tensor, Tensor] | None,
    scale: float,
) -> Tensor:
    """One masked attention over prefix and trees together.

    Keys are laid out once per head: with ``enable_gqa`` and a mask torch takes the way that writes all scores
    down, (H, T, P + T) several times over.
    """
    if before:
        key, value = torch.cat((before[0], key), 2), torch.cat((before[1], value), 2)
    group = query.shape[1] // key.shape[1]
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(group, 1),
        value.repeat_interleave(group, 1),
        attn_mask=mask,
        scale=scale,
    )
    return mixed.transpose(1, 2)


def register() -> None:
    """Make ``attend`` known to transformers under NAME; no mask is built for it, it brings its own."""
    AttentionInterface.register(NAME, attend)


__all__ = ["FILLER", "KV", "NAME", "Pass", "attend", "laid_out", "register"]
