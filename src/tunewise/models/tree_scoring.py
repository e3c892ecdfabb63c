"""Log-probabilities of continuations under a causal model, everything shared that can be.

``TreeScorer`` reads each item's context once for all its endings and each group's examples once for all its
items, multiplies with the output matrix only where a token is scored, and packs what is left into passes
without padding. ``PlainScorer`` reads every sequence for itself, padded at the right: for models whose
attention does not pass the trial. Both give the log-probabilities of the sequences read alone, to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tunewise.models.packed_linear import can_pack, pack_linears, unpack_linears
from tunewise.models.shared_prefix import attends_plainly
from tunewise.models.token_trees import Pack, Question, stages, tree_of
from tunewise.models.tree_attention import KV, NAME, laid_out, register

TOKENS = 512  # of one pass on a CPU; other sizes were not compared
TOKENS_GPU = 4096
LOGIT_BYTES = 96 * 2**20  # logits of one pass
ROWS = 32  # logits whose normaliser is computed at once: they stay in the cache


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model thinks of each continuation of one question.

    logprobs: natural logarithm of its probability after the context, summed over its tokens. greedy: whether
    each of its tokens is the model's first choice.
    """

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]


class Scorer(Protocol):
    """Reads questions; one Reading per question, in order. ``told`` is called with how many are done."""

    def read(
        self, questions: Sequence[Question], told: Callable[[int], None] | None = None
    ) -> list[Reading]: ...


def scorer_for(model: Any, pack: bool = True) -> Scorer:
    """The fast way where the model passes the trial, else the plain one.

    pack: let the linear layers be put in oneDNN's order, in place; never for a model that trains.
    """
    before = model.config._attn_implementation
    if attends_plainly(model.config):
        trees = TreeScorer(model, pack=pack and can_pack(model))
        if trees.agrees_with(before):
            return trees
        trees.undo(before)
    return PlainScorer(model)


class TreeScorer:
    """Scores with a model that can attend within trees. Not for several threads at once."""

    def __init__(self, model: Any, *, pack: bool = False, tokens: int | None = None) -> None:
        self.model = model
        self.pack = pack
        self.packed = False
        self.tokens = tokens or (TOKENS if model.device.type == "cpu" else TOKENS_GPU)
        self.asked = max(1, LOGIT_BYTES // (4 * model.config.vocab_size))
        register()

    @torch.inference_mode()
    def read(self, questions: Sequence[Question], told: Callable[[int], None] | None = None) -> list[Reading]:
        """One Reading per question, in order."""
        readings: dict[int, Reading] = {}
        with self.attending():
            for stage in stages(questions, self.tokens, self.asked):
                prefix = self.encoded(stage.prefix) if stage.prefix else None
                for pack in stage.packs:
                    readings.update(self.read_pack(pack, questions, prefix))
                    if told:
                        told(len(readings))
        return [readings[number] for number in range(len(questions))]

    @contextmanager
    def attending(self) -> Iterator[None]:
        """The model with our attention, and with its own again afterwards: others may use it in between."""
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation(NAME)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def encoded(self, prefix: tuple[int, ...]) -> KV:
        """Keys and values of a prefix, layer by layer."""
        pack = Pack()
        pack.add(tree_of(0, Question(((*prefix, 0),), (len(prefix),))))
        one_pass = laid_out(pack, None, self.model.device, rounded=2)
        one_pass.store = []
        self.forward(one_pass)
        return [(keys[:, :, : len(prefix)], values[:, :, : len(prefix)]) for keys, values in one_pass.store]

    def read_pack(self, pack: Pack, questions: Sequence[Question], prefix: KV | None) -> dict[int, Reading]:
        """Readings of the questions of one pass, by their number."""
        one_pass = laid_out(pack, prefix, self.model.device)
        logprobs, first = score(self.forward(one_pass), one_pass.targets)
        readings, begin = {}, 0
        for tree in pack.trees:
            count = len(questions[tree.question].sequences)
            sums, greedy = [0.0] * count, [True] * count
            for (_, _, which), logprob, is_first in zip(
                tree.asked, logprobs[begin:], first[begin:], strict=False
            ):
                sums[which] += logprob
                greedy[which] &= is_first
            begin += len(tree.asked)
            readings[tree.question] = Reading(tuple(sums), tuple(greedy))
        return readings

    def forward(self, one_pass: Any) -> Tensor:
        """Logits (M, V) at the places that are asked for."""
        out = self.model(
            input_ids=one_pass.ids,
            position_ids=one_pass.positions,
            use_cache=False,
            logits_to_keep=one_pass.kept,
            trees=one_pass,
        )
        logits: Tensor = out.logits[0]
        return logits

    def agrees_with(self, implementation: str) -> bool:
        """Trial on a few tokens: the same log-probabilities as the model's own attention gives.

        A model that calls its attention in another way, or adds to it what ours does not know, fails here.
        """
        vocabulary = self.model.config.vocab_size
        tokens = [(7 * i * i + 11) % vocabulary for i in range(96)]
        shared = tuple(tokens[:40])
        questions = [
            Question((shared + tuple(tokens[40:52]), shared + tuple(tokens[44:60])), (44, 44), "trial"),
            *(Question((shared + tuple(tokens[60 + i : 75 + i]),), (45,), "trial") for i in range(8)),
        ]
        self.model.set_attn_implementation(implementation)
        try:
            expected = PlainScorer(self.model).read(questions)
            if self.pack:
                pack_linears(self.model)
                self.packed = True
            came = self.read(questions)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError):
            return False
        allowed = 1e-4 if self.model.dtype == torch.float32 else 5e-2
        return all(
            abs(mine - theirs) <= allowed * max(1.0, abs(theirs))
            for one, other in zip(came, expected, strict=True)
            for mine, theirs in zip(one.logprobs, other.logprobs, strict=True)
        )

    def undo(self, implementation: str) -> None:
        """Leave the model as it was."""
        if self.packed:
            unpack_linears(self.model)
            self.packed = False
        self.model.set_attn_implementation(implementation)


class PlainScorer:
    """Every sequence read for itself, those of like length together, padded at the right."""

    def __init__(self, model: Any, rows: int = 16) -> None:
        self.model = model
        self.rows = rows

    @torch.inference_mode()
    def read(self, questions: Sequence[Question], told: Callable[[int], None] | None = None) -> list[Reading]:
        """One Reading per question, in order."""
        flat = [(number, which) for number, q in enumerate(questions) for which in range(len(q.sequences))]
        flat.sort(key=lambda place: -len(questions[place[0]].sequences[place[1]]))
        found: dict[tuple[int, int], tuple[float, bool]] = {}
        for begin in range(0, len(flat), self.rows):
            batch = flat[begin : begin + self.rows]
            sequences = [questions[number].sequences[which] for number, which in batch]
            width = len(sequences[0]) - 1
            ids = torch.tensor(
                [[*s[:-1], *[0] * (width + 1 - len(s))] for s in sequences], device=self.model.device
            )
            logits = self.model(input_ids=ids, use_cache=False).logits
            for place, sequence, row in zip(batch, sequences, logits, strict=True):
                first = questions[place[0]].firsts[place[1]]
                targets = torch.tensor(sequence[first:], device=row.device)
                logprobs, greedy = score(row[first - 1 : len(sequence) - 1], targets)
                found[place] = (sum(logprobs), all(greedy))
            if told:
                told(len(questions) * (begin + len(batch)) // len(flat))
        readings = []
        for number, question in enumerate(questions):
            pairs = [found[number, which] for which in range(len(question.sequences))]
            readings.append(Reading(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)))
        return readings


def score(logits: Tensor, targets: Tensor) -> tuple[list[float], list[bool]]:
    """Log-probability of each target, and whether it is the first choice. logits (>= M, V), targets (M,)."""
    logprobs: list[float] = []
    first: list[bool] = []
    for begin in range(0, len(targets), ROWS):
        wanted = targets[begin : begin + ROWS, None]
        block = logits[begin : begin + len(wanted)].float()
        place = block.argmax(-1, keepdim=True)
        chosen = block.gather(-1, wanted)
        logprobs += (chosen - block.logsumexp(-1, keepdim=True))[:, 0].tolist()
        first += (place == wanted)[:, 0].tolist()
    return logprobs, first
