"""After the climb, beside the decision: times, figures with a grammar, the teacher. Nothing here may lose it.

The decision is on disk before; a budget or a door that ends one of these leaves it without that figure, with
the reason told, and the same command tries again what is missing.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tunewise.distillation import compare_with_teacher, in_words
from tunewise.errors import BudgetEnded, DoorError
from tunewise.probing import sample_times
from tunewise.rungs.constrained import Constrained, constrained_beside
from tunewise.rungs.distilled import Distilled
from tunewise.rungs.grammars import grammar_of

if TYPE_CHECKING:
    from tunewise.run import Run


def ask_after(run: "Run", sampled: Sequence[str]) -> bool:
    """Ask all of it, and say whether that changed what stands in a decision. sampled: rungs to be timed."""
    before, calls = list(run.results), run.store.spent().calls
    sample(run, sampled)
    hold_to_grammar(run)
    ask_teacher(run)
    return run.results != before or run.store.spent().calls != calls


def sample(run: "Run", rungs: Sequence[str]) -> None:
    """Times of unbatched calls of these rungs, where they were measured and have none yet."""
    concurrency = run.task.limits.concurrency if run.task.limits is not None else 1
    for place, result in enumerate(run.results):
        if result.rung in rungs and result.probe is None and result.evidence is not None:
            candidate = run.candidates[result.rung]
            try:
                probe = sample_times(run.store, run.runner, candidate, run.order, concurrency)
            except (BudgetEnded, DoorError) as end:
                run.progress.tell("note", text=f"times of {result.rung} were not sampled: {end}")
                return
            run.results[place] = replace(result, probe=probe)


def hold_to_grammar(run: "Run") -> None:
    """The constrained figure beside the raw one of every measured rung; no candidate."""
    bench = run.bench([])
    if grammar_of(bench) is None:
        return
    for place, result in enumerate(run.results):
        if result.evidence is None:
            continue
        candidate = run.candidates[result.rung]
        if result.rung == Constrained.name:  # measured when built, against the prompt it stands on
            run.results[place] = replace(result, constrained=candidate.facts()["beside"])
            continue
        own = replace(bench, ask=partial(run.ask_for, result.rung))
        run.progress.tell("note", text=f"{result.rung} with a grammar, on selection items")
        try:
            figures = constrained_beside(own, candidate)
        except BudgetEnded as end:
            figures = {"skipped_because": str(end)}
        except DoorError as error:
            figures = {"skipped_because": str(error)}
            run.refusals[candidate.door.fingerprint] = str(error)  # no door is waited for twice
        if why := figures.get("skipped_because"):
            run.progress.tell("note", text=f"{result.rung} was not measured with a grammar: {why}")
        run.results[place] = replace(result, constrained=figures)


def ask_teacher(run: "Run") -> None:
    """What the rung ``distilled`` keeps of its teacher's quality; no candidate."""
    found = compare_with_teacher(run)
    if found is None:
        return
    run.progress.tell("note", text=in_words(found))
    run.results = [
        replace(result, teacher=found) if result.rung == Distilled.name else result for result in run.results
    ]
