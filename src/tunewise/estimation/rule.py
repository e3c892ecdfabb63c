"""The rule of thumb for training memory that is told everywhere, beside which our estimate is shown.

Full fine-tuning takes four times the 16-bit weights; LoRA the weights and 2 GB; QLoRA half a byte per parameter
and 2 GB. GB of the rule are 10^9 bytes.
"""

from dataclasses import dataclass
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation.memory import Memory
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape

GB = 1e9
GIB = float(2**30)
# The four cards it is told with, GB on their labels.
CARDS = {"RTX 4090": 24.0, "A10G": 24.0, "A100 80GB": 80.0, "H100": 80.0}
ADAPTER_GB = 2.0


@dataclass(frozen=True)
class RuleOfThumb:
    """What the rule says, where ours differs and why."""

    gib: float
    formula: str
    fits: tuple[str, ...]  # of its four cards
    errs: str  # in words: by how much against ours, and what it leaves out

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "gib": round(self.gib, 3),
            "formula": self.formula,
            "fits": list(self.fits),
            "errs": self.errs,
        }


def rule_gib(parameters: int, method: str) -> float:
    """GiB by the rule of thumb. Raises SettingError for a method it has no rule for."""
    weights = 2.0 * parameters
    if method == "full":
        return 4.0 * weights / GIB
    if method == "lora":
        return (weights + ADAPTER_GB * GB) / GIB
    if method == "qlora":
        return (0.5 * parameters + ADAPTER_GB * GB) / GIB
    raise SettingError(f"the rule of thumb knows full, lora and qlora, got {method!r}")


FORMULAE = {
    "full": "4 x 16-bit weights",
    "lora": "16-bit weights + 2 GB",
    "qlora": "half a byte per parameter + 2 GB",
}


def rule_of_thumb(shape: Shape, setup: Setup, ours: Memory) -> RuleOfThumb:
    """The rule for a run, beside our estimate of the same run."""
    gib = rule_gib(shape.parameters(), setup.method)
    fits = tuple(name for name, size in CARDS.items() if gib <= size * GB / GIB)
    return RuleOfThumb(gib, FORMULAE[setup.method], fits, _errs(setup, gib, ours))


def _errs(setup: Setup, gib: float, ours: Memory) -> str:
    """Where the rule errs for this run."""
    off = gib / ours.allocated.expected - 1
    size = (
        f"{abs(off):.0%} {'below' if off < 0 else 'above'} ours ({ours.allocated.expected:.1f} GiB allocated)"
    )
    if setup.gpus > 1:
        return f"{size}; it knows one GPU only, this run has {setup.gpus}"
    reasons = {
        "loss": f"it leaves out the logits of {setup.tokens:,} tokens",
        "backward": f"it leaves out the activations of {setup.tokens:,} tokens",
        "step": "it leaves out the optimizer's transient, as large as the weights",
    }
    low = reasons[ours.peak] if off < -0.02 else "it does not look at tokens, cross-entropy or optimizer"
    return f"{size}; {low}"
