"""How each measured rung does once the documents have changed, without being built anew.

The measured form of "knowledge changes frequently": ``knowledge.documents_after`` is a later version of the
documents, and a row whose answer changed with them carries the new one in ``output_after`` (or
``references_after``). A rung that looks passages up has its index swapped for the later version; every other
rung stays as it is. Nothing here is read by a test: it is asked after the decision and changes no verdict.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunewise.data import Example
from tunewise.errors import BudgetEnded, DataError
from tunewise.evidence.intervals import Figure, figure
from tunewise.evidence.records import Score
from tunewise.models.door import Answer, Door, Request
from tunewise.retrieval.chunking import chunk_document
from tunewise.retrieval.documents import read_documents
from tunewise.retrieval.index import Retriever
from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rung import Candidate

MOST_CHANGED = 60  # certification items whose answer changed
MOST_UNCHANGED = 30  # others, on which a swapped index may do harm
AFTER_KEYS = ("output_after", "references_after")

Ask = Callable[[str, Door, Sequence[Request], str], list[Answer]]  # rung, door, requests, purpose
Judge = Callable[[Example, Answer], Score]


@dataclass(frozen=True, slots=True)
class StaleRung:
    """One rung before and after the change, on the same items.

    how: ``index swapped`` or ``as is``. before: old documents, old answers. after: new documents where it
    looks them up, new answers. unchanged_before, unchanged_after: items whose answer stayed, None where
    nothing of theirs can differ.
    """

    rung: str
    how: str
    before: Figure
    after: Figure
    unchanged_before: Figure | None = None
    unchanged_after: Figure | None = None

    def sentence(self, metric: str) -> str:
        """One sentence for people."""
        said = (
            f"{self.rung} ({self.how}): {_said(self.before)} before the change, {_said(self.after)} after it"
        )
        if self.unchanged_before is not None and self.unchanged_after is not None:
            kept = f"{_said(self.unchanged_before)} and {_said(self.unchanged_after)}"
            said += f"; on questions whose answer stayed {kept}"
        return f"{said} ({metric})."


@dataclass(frozen=True, slots=True)
class Staleness:
    """How the measured rungs do after the change. cut_off: why rungs are missing, None when none are."""

    documents_after: str
    changed_items: int
    unchanged_items: int
    rungs: tuple[StaleRung, ...]
    metric: str
    cut_off: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where undefined."""
        return {
            "documents_after": self.documents_after,
            "changed_items": self.changed_items,
            "unchanged_items": self.unchanged_items,
            "rungs": [{**asdict(rung), "sentence": rung.sentence(self.metric)} for rung in self.rungs],
            "cut_off": self.cut_off,
        }


def _said(found: Figure) -> str:
    if found.estimate is None:
        return "undefined"
    bounds = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.estimate:.3f}{bounds}"


def references_after(example: Example) -> tuple[Any, ...] | None:
    """The right answers of a row after the change; None where the row names none, so that they stay.

    Raises DataError for ``references_after`` that is no list.
    """
    several = example.fields.get("references_after")
    if several is not None and not isinstance(several, list):
        raise DataError(
            f"{example.source}:{example.line}: 'references_after' must be a list of right answers"
        )
    one = example.fields.get("output_after")
    found = ([one] if one not in (None, "") else []) + list(several or [])
    return tuple(found) or None


def check_after(order: Sequence[Example], documents_after: Path) -> None:
    """Raise DataError where there is nothing to compare, or documents that cannot be read."""
    read_documents(documents_after)
    if not any(references_after(example) for example in order):
        raise DataError(
            f"knowledge.documents_after is given ({documents_after}), but no certification row says its"
            " answer after the change: add 'output_after' to the rows whose answer changed, or take the key"
            " out"
        )


def measure_staleness(
    candidates: dict[str, Candidate],
    order: Sequence[Example],
    documents_after: Path,
    ask: Ask,
    judge: Judge,
    metric: str,
) -> Staleness:
    """Ask each candidate about changed and unchanged items, before and after the change.

    candidates: the measured rungs, light to heavy. order: certification items in their fixed order. A budget
    that ends leaves out the rungs that are still to come, and says so.
    """
    changed = [e for e in order if references_after(e)][:MOST_CHANGED]
    unchanged = [e for e in order if not references_after(e)][:MOST_UNCHANGED]
    found: list[StaleRung] = []
    cut_off = None
    try:
        for name, candidate in candidates.items():
            found.append(_one(name, candidate, changed, unchanged, documents_after, ask, judge))
    except BudgetEnded as end:
        cut_off = str(end)
    return Staleness(documents_after.name, len(changed), len(unchanged), tuple(found), metric, cut_off)


def _one(
    name: str,
    candidate: Candidate,
    changed: Sequence[Example],
    unchanged: Sequence[Example],
    documents_after: Path,
    ask: Ask,
    judge: Judge,
) -> StaleRung:
    def figures(asked: Candidate, items: Sequence[Example], scored_as: Sequence[Example]) -> Figure:
        answers = ask(name, asked.door, [asked.request(example) for example in items], "staleness")
        return figure([judge(e, answer).value for e, answer in zip(scored_as, answers, strict=True)])

    renewed = [replace(e, references=references_after(e) or ()) for e in changed]
    swapped = swap_index(candidate, documents_after)
    before = figures(candidate, changed, changed)
    if swapped is None:
        return StaleRung(name, "as is", before, figures(candidate, changed, renewed))
    return StaleRung(
        name,
        "index swapped",
        before,
        figures(swapped, changed, renewed),
        figures(candidate, unchanged, unchanged),
        figures(swapped, unchanged, unchanged),
    )


def swap_index(candidate: Candidate, documents: Path) -> PromptCandidate | None:
    """The same candidate with an index over other documents; None for one that looks nothing up."""
    if not isinstance(candidate, PromptCandidate) or candidate.retriever is None:
        return None
    chunks = [c for document in read_documents(documents).documents for c in chunk_document(document)]
    return replace(candidate, retriever=Retriever(chunks, candidate.retriever.encoder))
