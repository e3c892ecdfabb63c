"""``tunewise score --metric judge --task TASK``: a file of outputs read by the task's judge."""

from collections.abc import Sequence
from typing import Any

from tunewise.data import reference_text
from tunewise.errors import DataError, SettingError
from tunewise.evidence.judge import Item, Judge, read_labels, read_rubric
from tunewise.evidence.judge_trust import judge_trust
from tunewise.evidence.metrics.prepared import score_of
from tunewise.evidence.records import Score
from tunewise.models.asking import ask_in_order
from tunewise.models.door import Answer, Door, Request
from tunewise.models.open import open_door
from tunewise.scoring.rows import OutputRow
from tunewise.scoring.score import WholeFileScores
from tunewise.scoring.settings import ScoreSettings


def score_judged(rows: Sequence[OutputRow], settings: ScoreSettings) -> WholeFileScores:
    """A verdict for each output, and whether people's labels give reason to trust the judge.

    The judge is the task's. Raises SettingError without one, and for one whose calls cost money: ``decide``
    keeps a budget and a record of calls, ``score`` does not.
    """
    spec = settings.task.judge if settings.task is not None else None
    if spec is None:
        raise SettingError("metric judge: name a task file with a 'judge' section: --task TASK")
    door = open_door(spec.model)
    if door.host is not None and door.price is not None:
        raise SettingError(
            f"the calls to judge {door.name} cost money, and score keeps no budget; use tunewise decide, or a"
            " judge without a price"
        )
    if blind := [row.line for row in rows if row.state == "answered" and not row.input]:
        raise DataError(
            f"{len(blind)} rows have no 'input' (the first: line {blind[0]}): a judge grades an answer to a "
            "question; add the inputs"
        )
    rubric = read_rubric(spec.rubric)
    judge = Judge(rubric, door, _ask, spec.max_new_tokens, spec.show_reference)
    answered = [place for place, row in enumerate(rows) if row.state == "answered"]
    said = judge.read([_item(rows[place]) for place in answered])
    found = dict(zip(answered, map(score_of, said), strict=True))
    figures: dict[str, Any] = {"prompt_hash": rubric.fingerprint, "judge": door.name}
    if spec.labels is None:
        figures |= {
            "trusted": False,
            "trusted_why": "no answers labelled by people are given under judge.labels",
        }
    else:
        trust = judge_trust(judge, read_labels(spec.labels, rubric))
        agreed = trust.agreement
        figures |= {
            "trusted": trust.trusted,
            "labels": agreed.n,
            "agreement": agreed.raw,
            "kappa": agreed.kappa,
        }
        figures |= {"kappa_low_90": agreed.kappa_low, "gwet_ac1": agreed.ac1}
        figures |= {f"changed_by_{name}": probe.changed for name, probe in trust.probes.items()}
        if trust.reasons:
            figures["trusted_why"] = "; ".join(trust.reasons)
    return WholeFileScores(tuple(found.get(n) or _failed(row) for n, row in enumerate(rows)), figures)


def _item(row: OutputRow) -> Item:
    return Item(row.input, row.output, reference_text(row.references[0]) if row.references else None)


def _failed(row: OutputRow) -> Score:
    if row.state == "refused":
        return Score("refused", 0.0, {"why": "the model refused to answer"})
    return Score("errored", None, {"why": row.error or "the call failed"})


def _ask(door: Door, requests: Sequence[Request]) -> list[Answer]:
    """All answers, in order, as many at once as the door takes."""
    return list(ask_in_order(door, requests))
