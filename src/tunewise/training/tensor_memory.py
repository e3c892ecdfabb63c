"""Peak memory of a step: the allocator's own count on a GPU, a count of tensor storages on a CPU.

A CPU process' resident size says little (the allocator keeps freed pages, libraries take their share), so the
bytes of live storages are counted as operators make them. Checked against ``torch.distributed``'s MemTracker,
which doubles the time of a step: the same figure. What an operator allocates and frees inside itself is not
seen. Heavy: imports torch.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

PLAIN = {int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format}


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, keeps ``now`` and ``peak``: bytes of all live storages that were seen.

    Storages made before are seen through ``count`` or when an operator first uses them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, then count what it used and made."""
        given = kwargs or {}
        made = func(*args, **given)
        self.count(args)
        if given:
            self.count(given)
        self.count(made)
        return made

    def count(self, tree: Any) -> None:
        """See the storages of all tensors in ``tree``."""
        if isinstance(tree, torch.Tensor):
            self._see(tree)
        elif type(tree) in (tuple, list):  # what operators take and give; a walk of any tree costs far more
            for branch in tree:
                if type(branch) not in PLAIN:
                    self.count(branch)
        elif type(tree) not in PLAIN:
            for leaf in tree_iter(tree):
                if isinstance(leaf, torch.Tensor):
                    self._see(leaf)

    def _see(self, tensor: torch.Tensor) -> None:
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return  # sparse and opaque tensors have none
        if storage.device.type == "meta":
            return
        key, size = storage._cdata, storage.nbytes()
        before = self._sizes.get(key)
        if before == size:
            return
        if before is None:
            self._alive[key] = weakref.ref(storage, lambda _: self._forget(key))
        self._sizes[key] = size
        self.now += size - (before or 0)
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)
        self._alive.pop(key, None)

    def start_again(self) -> None:
        """Forget the peak so far, not what is alive."""
        self.peak = self.now


class Gauge:
    """Peak bytes of tensors between ``start`` and ``stop``; ``peak`` is the largest of several, None before.

    model, optimizer: whatever holds tensors from before; counted at every start. On a GPU the allocator's own
    peak is read, less ``others``: bytes that the process held before (``on_gpu_now``), of other models.
    """

    def __init__(self, others: int = 0) -> None:
        self.peak: int | None = None
        self.others = others
        self._counting: TensorMemory | None = None

    @property
    def running(self) -> bool:
        """True between start and stop."""
        return self._counting is not None

    def start(self, *holders: Any) -> None:
        """Begin to count; ``holders`` are modules, optimizers or trees of tensors that exist already."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._counting = TensorMemory()
        for holder in holders:
            self._counting.count(tensors_of(holder))
        self._counting.start_again()
        if not torch.cuda.is_available():
            self._counting.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> int:
        """Peak bytes since ``start``."""
        assert self._counting is not None
        if torch.cuda.is_available():
            peak = int(torch.cuda.max_memory_allocated()) - self.others
        else:
            self._counting.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            peak = self._counting.peak
        self._counting = None
        self.peak = max(self.peak or 0, peak)
        return peak


def on_gpu_now() -> int:
    """Bytes that tensors of this process take on the GPU; 0 without one."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else 0


def tensors_of(holder: Any) -> list[torch.Tensor]:
    """The tensors of a module (gradients too), of an optimizer's state, or of a tree."""
    if isinstance(holder, torch.nn.Module):
        found = [*holder.parameters(), *holder.buffers()]
        found += [p.grad for p in holder.parameters() if p.grad is not None]
        states = [getattr(p, "quant_state", None) for p in holder.parameters()]
        return [*found, *(t for state in states if state is not None for t in _quant_tensors(state))]
    if hasattr(holder, "state") and hasattr(holder, "param_groups"):
        return [leaf for leaf in tree_iter(dict(holder.state)) if isinstance(leaf, torch.Tensor)]
    return [leaf for leaf in tree_iter(holder) if isinstance(leaf, torch.Tensor)]


def _quant_tensors(state: Any) -> list[torch.Tensor]:
    """What bitsandbytes keeps beside a quantised weight: block maxima, their own maxima, the code book."""
    inner = getattr(state, "state2", None)
    own = [getattr(state, name, None) for name in ("absmax", "code", "offset")]
    return [t for t in own if isinstance(t, torch.Tensor)] + (_quant_tensors(inner) if inner else [])


@contextmanager
def measured(*holders: Any) -> Iterator[Gauge]:
    """A gauge that runs over the block."""
    gauge = Gauge()
    gauge.start(*holders)
    try:
        yield gauge
    finally:
        gauge.stop()
