"""Generation where all prompts of a call share what they have in common.

The longest common token prefix is encoded once and kept for later calls; only what differs is read per row.
Rows are batched by length, finished rows dropped, several tokens of a row written in one pass where they were
guessed (``drafting``), and logits computed only where a token is sampled or a guess is checked. In fp32
the tokens are those of transformers' plain ``generate``, except where the two best logits all but tie. In
bf16 more of them do, and which rows and guesses share a pass can decide: two runs may differ there.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from tunewise.models.drafting import LONGEST, Drafter, Guess, Memory
from tunewise.models.joint_attention import NAME, SPARE_COLUMNS, PrefixKV, RowsKV, SharedPrefix, register
from tunewise.models.packed_linear import can_pack, pack_linears, unpack_linears
from tunewise.models.plain_generation import PlainGenerator
from tunewise.models.precision import Precision
from tunewise.models.writing import Generator, Prompt, Row, Written, choose, drawer, hold

WORTH_SHARING = 16  # tokens; below that a separate pass for the prefix costs more than it saves
PREFILL_TOKENS = 256  # tokens read in one pass on a CPU: as fast as it gets (2,048: 35 % slower, measured)
PREFILL_TOKENS_GPU = 8192
PREFILL_SCORES = 16_000_000  # attention scores of one pass, 64 MB in fp32
ROWS_BYTES = 2**30  # memory for the rows' own keys and values in one batch
STORE_BYTES = 2**28  # memory for prefixes kept for later calls
STORE_PREFIXES = 8
DROP_SHARE = 0.8  # finished rows are dropped when at most this share still writes (a fifth faster, measured)
# What a token more in a pass costs, as a share of what a pass costs at all: measured with SmolLM2-135M on one
# core of a CPU.
PER_TOKEN = {"fp32": 1 / 24, "bf16": 1 / 57}
# On a GPU it follows from the model: its products at the rate of a data-centre card in 16 bits, against the
# way of its weights from memory and the start of a layer's kernels. SmolLM2-135M gives 1/31,000; on an H200 a
# pass of 280 tokens took no longer than one of 29, and from 1/1,000 to 1/4,000 no call took longer.
GPU_FLOPS, GPU_BYTES, LAYER_SECONDS = 4e14, 3e12, 0.7e-3
_passed: set[str] = set()  # kinds of models that passed the trial in this process


class PrefixStore:
    """The prefixes encoded last, within a bound of memory; the least recently used is dropped first."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[int, ...], PrefixKV] = OrderedDict()

    def longest(self, tokens: tuple[int, ...]) -> PrefixKV | None:
        """The longest stretch at the start of ``tokens`` that is at hand, None if it is not worth it."""
        best = max(self.kept, key=lambda known: common(known, tokens), default=())
        length = common(best, tokens)
        if length < WORTH_SHARING:
            return None
        self.kept.move_to_end(best)
        return self.kept[best].first(length)

    def keep(self, prefix: PrefixKV) -> None:
        """Keep a prefix for later calls, in place of those that it begins with."""
        for known in [known for known in self.kept if common(known, prefix.tokens) == len(known)]:
            del self.kept[known]
        self.kept[prefix.tokens] = prefix
        while len(self.kept) > 1 and (
            len(self.kept) > STORE_PREFIXES or sum(p.bytes for p in self.kept.values()) > STORE_BYTES
        ):
            self.kept.popitem(last=False)


def generator_for(
    model: Any, stops: frozenset[int], rows: int = 32, precision: Precision = "fp32"
) -> Generator:
    """The fast way of writing where the model passes the trial, else transformers' own ``generate``.

    precision: of matrix products on a CPU; the trial is in fp32. It tries a model's code and shapes, not its
    weights: it is held once for each kind in a process.
    """
    before = model.config._attn_implementation
    if not attends_plainly(model.config):
        return PlainGenerator(model, stops, rows, precision)
    kind = kind_of(model)
    joint = JointGenerator(model, stops, rows)
    rounds = precision == "bf16" and joint.packed
    if kind in _passed:
        if joint.packed and not rounds:
            pack_linears(model)
    elif joint.agrees_with(before):
        _passed.add(kind)
        if rounds:
            unpack_linears(model)
    else:
        model.set_attn_implementation(before)
        unpack_linears(model)
        return PlainGenerator(model, stops, rows, precision)
    if rounds:
        pack_linears(model, rounded=True)
        joint.rounded = True
        joint.drafter.per_token = PER_TOKEN[precision]
    return joint


def kind_of(model: Any) -> str:
    """What a trial depends on: the model's class, its settings and number format, and where it runs."""
    own = type(model)
    names = (own.__module__, own.__qualname__, str(model.dtype), model.device.type)
    return " ".join((*names, model.config.to_json_string()))


class JointGenerator:
    """Writes answers with a model that can attend jointly. Not for several threads at once.

    model: a causal LM of transformers in evaluation mode; its attention is set to ours.
    stops: token ids that end an answer. rows: answers written side by side at most.
    """

    def __init__(self, model: Any, stops: frozenset[int], rows: int = 32) -> None:
        self.model = model
        self.stops = stops
        self.rows = rows
        self.store = PrefixStore()
        on_cpu = model.device.type == "cpu"
        self.per_pass = PREFILL_TOKENS if on_cpu else PREFILL_TOKENS_GPU
        self.drafter = Drafter(PER_TOKEN["fp32"] if on_cpu else per_token_on_gpu(model))
        self.packed = can_pack(model)
        self.rounded = False  # whether its layers were put in bf16 on a CPU
        register()
        model.set_attn_implementation(NAME)

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt]) -> list[Written]:
        """One answer per prompt, in order. Every prompt has at least one token and fits the window."""
        if not prompts:
            return []
        started = time.perf_counter()
        prefix, at_hand = self.encoded(common_start([prompt.tokens for prompt in prompts]))
        in_use = self.in_use(prefix)
        length = in_use.length if in_use else 0
        rows = [Row(i, prompt, prompt.tokens[length:], drawer(prompt)) for i, prompt in enumerate(prompts)]
        self.drafter.begin(prompts[0].tokens[:length], len(prompts))
        by_length = sorted(rows, key=lambda row: (-len(row.suffix), -row.prompt.max_new_tokens))
        for batch in self.batches(by_length):
            self.write_batch(batch, in_use)
        # The prefix was read for the first row; for the others, and what was at hand, it came for nothing.
        return [
            Written(
                tuple(row.tokens),
                row.finish or "length",
                length if row.place else at_hand,
                None if row.first_at is None else row.first_at - started,
            )
            for row in rows
        ]

    def encoded(self, shared: tuple[int, ...]) -> tuple[PrefixKV | None, int]:
        """Keys and values of ``shared``, or of the part at hand if the rest is short; tokens at hand."""
        known = self.store.longest(shared)
        at_hand = len(known.tokens) if known else 0
        rest = shared[at_hand:]
        if len(rest) < WORTH_SHARING:
            return known, at_hand
        kv = self.rows_kv([0], len(rest), self.in_use(known))
        self.read(kv, [rest])
        prefix = known.followed_by(kv, rest) if known else PrefixKV(rest, kv.only_row(len(rest)))
        self.store.keep(prefix)
        return prefix, at_hand

    def rows_kv(self, pads: list[int], columns: int, prefix: SharedPrefix | None) -> RowsKV:
        """A cache for rows of their own."""
        return RowsKV(pads, columns, prefix, self.model.device, rounded=self.rounded)

    def in_use(self, prefix: PrefixKV | None) -> SharedPrefix | None:
        """The prefix made ready for the products with queries."""
        return SharedPrefix(prefix, self.packed) if prefix else None

    def batches(self, rows: list[Row]) -> list[list[Row]]:
        """Cut rows, the longest first, into batches of near equal size that hold within ``ROWS_BYTES``."""
        config = self.model.config
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = size * (getattr(config, "num_key_value_heads", None) or heads)
        per_token = 2 * config.num_hidden_layers * kept * self.model.dtype.itemsize
        longest = len(rows[0].suffix) + max(row.prompt.max_new_tokens for row in rows)
        most = max(1, min(self.rows, ROWS_BYTES // (longest * per_token)))
        even = -(-len(rows) // -(-len(rows) // most))
        return [rows[i : i + even] for i in range(0, len(rows), even)]

    def write_batch(self, batch: list[Row], prefix: SharedPrefix | None) -> None:
        """Read the suffixes of a batch, then write pass after pass until every row has ended."""
        column = len(batch[0].suffix)
        pads = [column - len(row.suffix) for row in batch]
        kv = self.rows_kv(pads, column + SPARE_COLUMNS, prefix)
        logits = self.read(kv, [row.suffix for row in batch])[:, None]
        for row in batch:
            # drawn answers and those held to a grammar are written token by token
            plain = row.draw is None and row.prompt.limit is None
            row.memory = Memory(row.suffix) if plain else None
        guessed, written = [Guess() for _ in batch], False
        while True:
            agreed = self.take(logits, batch, guessed)
            if written:  # what rows did not want of the last pass; all of it, of rows that had ended
                kv.take_back(torch.tensor(agreed, device=logits.device) + 1)
            going = [i for i, row in enumerate(batch) if row.finish is None]
            if not going:
                return
            if len(going) <= DROP_SHARE * len(batch):
                kv.keep(torch.tensor(going, device=logits.device))
                batch = [batch[i] for i in going]
            guessed = self.guesses(batch, kv)
            counts = [len(guess.tokens) for guess in guessed]
            width = 1 + max(counts)
            fed = torch.tensor(
                [
                    [row.tokens[-1], *guess.tokens, *[0] * (width - 1 - count)]
                    for row, guess, count in zip(batch, guessed, counts, strict=True)
                ],
                device=logits.device,
            )
            if kv.end + width > kv.columns:
                kv.close_gaps()
            behind = torch.tensor(counts, device=logits.device)
            logits, written = self.forward(kv, fed, slice(0, len(batch)), kv.end, behind), True

    def guesses(self, batch: Sequence[Row], kv: RowsKV) -> list[Guess]:
        """What may follow each row's tokens, short of the last one it may write.

        Together they are few enough for a pass whose scores and logits stay within ``PREFILL_SCORES``.
        """
        config = self.model.config
        per_token = config.num_attention_heads * (kv.prefix_length + kv.end + LONGEST)
        room = PREFILL_SCORES // (len(batch) * max(per_token, config.vocab_size)) - 1
        found = []
        for row in batch:
            most = min(LONGEST, room, row.prompt.max_new_tokens - len(row.tokens) - 1)
            asked = row.memory is not None and row.finish is None and most > 0
            found.append(self.drafter.guess(row.memory, most) if asked and row.memory else Guess())
        return self.drafter.shortened(found)

    def take(self, logits: Tensor, batch: Sequence[Row], guessed: Sequence[Guess]) -> list[int]:
        """Give each row its next tokens; with how many of its guess's the model agreed, -1: had ended before.

        logits (R, W, V): behind the token that a row had and behind each of its guess's.
        """
        first = logits[:, 0]
        hold(first, batch, [row.tokens for row in batch])
        chosen = choose(first, batch)
        best = logits.argmax(-1).tolist() if logits.shape[1] > 1 else []
        agreed = [-1] * len(batch)
        for i, row in enumerate(batch):
            if row.finish is not None:
                continue
            before, agreed[i] = len(row.tokens), 0
            row.take(chosen[i], self.stops)
            for place, guess in enumerate(guessed[i].tokens, start=1):
                if row.tokens[-1] != guess:
                    break
                agreed[i] += 1
                if row.finish is not None:
                    break
                row.take(best[i][place], self.stops)
            if row.memory is not None:
                row.memory.extend(row.tokens[before:])
                self.drafter.note(guessed[i], agreed[i])
                if row.finish is not None:
                    self.drafter.remember(row.prompt.tokens, row.tokens)
        self.drafter.forget()
        return agreed

    def read(self, kv: RowsKV, suffixes: Sequence[tuple[int, ...]]) -> Tensor:
        """Feed suffixes, the longest first, some rows and columns at a time; logits (R, V) at their ends."""
        longest, logits, first, most = len(suffixes[0]), [], 0, self.per_pass
        while first < len(suffixes):
            width = len(suffixes[first])
            group = suffixes[first : first + max(1, most // width)]
            ids = torch.tensor([(0,) * (width - len(s)) + s for s in group], device=self.model.device)
            rows = slice(first, first + len(group))
            per_column = len(group) * self.model.config.num_attention_heads * (kv.prefix_length + longest)
            step = max(1, min(most, PREFILL_SCORES // per_column))
            for begin in range(0, width, step):
                last = self.forward(kv, ids[:, begin : begin + step], rows, longest - width + begin)
            logits.append(last[:, -1])
            first += len(group)
        return torch.cat(logits)

    @torch.inference_mode()
    def agrees_with(self, implementation: str) -> bool:
        """Trial on a few tokens: the logits equal those of the model's own attention, reading and writing.

        A model that calls its attention in another way, or adds to it what ours does not know, fails here.
        It leaves weights that can be put in order so: that, too, not every model's code takes.
        """
        vocabulary = self.model.config.vocab_size
        tokens = [(7 * i * i + 11) % vocabulary for i in range(41)]
        shared, suffixes = tuple(tokens[:20]), [tuple(tokens[20:31]), tuple(tokens[31:39])]
        try:
            self.model.set_attn_implementation(implementation)
            whole = [
                torch.tensor([[*shared, *suffix, *tokens[39:41]]], device=self.model.device)
                for suffix in suffixes
            ]
            expected = torch.cat([self.model(input_ids=ids, use_cache=False).logits[:, -3:] for ids in whole])
            self.model.set_attn_implementation(NAME)
            if self.packed:
                pack_linears(self.model)
            kv = self.rows_kv([0], len(shared), None)
            self.read(kv, [shared])
            kv = self.rows_kv([0, 3], 12, self.in_use(PrefixKV(shared, kv.only_row(len(shared)))))
            reading = self.read(kv, suffixes)
            fed = torch.tensor([[tokens[39], tokens[3], tokens[5]]] * 2, device=self.model.device)
            behind = torch.tensor([2, 1], device=self.model.device)  # guesses, none of which is right
            writing = self.forward(kv, fed, slice(0, 2), 11, behind)[:, 0]
            kv.take_back(torch.ones_like(behind))
            fed = torch.full((2, 1), tokens[40], device=self.model.device)
            after = self.forward(kv, fed, slice(0, 2), 14, torch.zeros_like(behind))[:, -1]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError):
            return False
        came = torch.stack((reading, writing, after), 1)
        allowed = (1e-4 if self.model.dtype == torch.float32 else 5e-2) * expected.abs().max()
        return bool(((came - expected).abs() <= allowed).all())

    def forward(
        self, kv: RowsKV, ids: Tensor, rows: slice, column: int, guessed: Tensor | None = None
    ) -> Tensor:
        """One pass over ``ids`` (R, Q) from ``column`` on: logits (R, 1, V) of the last position.

        guessed (R,): how many of a row's tokens behind the first are guesses; then logits of all, (R, Q, V).
        """
        positions = kv.aim(rows, column, ids.shape[1], guessed)
        logits: Tensor = self.model(
            input_ids=ids,
            position_ids=positions,
            past_key_values=kv,
            use_cache=True,
            logits_to_keep=1 if guessed is None else ids.shape[1],
            rows_kv=kv,
        ).logits
        return logits


def per_token_on_gpu(model: Any) -> float:
    """What a token more in a pass costs on a GPU, as a share of what a pass costs at all."""
    numbers = model.num_parameters()
    once = model.dtype.itemsize * numbers / GPU_BYTES + LAYER_SECONDS * model.config.num_hidden_layers
    return float(2 * numbers / GPU_FLOPS / once)


def attends_plainly(config: Any) -> bool:
    """False where a short trial could not show that attention depends on the distance or length of a text."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type", "default")} if "rope_type" in rope or not rope else {"several"}
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    has_shape = all(
        isinstance(getattr(config, name, None), int)
        for name in ("num_attention_heads", "num_hidden_layers", "hidden_size")
    )
    return (
        has_shape
        and window is None
        and layers == {"full_attention"}
        and kinds <= {"default", "linear", "llama3"}
    )


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common start of two sequences of tokens."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def common_start(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest start that all prompts share, short of each one's last token, which a row reads itself."""
    low, high = min(prompts), max(prompts)  # in lexicographic order these two differ first
    return low[: min(common(low, high), *(len(prompt) - 1 for prompt in prompts), len(low) - 1)]
