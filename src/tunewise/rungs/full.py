"""Full fine-tuning: all weights trained on the train part; the candidate is a model of its own."""

from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.tuned import build, cannot_tune, outlook_of


class Full:
    """Supervised fine-tuning of every weight; what answers is the tuned model, not the base."""

    name = "full"

    def cannot_help(self, bench: Workbench) -> str | None:
        """See ``tuned.cannot_tune``."""
        return cannot_tune(bench)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        return outlook_of(bench)

    def build(self, bench: Workbench) -> PromptCandidate:
        """See ``tuned.build``."""
        return build(bench, "full")
