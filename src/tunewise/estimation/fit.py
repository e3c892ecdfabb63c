"""Which GPUs a run fits on, and the cheapest change that makes it fit where it does not.

``fits``: the upper bound of allocated memory and the context lie within what the GPU lets a program use.
``tight``: the expected figure does, with 5 % of what comes and goes lost to fragments; the allocator's cache
has no room, so expect slow collections and an out-of-memory error if the longest batch is longer than told.
``no``: neither.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunewise.estimation.hardware import Gpu
from tunewise.estimation.memory import CONTEXT, NCCL, Memory, memory
from tunewise.estimation.setup import QUANTISED, Setup
from tunewise.estimation.shapes import Shape

Verdict = Literal["fits", "tight", "no"]
FRAGMENTS = 0.05
MOST_GPUS = 8  # of one machine, tried for sharding


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to change. price: what it costs in time or quality, in words."""

    name: str
    said: str
    price: str


@dataclass(frozen=True, slots=True)
class Fit:
    """How a run and a GPU go together. GiB on each GPU. changes.

    The cheapest that make it fit, when it does not.
    """

    gpu: Gpu
    verdict: Verdict
    needs: float
    safe: float
    changes: tuple[Change, ...] = ()
    after: float | None = None
    note: str = ""


def needs_of(found: Memory, setup: Setup, factor: float = 1.0) -> tuple[float, float]:
    """GiB that the run needs at least, and with all of its uncertainty. factor: from calibration."""
    around = CONTEXT + (NCCL if setup.gpus > 1 else 0.0)
    expected = found.allocated.expected
    held = sum(found.parts.get(name, 0.0) for name in ("weights", "adapter", "optimizer"))
    needs = expected + FRAGMENTS * max(0.0, expected - held)
    return factor * needs + around, factor * found.allocated.high + around


def verdict_of(needs: float, safe: float, usable: float) -> Verdict:
    """Where the need stands against the usable memory."""
    return "fits" if safe <= usable else "tight" if needs <= usable else "no"


def fits(shape: Shape, setup: Setup, catalogue: Sequence[Gpu], factor: float = 1.0) -> tuple[Fit, ...]:
    """One verdict per GPU, in the catalogue's order, each with what would make it fit.

    setup: its ``capacity_gib`` is left aside, since every GPU has its own.
    """
    ways = Ways(shape, replace(setup.complete(), capacity_gib=None), factor)
    return tuple(ways.on(gpu) for gpu in catalogue)


def smallest(found: Sequence[Fit]) -> Gpu | None:
    """Of the GPUs that fit the one with the least memory; of equal ones the cheapest, then the fastest.

    One without a price only where none that has one fits. None without any.
    """
    able = [one.gpu for one in found if one.verdict == "fits" and one.gpu.price is not None]
    able = able or [one.gpu for one in found if one.verdict == "fits"]

    def rank(gpu: Gpu) -> tuple[float, float, float]:
        return (gpu.memory_gib, gpu.price.expected if gpu.price else 0.0, -gpu.tflops)

    return min(able, key=rank, default=None)


class Ways:
    """The changes open to one run, each combination estimated once."""

    def __init__(self, shape: Shape, setup: Setup, factor: float) -> None:
        self.shape, self.setup, self.factor = shape, setup, factor
        self.changes = tuple(_changes(setup))
        self._needs: dict[tuple[str, ...], tuple[float, float]] = {}

    def on(self, gpu: Gpu) -> Fit:
        """The verdict for one GPU."""
        needs, safe = self.after(())
        note = "in fp16: it has no bf16" if "bf16" in gpu.lacks and self.setup.compute_dtype == "bf16" else ""
        verdict = verdict_of(needs, safe, gpu.usable_gib)
        if verdict == "fits":
            return Fit(gpu, verdict, needs, safe, note=note)
        chosen = self._cheapest(gpu)
        after = self.after(tuple(change.name for change, _ in chosen))[1] if chosen else None
        return Fit(gpu, verdict, needs, safe, tuple(change for change, _ in chosen), after, note)

    def after(self, names: tuple[str, ...]) -> tuple[float, float]:
        """Needs with these changes made."""
        if names not in self._needs:
            setup = self.setup
            for change, make in self.changes:
                if change.name in names:
                    setup = make(setup)
            self._needs[names] = needs_of(memory(self.shape, setup), setup, self.factor)
        return self._needs[names]

    def _cheapest(self, gpu: Gpu) -> list[tuple[Change, Callable[[Setup], Setup]]]:
        """From cheap to dear: the first change that is enough, alone or with cheaper ones that it needs."""

        def enough(chosen: Sequence[tuple[Change, Callable[[Setup], Setup]]]) -> bool:
            return self.after(tuple(change.name for change, _ in chosen))[1] <= gpu.usable_gib

        if gpu.link_gb_s:
            usable = list(self.changes)
        else:
            usable = [one for one in self.changes if not one[0].name.startswith("fsdp")]
        chosen: list[tuple[Change, Callable[[Setup], Setup]]] = []
        for one in usable:
            if enough([one]):
                return [one]
            chosen = [kept for kept in chosen if not _replaces(one[0], kept[0])] + [one]
            if enough(chosen):
                break
        else:
            return []
        for one in reversed(chosen[:-1]):
            fewer = [kept for kept in chosen if kept is not one]
            milder = [other for other in usable if _replaces(other[0], one[0])]
            for other in (None, *milder[: milder.index(one)]):
                instead = fewer if other is None else [other if kept is one else kept for kept in chosen]
                if enough(instead):
                    chosen = instead
                    break
        return chosen


def _replaces(new: Change, old: Change) -> bool:
    """More of the same: another optimizer, a smaller batch, more GPUs."""
    return new.name.split(":")[0] == old.name.split(":")[0]


def _changes(run: Setup) -> list[tuple[Change, Callable[[Setup], Setup]]]:
    """What can still be changed, cheapest first."""
    found: list[tuple[Change, Callable[[Setup], Setup]]] = []

    def add(name: str, said: str, price: str, **values: object) -> None:
        found.append((Change(name, said, price), _changed(values)))

    if run.cross_entropy in ("logits", "fast", "chunked"):
        add("cross-entropy", "fused cross-entropy (Liger, cut-CE)", "none", cross_entropy="fused")
    if run.optimizer == "adamw" and not run.trains_adapter:
        add("optimizer:fused", "AdamW fused in place of foreach", "none", optimizer="adamw-fused")
    if run.checkpointing != "full":
        add("checkpointing", "gradient checkpointing", "a quarter to a third more time", checkpointing="full")
    if run.optimizer in ("adamw", "adamw-fused") and not run.trains_adapter:
        add("optimizer:8bit", "8-bit AdamW", "hardly any", optimizer="adamw-8bit")
        add("optimizer:paged", "paged 8-bit AdamW", "time when states move", optimizer="paged-adamw-8bit")
    size = run.micro_batch
    while size > 1:
        size = max(1, size // 2)
        passes = -(-run.micro_batch * run.accumulation // size)
        said = f"micro-batch {size}, accumulation {passes}"
        add(f"micro-batch:{size}", said, "a little time", micro_batch=size, accumulation=passes)
    _other_methods(run, add)
    length = run.seq_len
    while length > 512:
        length //= 2
        said = f"at most {length:,} tokens"
        add(f"length:{length}", said, "longer rows are cut or left out", seq_len=length, mean_len=None)
    gpus = 2 * run.gpus
    while run.sharding in ("none", "ddp", "fsdp", "zero3") and gpus <= MOST_GPUS:
        add(f"fsdp:{gpus}", f"FSDP over {gpus} GPUs", f"{gpus} GPUs", gpus=gpus, sharding="fsdp")
        gpus *= 2
    return found


def _other_methods(run: Setup, add: Callable[..., None]) -> None:
    """Lighter methods: quantise the base, or train an adapter in place of all weights."""
    quantised: Mapping[str, object] = {"weight_dtype": "nf4-dq", "adapter_dtype": None, "fp32_residual": None}
    if run.method == "lora" and run.weight_dtype not in QUANTISED:
        add(
            "method:qlora",
            "QLoRA in place of LoRA",
            "about a tenth of the speed",
            method="qlora",
            **quantised,
        )
    if run.method == "full":
        base = {"weight_dtype": "bf16", "adapter_dtype": None, "optimizer": "adamw"}
        add("method:lora", "LoRA in place of full tuning", "capacity to learn", method="lora", **base)
        more = {**quantised, "optimizer": "adamw"}
        add(
            "method:qlora",
            "QLoRA in place of full tuning",
            "capacity to learn, a tenth of the speed",
            method="qlora",
            **more,
        )


def _changed(values: Mapping[str, object]) -> Callable[[Setup], Setup]:
    def make(setup: Setup) -> Setup:
        changed: Setup = replace(setup, **values)  # type: ignore[arg-type]
        return changed.complete()

    return make
