"""LoRA: an adapter trained on the train part, the checkpoint chosen on selection."""

from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.tuned import build, cannot_tune, outlook_of


class Lora:
    """Supervised fine-tuning of a LoRA adapter on the prompt layout of ``zero-shot``."""

    name = "lora"

    def cannot_help(self, bench: Workbench) -> str | None:
        """See ``tuned.cannot_tune``."""
        return cannot_tune(bench)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        return outlook_of(bench)

    def build(self, bench: Workbench) -> PromptCandidate:
        """See ``tuned.build``."""
        return build(bench, "lora")
