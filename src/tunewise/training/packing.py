"""Rows of a batch in one sequence, their common beginning read once.

All prompts of a task begin with the same tokens (template, instruction). Written as

    stem | rest of row 1 | rest of row 2 | ...

with positions that restart after the stem and a mask that lets each rest see the stem and itself, a causal
transformer computes for every row exactly what it computes for the row alone: the stem's states do not
depend on what follows. The loss and its gradient are those of the padded batch, to rounding. Saved are the
stem of all rows but one, all padding, and the output matrix at every position that carries no loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.training.masks import IGNORED, TrainRow

# Lengths are rounded up to these: oneDNN keeps code and buffers for every shape it meets, and with every pack
# of its own length the process grew by 20 MB a step. Rounding cost no measurable time.
TOKENS_ROUNDED = 64
TARGETS_ROUNDED = 16
FILLER = -1  # segment of the tokens that fill up: they see themselves alone, and nothing sees them

LOGIT_BYTES = 512 * 2**20  # most bytes of fp32 logits in one pass; autograd holds about three such blocks
PASS_TOKENS = 1024  # of a pass without a mask: beyond, more tokens a pass save nothing and take memory
PASS_OVERHEAD = 64  # tokens that one more pass costs: measured as launch cost of about 600 small operators
PASS_OVERHEAD_GPU = (
    8192  # a GPU waits for the same starts, and reads so many tokens of a small model meanwhile
)


@dataclass(frozen=True, slots=True)
class Pack:
    """One sequence of ``ids`` with all that training needs; every list but the last two is of its length.

    segments: 0 for the stem, k for the rest of row k. kept: places that predict a target, in order of
    rows. targets: the token to predict at each.
    """

    ids: list[int]
    positions: list[int]
    segments: list[int]
    kept: list[int]
    targets: list[int]


def common_stem(rows: Sequence[TrainRow]) -> int:
    """Length of the longest beginning that all prompts share, in tokens; 0 for no rows.

    The first place that predicts a learnt token, mostly the prompt's last, is never part of it, so that no
    place predicts for two rows: the sum of their gradients could come in any order, and runs could not be
    repeated bit for bit.
    """
    if not rows:
        return 0
    low, high = min(row.prompt for row in rows), max(row.prompt for row in rows)  # the two farthest apart
    shared = 0
    first = min(row.learnt[0][0] for row in rows)
    for one, other in zip(low[: first - 1], high[: first - 1], strict=False):
        if one != other:
            break
        shared += 1
    return shared


def pack(rows: Sequence[TrainRow]) -> Pack:
    """The rows as one sequence. At least one row; each with a prompt of at least one token."""
    stem = common_stem(rows)
    ids = list(rows[0].prompt[:stem])
    positions = list(range(stem))
    segments = [0] * stem
    kept: list[int] = []
    targets: list[int] = []
    for number, row in enumerate(rows, start=1):
        shift = len(ids) - stem  # from a place in the row to its place in the sequence
        for start, end in row.learnt:
            kept += range(start - 1 + shift, end - 1 + shift)  # what predicts the learnt tokens
            targets += row.ids[start:end]
        ids += row.ids[stem:]
        positions += range(stem, len(row))
        segments += [number] * (len(row) - stem)
    return Pack(ids, positions, segments, kept, targets)


def tensors(rows: Sequence[TrainRow], lean: bool = False) -> dict[str, Any]:
    """A pack as keyword arguments of a causal model's forward, beside ``labels``.

    ``attention_mask`` is (1, 1, n, n), true where a query may look; lean: ``row_layout`` in its place, for
    ``row_attention``. ``labels`` and ``shift_labels`` are the
    targets, (1, kept): the trainer divides by how many stand in the latter. Both sizes are rounded up, with
    tokens that nothing sees and targets that are ``IGNORED``.
    """
    import torch

    if lean:  # the longest row first: read where it stands
        rows = sorted(rows, key=len, reverse=True)
    packed = pack(rows)
    tokens = -len(packed.ids) % TOKENS_ROUNDED
    more = -len(packed.targets) % TARGETS_ROUNDED
    targets = torch.tensor([packed.targets + [IGNORED] * more])
    given = {
        "input_ids": torch.tensor([packed.ids + [packed.ids[0]] * tokens]),
        "position_ids": torch.tensor([packed.positions + [0] * tokens]),
        "logits_to_keep": torch.tensor(packed.kept + [0] * more),
        "labels": targets,
        "shift_labels": targets,
    }
    if not lean:
        return given | {"attention_mask": mask_of(packed.segments + [FILLER] * tokens)}
    from tunewise.training.row_attention import layout

    stem = packed.segments.count(0)
    return given | {"row_layout": layout(stem, [len(row) - stem for row in rows])}


def mask_of(segments: Sequence[int]) -> Any:
    """(1, 1, n, n), true where a token (row) may look (column): the stem and its own rest, up to itself."""
    import torch

    of = torch.tensor(segments)
    own = (of[None, :] == of[:, None]) & (of != FILLER)
    causal = torch.ones(len(of), len(of), dtype=torch.bool).tril()
    sees = (own | (of == 0)[None, :]) & causal & (of != FILLER)[:, None]
    return (sees | torch.eye(len(of), dtype=torch.bool))[None, None]


def rows_per_pass(
    rows: Sequence[TrainRow],
    batch_size: int,
    *,
    width: int,
    layers: int,
    parameters: int,
    vocabulary: int,
    overhead: int = PASS_OVERHEAD,
) -> int:
    """How many rows of a batch to pack into one pass: the divisor of ``batch_size`` that costs least.

    A pass of n tokens costs about n * (4 * parameters) for the matrices (forward, and backward through
    frozen weights) and 12 * n^2 * width * layers for attention over the whole square, of which the mask
    uses a part, at half the speed (measured on a CPU: a third of a step with 700 tokens). So small packs
    repeat the stem, and large ones waste attention. width: hidden size. parameters: of the layers, without
    embeddings. overhead: tokens that a pass more costs. Packs at most ``LOGIT_BYTES`` of logits if it can
    help it. At least one row is expected.
    """
    stem = common_stem(rows)
    mean = sum(len(row) for row in rows) / len(rows)
    answer = sum(row.loss_tokens for row in rows) / len(rows)
    square = 6 * width * layers / parameters

    def cost(count: int) -> float:
        tokens = stem + count * (mean - stem)
        return (overhead + tokens * (1 + square * tokens)) / count

    divisors = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
    small = [count for count in divisors if count * answer * vocabulary * 4 <= LOGIT_BYTES]
    return min(small or [1], key=cost)


def rows_within(rows: Sequence[TrainRow], batch_size: int) -> int:
    """How many rows to pack into one pass where attention stays within rows: as many as ``PASS_TOKENS`` hold.

    A divisor of ``batch_size``. At least one row is expected.
    """
    stem = common_stem(rows)
    own = sum(len(row) - stem for row in rows) / len(rows)
    divisors = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
    return max((count for count in divisors if stem + count * own <= PASS_TOKENS), default=1)


def passes(rows: Sequence[TrainRow], most: int, balanced: bool) -> list[list[TrainRow]]:
    """The rows of a step in packs of at most about ``most`` rows; always as many packs as that takes.

    In the order they came, or balanced: the longest first, each to the pack with fewest tokens so far
    (Graham, "Bounds on multiprocessing timing anomalies", 1969). With lengths far apart that bounds the
    longest pack, and with it memory and the square of attention. The step's rows, and so its gradient, are
    the same.
    """
    count = -(-len(rows) // most)
    if not balanced or count < 2:
        return [list(rows[start : start + most]) for start in range(0, len(rows), most)]
    stem = common_stem(rows)
    bins: list[list[TrainRow]] = [[] for _ in range(count)]
    sizes = [stem] * count
    for row in sorted(rows, key=len, reverse=True):
        place = sizes.index(min(sizes))
        bins[place].append(row)
        sizes[place] += len(row) - stem
    return bins


def skewed(rows: Sequence[TrainRow]) -> bool:
    """True when the longest row is at least three times the mean: then balanced packs pay."""
    return bool(rows) and max(map(len, rows)) * len(rows) >= 3 * sum(map(len, rows))
