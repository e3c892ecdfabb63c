"""Why a rung fails, measured on selection items: format, knowledge or behaviour.

Of an answer that is not right:

- ``knowledge``: it becomes right when the passage that holds the answer stands in the prompt. Needs the
  task's documents, and rows that name their passage or whose reference stands in a passage word for word.
- ``format``: the raw output is not of the form asked for, or it is right only after repair; with a metric
  that checks a form (``json_schema``, ``markdown``, ...) that is every failure.
- ``behaviour``: all the rest.

An answer is right when its value is at least 0.999 with a 0/1 metric, and at least the task's target
with a graded one.
"""

from collections.abc import Sequence

from tunewise.data import Example
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.records import Score
from tunewise.ladder import Gap
from tunewise.retrieval.index import Retriever
from tunewise.rungs.prompt import PromptCandidate
from tunewise.rungs.rag import GoldPassages, chunks_of
from tunewise.rungs.rung import Candidate, Workbench
from tunewise.rungs.search import selection_items
from tunewise.task_output import FORM_KEYS

ITEMS = 30
RIGHT = 0.999  # of a 0/1 metric, with room for the float it travels as
KINDS = ("format", "knowledge", "behaviour")


def measure_gap(bench: Workbench, rung_name: str, candidate: Candidate) -> Gap:
    """Ask up to 30 selection items (and their failures once more with the right passage) and count the gaps.

    ``kind`` is the most frequent one, ties in the order format, knowledge, behaviour; None when nothing
    failed. ``checked`` counts the items that were answered; calls that errored tell nothing.
    """
    items = selection_items(bench, ITEMS)
    said = f"asking why it fails, on {len(items)} selection items"
    bench.progress.tell("building", rung=rung_name, text=said)
    answers = bench.ask(candidate.door, [candidate.request(example) for example in items], "gap")
    scored = [(e, bench.score(e, answer)) for e, answer in zip(items, answers, strict=True)]
    known = [(example, score) for example, score in scored if score.value is not None]
    right = right_from(bench)
    failed = [(example, score) for example, score in known if not _is_right(score, right)]
    of_form = {e.key for e, s in failed if bench.task.metric in FORM_KEYS or _mends(s, right)}
    mended = _right_with_passage(bench, candidate, [e for e, _ in failed if e.key not in of_form], right)
    counts = dict.fromkeys(KINDS, 0)
    for example, score in failed:
        if example.key in of_form:
            counts["format"] += 1
        elif example.key in mended:
            counts["knowledge"] += 1
        else:
            counts["format" if score.status == "unparseable" else "behaviour"] += 1
    kind = max(KINDS, key=lambda name: counts[name]) if failed else None
    return Gap(kind, counts, len(known))


def right_from(bench: Workbench) -> float:
    """The value from which an answer counts as right."""
    return RIGHT if metric_of(bench.task).kind == "binary" else bench.task.target


def _is_right(score: Score, right: float) -> bool:
    return score.value is not None and score.value >= right


def _mends(score: Score, right: float) -> bool:
    """Whether repair alone makes it right."""
    repaired = score.detail.get("repaired_value")
    return isinstance(repaired, int | float) and repaired >= right


def _right_with_passage(
    bench: Workbench, candidate: Candidate, failed: Sequence[Example], right: float
) -> set[str]:
    """Keys of the failed examples that are answered right with their passage in the prompt."""
    if not failed or bench.task.knowledge is None or not isinstance(candidate, PromptCandidate):
        return set()
    gold = GoldPassages(candidate.retriever or Retriever(chunks_of(bench)[1]))
    pairs = [(example, gold.best(example)) for example in failed]
    shown = [(example, chunk) for example, chunk in pairs if chunk is not None]
    requests = [candidate.request_with(example, (chunk,)) for example, chunk in shown]
    answers = bench.ask(candidate.door, requests, "gap")
    scores = [bench.score(example, answer) for (example, _), answer in zip(shown, answers, strict=True)]
    return {example.key for (example, _), score in zip(shown, scores, strict=True) if _is_right(score, right)}
