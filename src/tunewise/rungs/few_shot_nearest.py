"""For each input the train examples that share its rarest words; how many is chosen on the selection part."""

from dataclasses import replace

from tunewise.rungs.few_shot import usable
from tunewise.rungs.prompt import NearestShots, PromptCandidate, Shot, layout_of
from tunewise.rungs.rung import Outlook, Workbench
from tunewise.rungs.search import Arm, calls_of, choose

SIZES = (1, 3, 5, 8)
STAGES = (24, 48)  # 4 arms on 24 items, 2 on 24 more: 144 calls; these prompts share no prefix


class FewShotNearest:
    """Shows the model the right answers to the inputs most like this one."""

    name = "few-shot-nearest"

    def cannot_help(self, bench: Workbench) -> str | None:
        """There must be train rows to look up."""
        return None if bench.parts.train else "there are no train rows to look examples up in"

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung."""
        sizes = _sizes_there(len(bench.parts.train))
        return Outlook(calls_of(bench, len(sizes), STAGES), shots=(sizes[0], sizes[-1]))

    def build(self, bench: Workbench) -> PromptCandidate:
        """See Rung. At most 144 calls on selection items."""
        nearest = NearestShots([Shot.of(example) for example in usable(bench.parts.train)])
        layout = layout_of(bench)
        arms = [
            Arm(
                {"k": k},
                PromptCandidate(self.name, bench.door, replace(layout, nearest=k), nearest=nearest),
            )
            for k in _sizes_there(len(nearest.shots))
        ]
        return choose(bench, self.name, arms, STAGES).with_facts(looked_up_in=len(nearest.shots))


def _sizes_there(rows: int) -> list[int]:
    """The sizes that the train rows allow, at least one."""
    return [k for k in SIZES if k <= rows] or [rows]
