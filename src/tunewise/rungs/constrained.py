"""The best prompt rung so far, its answers held to a grammar while they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from tunewise.data import Example
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.records import Score
from tunewise.ladder import NotBuilt
from tunewise.models.door import Answer, Door, Grammar
from tunewise.rungs.grammars import breaks, grammar_of, no_grammar, not_enforced
from tunewise.rungs.prompt import PromptCandidate, layout_of
from tunewise.rungs.rung import Candidate, Outlook, Workbench
from tunewise.rungs.search import selection_items

PROMPT_RUNGS = ("zero-shot", "few-shot", "few-shot-nearest")
ITEMS = 48  # selection items on which the prompt rungs are compared, as in their own search
BESIDE = 30  # selection items for the constrained figure beside another rung's raw one
TIMED = 8  # selection items on which the cost of the grammar is timed: the same prompts in the same batch


class Constrained:
    """Takes the failures of form away, and nothing else; one candidate."""

    name = "constrained"

    def cannot_help(self, bench: Workbench) -> str | None:
        """A grammar must be possible at this door."""
        return no_grammar(bench, bench.door)

    def outlook(self, bench: Workbench) -> Outlook:
        """See Rung: the prompt rungs without a score, then the candidate itself."""
        items = min(ITEMS, len(bench.parts.selection))
        timed = 2 * min(TIMED, items) if bench.door.host is None else 0
        tried = int(bench.door.host is not None and items > 0)
        return Outlook(2 * items + timed + tried, shots=(0, min(10, len(bench.parts.train))))

    def build(self, bench: Workbench) -> PromptCandidate:
        """See Rung. The prompt rung with the highest selection score, ties to the lighter one.

        Raises NotBuilt, with its words, when an endpoint does not take the grammar.
        """
        grammar = grammar_of(bench)
        assert grammar is not None
        if (reason := refused(bench, _bare(bench).held_to(grammar), "selection")) is not None:
            raise NotBuilt(reason)
        items = selection_items(bench, ITEMS)
        bases = _bases(bench)
        raw = {name: _selection_score(bench, name, base, items) for name, base in bases.items()}
        best = max(bases, key=lambda name: -1.0 if (score := raw[name]) is None else score)
        base = bases[best]
        candidate = replace(base.held_to(grammar), rung=self.name)
        beside = figures_beside(bench, base, candidate, grammar, items)
        if bench.door.host is None and items:
            beside["tokens_per_second"] = timed(bench, base, candidate, items[:TIMED])
        return replace(
            candidate,
            built={
                **base.facts(),
                "prompt_of": best,
                "grammar": grammar.kind,
                "raw_selection_scores": raw,
                "selection_score": beside["constrained"],
                "selection_items": beside["n"],
                "tokens_per_second": beside["tokens_per_second"],
                "not_enforced": list(not_enforced(grammar, bench.door)),
                "notes": beside["notes"],
                "beside": beside,
            },
        )


def constrained_beside(bench: Workbench, candidate: Candidate) -> Mapping[str, Any]:
    """The constrained figure of another rung beside its raw one, on up to 30 selection items.

    ``{"skipped_because": reason}`` where no grammar can be made for the candidate's door.
    """
    if not isinstance(candidate, PromptCandidate):
        return {"skipped_because": "this rung's answers cannot be held to a grammar"}
    reason = no_grammar(bench, candidate.door)
    items = selection_items(bench, BESIDE)
    if reason is None and not items:
        reason = "there are no selection items"
    if reason is not None:
        return {"skipped_because": reason}
    grammar = grammar_of(bench)
    assert grammar is not None
    held = candidate.held_to(grammar)
    if (reason := refused(bench, held, "beside")) is not None:
        return {"skipped_because": reason}
    return figures_beside(bench, candidate, held, grammar, items, "beside")


def refused(bench: Workbench, held: PromptCandidate, purpose: str) -> str | None:
    """Why the door of ``held`` cannot be asked with its grammar; None where it can.

    An endpoint is asked once, weights on this machine never. What was found stands in ``bench.refusals`` for
    all rungs.
    """
    door = held.door
    if door.host is None:
        return None
    if door.fingerprint not in bench.refusals:
        requests = [held.request(item) for item in selection_items(bench, 1)]
        errors = [a.error for a in bench.ask(door, requests, purpose) if a.status == "errored"]
        if errors:
            bench.refusals[door.fingerprint] = f"{door.name} does not take response_format: {errors[0]}"
    return bench.refusals.get(door.fingerprint)


def figures_beside(
    bench: Workbench,
    raw: PromptCandidate,
    held: PromptCandidate,
    grammar: Grammar,
    items: Sequence[Example],
    purpose: str = "selection",
) -> dict[str, Any]:
    """Both candidates on the same items: mean of the metric, tokens per second, broken grammars, notes.

    raw, constrained: mean of the metric over the items that have a value, None without one.
    figures: the metric's further figures over the same items, since a form that is met says nothing of what
    stands in it. tokens_per_second: tokens written over seconds of the calls, as they were batched (raw ones
    may have been asked for a search, in other batches); None where unknown. broke_grammar: answers that
    came to their end and are not of the form they were to be held to.
    """
    asked = {
        "raw": bench.ask(raw.door, [raw.request(item) for item in items], purpose),
        "constrained": bench.ask(held.door, [held.request(item) for item in items], purpose),
    }
    broke = sum(breaks(grammar, answer) for answer in asked["constrained"])
    cut = sum(answer.finish == "length" for answer in asked["constrained"])
    summary = metric_of(bench.task).summary
    scores = {name: _scores(bench, items, answers) for name, answers in asked.items()}
    return {
        "n": len(items),
        **{name: _mean(scored) for name, scored in scores.items()},
        "figures": {name: dict(summary(scored)) if summary else {} for name, scored in scores.items()},
        "grammar": grammar.kind,
        "tokens_per_second": {name: _speed(answers) for name, answers in asked.items()},
        "broke_grammar": broke,
        "notes": _notes(held.door, broke, cut, len(items)),
    }


def timed(
    bench: Workbench, raw: PromptCandidate, held: PromptCandidate, items: Sequence[Example]
) -> dict[str, float | None]:
    """Tokens per second without and with the grammar: the same prompts, each time in one batch of their own.

    Local weights only: answers share a batch there, so that times of calls that were made for something
    else do not compare. Answers are one token shorter at most, so that they are asked anew.
    """
    answers = {}
    for name, candidate in (("raw", raw), ("constrained", held)):
        requests = [candidate.request(item) for item in items]
        most = max(1, requests[0].decoding.max_new_tokens - 1)
        shorter = replace(requests[0].decoding, max_new_tokens=most)
        anew = [replace(request, decoding=shorter) for request in requests]
        answers[name] = bench.ask(candidate.door, anew, "timing")
    return {name: _speed(said) for name, said in answers.items()}


def _bases(bench: Workbench) -> dict[str, PromptCandidate]:
    """The prompt rungs that were built, light to heavy; the bare prompt where none was."""
    found = {
        name: candidate
        for name in PROMPT_RUNGS
        if isinstance(candidate := bench.built.get(name), PromptCandidate)
    }
    return found or {"zero-shot": _bare(bench)}


def _bare(bench: Workbench) -> PromptCandidate:
    return PromptCandidate("zero-shot", bench.door, layout_of(bench), built={"k": 0})


def _selection_score(
    bench: Workbench, name: str, base: PromptCandidate, items: Sequence[Example]
) -> float | None:
    """What the rung's own search measured, or else the mean over the same selection items."""
    if name in bench.selected:
        return bench.selected[name]
    answers = bench.ask(base.door, [base.request(item) for item in items], "selection")
    return _mean(_scores(bench, items, answers))


def _scores(bench: Workbench, items: Sequence[Example], answers: Sequence[Answer]) -> list[Score]:
    return [bench.score(item, answer) for item, answer in zip(items, answers, strict=True)]


def _mean(scores: Sequence[Score]) -> float | None:
    known = [score.value for score in scores if score.value is not None]
    return fmean(known) if known else None


def _speed(answers: Sequence[Answer]) -> float | None:
    seconds = sum(answer.seconds for answer in answers)
    tokens = [answer.tokens_out for answer in answers]
    if not tokens or seconds <= 0 or any(count is None for count in tokens):
        return None
    return sum(count for count in tokens if count is not None) / seconds


def _notes(door: Door, broke: int, cut: int, n: int) -> list[str]:
    notes = []
    if broke and door.host is not None:
        notes.append(
            f"{door.name} took response_format and ignored it: {broke} of {n} answers break the grammar"
        )
    elif broke:
        notes.append(
            f"{broke} of {n} answers break the declared form: the grammar does not enforce all of it"
        )
    if cut:
        notes.append(f"{cut} of {n} answers were cut off at decoding.max_new_tokens, before their end")
    return notes
