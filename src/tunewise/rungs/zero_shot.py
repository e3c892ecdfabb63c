"""The lightest rung: the instruction and the input, nothing else."""

from itertools import chain

from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rung import Outlook, Workbench

# Fields that hold what a model is asked, in full; an ``input`` is only what the instruction speaks of.
WHOLE_PROMPTS = ("instruction", "prompt", "messages", "conversations")


class ZeroShot:
    """Asks the model as it is."""

    name = "zero-shot"

    def cannot_help(self, bench: Workbench) -> str | None:
        """Without an instruction anywhere the model cannot know what is wanted."""
        if bench.task.instruction:
            return None
        parts = bench.parts
        for example in chain(parts.train, parts.selection, parts.certification):
            # a system turn, an earlier turn or a row that is a whole prompt of its own can say what is wanted
            if len(example.turns) > 1 or any(example.fields.get(key) for key in WHOLE_PROMPTS):
                return None
        return (
            "the task gives no instruction, so nothing but examples can say what is wanted; if words can, "
            "add 'instruction' to the task"
        )

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        return Outlook()

    def build(self, bench: Workbench) -> PromptCandidate:
        """Nothing to choose, nothing to ask."""
        return PromptCandidate(self.name, bench.door, layout_of(bench), built={"k": 0})
