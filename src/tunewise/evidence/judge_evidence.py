"""What a judge's verdicts prove of a candidate: only what people's labels allow."""

from collections.abc import Mapping, Sequence

from tunewise.evidence.judge_trust import Trust
from tunewise.evidence.judgement import ALPHA_SHORT
from tunewise.evidence.prediction_powered import (
    FEWEST_LABELS,
    Powered,
    more_labels,
    powered_mean,
    read_powered,
)
from tunewise.evidence.records import Evidence, Outcome


def judged_evidence(
    outcomes: Sequence[Outcome],
    people: Mapping[int, bool],
    trust: Trust | None,
    *,
    target: float,
    tolerance: float,
    alpha: float,
) -> Evidence:
    """Evidence at fixed n from judged outcomes and people's labels of some of them.

    people: what people say of the answer at a position. trust: None without any labels. Where the judge is
    not trusted, or fewer than 20 of these answers are labelled, the verdict is ``not_proved`` and estimate
    and bounds are None: the judge's own mean is told in the notes and proves nothing. Otherwise the
    estimate is prediction-powered; ``low`` at level 1 - alpha, ``high`` at 0.95; answers that errored
    count as wrong for ``low`` and as right for ``high``.
    """
    read = tuple(outcomes)
    notes = own_words(read)
    labelled = [o for o in read if o.position in people and o.value is not None]
    reason = why_not(trust, len(labelled))
    if reason is not None:
        notes.insert(0, f"the judge cannot decide: {reason}")
        return Evidence(
            "binary", read, "not_proved", len(read), None, None, None, None, alpha, None, tuple(notes)
        )
    if_wrong, if_right = powered(read, labelled, people, alpha)
    verdict = read_powered(if_wrong, target, tolerance)
    if read_powered(if_right, target, tolerance) != verdict:
        verdict = "not_proved"
    notes.insert(
        0,
        f"prediction-powered: {len(labelled)} answers labelled by people (mean {if_wrong.label_mean:.3f}),"
        f" {len(read) - len(labelled)} read by the judge alone, whose weight is {if_wrong.weight:.2f}",
    )
    more = more_labels(if_wrong, target, tolerance, alpha) if verdict == "not_proved" else None
    if more is not None:
        notes.append(f"about {more} more labelled answers of this rung would probably settle it")
    return Evidence(
        "binary",
        read,
        verdict,
        len(read),
        if_wrong.estimate,
        if_wrong.low,
        if_right.high,
        None,
        alpha,
        None,
        tuple(notes),
    )


def own_words(read: Sequence[Outcome]) -> list[str]:
    """What the judge's verdicts say by themselves, which proves nothing."""
    known = [o.value for o in read if o.value is not None]
    silent = sum("judge_unparseable" in o.detail and o.detail["judge_unparseable"] == 1 for o in read)
    notes = []
    if known:
        notes.append(f"the judge's own mean is {sum(known) / len(known):.3f} over {len(known)} answers")
    if silent:
        notes.append(f"{silent} of the judge's answers were not the asked JSON and count as wrong")
    return notes


def powered(
    read: Sequence[Outcome], labelled: Sequence[Outcome], people: Mapping[int, bool], alpha: float
) -> tuple[Powered, Powered]:
    """The prediction-powered mean with answers that errored counted as wrong, and as right."""
    said = [float(people[o.position]) for o in labelled]
    same = [o.value or 0.0 for o in labelled]
    positions = {o.position for o in labelled}
    rest = [o.value for o in read if o.position not in positions]

    def with_errors(counted_as: float) -> Powered:
        values = [counted_as if value is None else value for value in rest]
        return powered_mean(said, same, values, alpha_low=alpha, alpha_high=ALPHA_SHORT)

    return with_errors(0.0), with_errors(1.0)


def why_not(trust: Trust | None, labelled: int) -> str | None:
    """The reason why a judge cannot decide on a rung, None when it can. labelled: of the rung's answers."""
    if trust is None:
        return "no answers labelled by people are given under judge.labels"
    if not trust.trusted:
        return "it has not earned trust: " + "; ".join(trust.reasons)
    if labelled < FEWEST_LABELS:
        return f"{labelled} of this rung's answers are labelled by people; it takes {FEWEST_LABELS}"
    return None
