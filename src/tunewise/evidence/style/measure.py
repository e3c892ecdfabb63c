"""One answer scored for its voice, with what stands beside: content and surface rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tunewise.evidence.records import Score
from tunewise.evidence.style.loops import loops
from tunewise.evidence.style.masking import words
from tunewise.evidence.style.rules import SurfaceRules
from tunewise.evidence.style.voice import MOST_CHARACTERS, Voice

Content = Callable[[str], float | None]


@dataclass(frozen=True, eq=False)
class StyleMeasure:
    """A fitted voice and what is asked beside it.

    at_least: the content that an answer needs besides the voice to count, in (0, 1]; None: content is shown
    and does not count. content_name: the metric of the content.
    """

    voice: Voice
    rules: SurfaceRules = field(default_factory=SurfaceRules)
    content_name: str = "token_f1"
    at_least: float | None = None

    def score(self, text: str, content: Content) -> Score:
        """1 where the answer is in the voice (and says enough, where that is asked), else 0 with the reason.

        detail: ``voice`` (probability), ``content``, ``rules_kept``. An answer without a word is
        ``unparseable``. content: the content metric on this answer; None where it cannot be said.
        """
        text = text[:MOST_CHARACTERS]
        if not words(text):
            return Score("unparseable", 0.0, {"why": "the answer has no word, so it has no voice"})
        probability = float(self.voice.probability([text])[0])
        spoken = self.voice.speaks(text)
        said, why = content(text), []
        detail: dict[str, Any] = {"voice": probability}
        if loops(words(text)):
            why.append("it repeats itself, so it is in no voice")
        elif not spoken:
            threshold = self.voice.threshold_probability
            why.append(f"not in the voice: {probability:.2f}, the threshold is {threshold:.2f}")
        if said is not None:
            detail["content"] = said
        enough = self.at_least is None or (said is not None and said >= self.at_least)
        if not enough:
            shown = "unknown" if said is None else f"{said:.2f}"
            why.append(f"content: {self.content_name} {shown}, at least {self.at_least} is asked")
        if self.rules.asked:
            broken = self.rules.broken(text)
            detail["rules_kept"] = float(not broken)
            if broken:
                detail["broken_rules"] = broken
        if why:
            detail["why"] = "; ".join(why)
        return Score("scored", float(spoken and enough), detail)
