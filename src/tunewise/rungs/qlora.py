"""QLoRA: a LoRA adapter trained beside weights in 4 bits, for bases that do not fit otherwise."""

import importlib.util

from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.tuned import build, cannot_tune, outlook_of


class Qlora:
    """Supervised fine-tuning of a LoRA adapter on the base in NF4, beside which it answers."""

    name = "qlora"

    def cannot_help(self, bench: Workbench) -> str | None:
        """See ``tuned.cannot_tune``."""
        if bench.tune_door is not None and importlib.util.find_spec("bitsandbytes") is None:
            return "bitsandbytes is not installed; run: pip install 'tunewise[qlora]', or use lora"
        return cannot_tune(bench)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        return outlook_of(bench)

    def build(self, bench: Workbench) -> PromptCandidate:
        """See ``tuned.build``."""
        return build(bench, "qlora")
