"""The rule of thumb for training memory, beside which our estimate is shown.

Full fine-tuning takes four times the 16-bit weights, LoRA the weights and 2 GB, QLoRA half a byte per
parameter and 2 GB; the answer picks one of four cards. Its GB are 2^30 bytes.
"""

from dataclasses import asdict, dataclass
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation.memory import Memory
from tunewise.estimation.setup import Setup
from tunewise.estimation.shapes import Shape

GIB = float(2**30)
ADAPTER = 2.0  # GB it adds for an adapter with its gradients and optimizer states
FORMULAE = {
    "full": "4 x 16-bit weights",
    "lora": "16-bit weights + 2 GB",
    "qlora": "half a byte per parameter + 2 GB",
}
# Its cards, and the memory above which it names each; beyond the last it names nothing larger.
CARDS = ((40.0, "A100 80GB"), (20.0, "A100 40GB"), (16.0, "RTX 4090 24GB"), (0.0, "RTX 3090 24GB"))


@dataclass(frozen=True)
class RuleOfThumb:
    """What the rule says of a run, and where it errs."""

    gib: float
    formula: str
    gpu: str
    errs: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"gib": round(self.gib, 3), "errs": list(self.errs)}


def rule_gib(parameters: int, method: str) -> float:
    """GiB by the rule of thumb. Raises SettingError for a method it has no rule for."""
    weights = 2.0 * parameters / GIB
    rules = {"full": 4.0 * weights, "lora": weights + ADAPTER, "qlora": weights / 4 + ADAPTER}
    if method not in rules:
        raise SettingError(f"the rule of thumb knows full, lora and qlora, got {method!r}")
    return rules[method]


def rule_gpu(gib: float) -> str:
    """The card the rule names for this much memory."""
    return next(card for above, card in CARDS if gib > above or above == 0.0)


def rule_of_thumb(shape: Shape, setup: Setup, ours: Memory) -> RuleOfThumb:
    """The rule for a run, beside our estimate of the same run."""
    gib = rule_gib(shape.parameters(), setup.method)
    return RuleOfThumb(gib, FORMULAE[setup.method], rule_gpu(gib), tuple(_errs(setup, gib, ours)))


def _errs(setup: Setup, gib: float, ours: Memory) -> list[str]:
    """Where the rule errs for this run."""
    off = gib / ours.allocated.expected - 1
    side = "below" if off < 0 else "above"
    found = [f"{abs(off):.0%} {side} our {ours.allocated.expected:.1f} GiB allocated"]
    missing = {
        "loss": f"leaves out the logits of {setup.tokens:,} tokens, which set the peak",
        "backward": f"leaves out the activations of {setup.tokens:,} tokens, which set the peak",
        "step": "leaves out what the optimizer needs for a moment, which sets the peak",
    }
    if off < 0:
        found.append(missing[ours.peak])
    if setup.gpus > 1:
        found.append(f"knows one GPU only; this run has {setup.gpus}")
    if gib > 80:
        found.append(f"names an A100 80GB for {gib:.0f} GB, which does not hold it")
    found.append("does not look at length, batch, cross-entropy, optimizer or what nvidia-smi adds")
    return found
