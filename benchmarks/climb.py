"""What deciding costs and how often it is wrong: simulated ladders through tunewise's own climb and test.

    python benchmarks/climb.py [--ladders 10000] [--seed 7]

Each simulated ladder has rungs of known true quality; an answer of a rung of quality p is right with
chance p, items are shared and correlated between rungs (0.5 on the latent scale), target 0.90 within 2
points. ``tunewise.ladder.climb`` climbs it and ``make_test``'s test reads the answers with the budgets
that a run would have; nothing of the rule is repeated here.

Columns, in per cent of ladders unless said otherwise:

false meets    the choice is truly more than 2 points below the target
wrong claim    something said is false by more than 2 points: a false meets, or "falls short" of a rung
               that is truly at least 2 points above the target
wrong pick     a false meets, or a lighter rung at least 2 points above the target was passed over,
               also where it was only "not proved" and is listed as maybe enough (with "none" as choice too)
by estimate    the same, if the reader takes a "not proved" rung whose estimate reaches the target as enough
exact          the choice is the lightest rung with p >= target (none where there is none)
maybe          no choice, and at least one rung is listed as maybe enough
calls          mean model calls per ladder on certification items
fewer          calls of evaluating every rung on 1,000 items over ``calls``, and on ``cap`` items
cost           the same weighted with the rungs' relative costs 1, 2, 3, 50, 200, 220, against 1,000 items
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from tunewise.evidence.judgement import Test, allowance, make_test
from tunewise.evidence.records import Evidence
from tunewise.ladder import climb

TARGET, TOLERANCE = 0.90, 0.02
COSTS = (1, 2, 3, 50, 200, 220)
CORRELATION = 0.5
CHUNK = 250  # ladders drawn at once

# Mean and spread (in logits) of the lightest rung, then of each step up.
PRIORS = {
    "mixed": ((0.75, 1.0), ((0.30, 0.30), (0.40, 0.50), (0.30, 0.40), (0.30, 0.40), (0.30, 0.30))),
    "hard": ((0.55, 0.8), ((0.25, 0.30), (0.35, 0.45), (0.45, 0.50), (0.40, 0.50), (0.40, 0.40))),
    "easy": ((0.85, 0.8), ((0.25, 0.30), (0.25, 0.40), (0.25, 0.30), (0.25, 0.30), (0.20, 0.30))),
    "near the target": ((0.88, 0.25), ((0.04, 0.10),) * 5),
}


@dataclass(frozen=True)
class Setting:
    """One row of the table. prior: a name of PRIORS, or "worst": every rung at the edge of the zone."""

    prior: str
    rungs: int = 6
    cap: int = 1000
    opening: int = 1
    on_not_proved: Literal["climb", "stop"] = "climb"

    def test(self) -> Test:
        return make_test(
            "binary",
            target=TARGET,
            tolerance=TOLERANCE,
            alpha_meets=allowance(self.rungs, self.opening),
            items=self.cap,
        )


@dataclass(frozen=True)
class SimulatedRung:
    """A rung whose answers are drawn already: right or wrong on each item, in certification order."""

    name: str
    right: NDArray[np.float64]


@dataclass(frozen=True)
class Ending:
    """How one ladder ended: the place of the choice (None: none), and of what a reader of estimates takes."""

    choice: int | None
    by_estimate: int | None
    verdicts: tuple[str, ...]  # of the rungs that were measured
    items: tuple[int, ...]


def qualities(prior: str, rungs: int, ladders: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """True quality of every rung of every ladder, (ladders, rungs)."""
    if prior == "worst":
        return np.full((ladders, rungs), TARGET - TOLERANCE)
    (start, spread), steps = PRIORS[prior]
    first = logit(start) + spread * rng.standard_normal((ladders, 1))
    ups = [mean + deviation * rng.standard_normal((ladders, 1)) for mean, deviation in steps]
    return np.clip(expit(np.cumsum(np.hstack([first, *ups]), axis=1)), 0.02, 0.998)[:, :rungs]


def answers(
    quality: NDArray[np.float64], items: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Per ladder, which rung is right on which item: (rungs, items) of 0 and 1."""
    for first in range(0, len(quality), CHUNK):
        part = quality[first : first + CHUNK]
        shared = rng.standard_normal((len(part), 1, items))
        own = rng.standard_normal((len(part), part.shape[1], items))
        latent = np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * own
        yield from (latent < ndtri(part)[:, :, None]).astype(np.float64)


def ending(setting: Setting, test: Test, right: NDArray[np.float64]) -> Ending:
    """Climb one simulated ladder."""

    def gather(rung: SimulatedRung, values: NDArray[np.float64]) -> Evidence:
        reading = test.read(values)  # type: ignore[arg-type]
        successes = int(values[: reading.n].sum())
        return Evidence(
            kind=test.kind,
            outcomes=(),
            verdict=reading.verdict or "not_proved",
            n=reading.n,
            estimate=successes / reading.n,
            low=None,
            high=None,
            successes=successes,
            alpha=test.alpha_meets,
        )

    steps = climb(
        [SimulatedRung(str(place), values) for place, values in enumerate(right)],
        cannot_help=lambda rung, done: None,
        build=lambda rung, done: rung.right,
        gather=gather,
        on_not_proved=setting.on_not_proved,
    )
    read = [step.evidence for step in steps if step.evidence is not None]
    meeting = [place for place, e in enumerate(read) if e.verdict == "meets"]
    taken = [
        place
        for place, e in enumerate(read)
        if e.verdict == "meets" or (e.verdict == "not_proved" and (e.estimate or 0.0) >= TARGET)
    ]
    return Ending(
        meeting[0] if meeting else None,
        taken[0] if taken else None,
        tuple(e.verdict for e in read),
        tuple(e.n for e in read),
    )


def rates(setting: Setting, ladders: int, seed: int) -> dict[str, float]:
    """Climb this many ladders and count; rates in [0, 1], calls and costs as means."""
    rng = np.random.default_rng(seed)
    quality = qualities(setting.prior, setting.rungs, ladders, rng)
    test = setting.test()
    counts: dict[str, list[float]] = {}
    for p, right in zip(quality, answers(quality, setting.cap, rng), strict=True):
        for name, value in marks(p, ending(setting, test, right)).items():
            counts.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in counts.items()}
    means["calls error"] = float(np.std(counts["calls"]) / np.sqrt(ladders))
    means["fewer"] = 1000 * setting.rungs / means["calls"]
    means["fewer than cap"] = setting.cap * setting.rungs / means["calls"]
    means["cost"] = 1000 * sum(COSTS[: setting.rungs]) / means["cost"]
    return means


def marks(p: NDArray[np.float64], end: Ending) -> dict[str, float]:
    """What went right and wrong on one ladder of true qualities p. The zone's lower edge counts as false
    only below it, its upper edge as passed over from it on."""
    measured = len(end.verdicts)
    good = [place for place in range(measured) if p[place] >= TARGET + TOLERANCE]
    enough = np.flatnonzero(p >= TARGET)
    lightest = int(enough[0]) if enough.size else None
    false_meets = below(p, end.choice)
    said_short = any(end.verdicts[place] == "falls_short" for place in good)
    return {
        "false meets": false_meets,
        "wrong claim": false_meets or said_short,
        "wrong pick": false_meets or passed_over(good, end.choice),
        "by estimate": below(p, end.by_estimate) or passed_over(good, end.by_estimate),
        "exact": end.choice == lightest,
        "maybe": end.choice is None and "not_proved" in end.verdicts,
        "any meets": end.choice is not None,
        "calls": sum(end.items),
        "cost": sum(n * cost for n, cost in zip(end.items, COSTS, strict=False)),
    }


def below(p: NDArray[np.float64], pick: int | None) -> bool:
    """Whether the picked rung is truly below the zone."""
    return pick is not None and bool(p[pick] < TARGET - TOLERANCE)


def passed_over(good: list[int], pick: int | None) -> bool:
    """Whether a rung truly above the zone is lighter than the pick (or nothing was picked)."""
    return any(pick is None or place < pick for place in good)


SETTINGS = (
    *(Setting(prior) for prior in PRIORS),
    Setting("mixed", on_not_proved="stop"),
    Setting("mixed", opening=2),
    Setting("mixed", opening=3),
    Setting("mixed", 5),
    *(Setting("mixed", 5, cap, 1, action) for cap in (500, 200) for action in ("climb", "stop")),  # type: ignore[arg-type]
)
WORST = (
    *(Setting("worst", opening=opening) for opening in (1, 2, 3)),
    Setting("worst", 5, 500),
    Setting("worst", 5, 200),
)
COLUMNS = ("false meets", "wrong claim", "wrong pick", "by estimate", "exact", "maybe")


def print_table(ladders: int, seed: int) -> dict[Setting, dict[str, float]]:
    """The main table, a row as soon as it is known."""
    print("| ladders | rungs | cap | opening | not proved | " + " | ".join(COLUMNS), end="")
    print(" | calls | fewer (vs cap) | cost |\n" + "|---" * (5 + len(COLUMNS) + 3) + "|")
    found = {}
    for setting in SETTINGS:
        found[setting] = row = rates(setting, ladders, seed)
        head = (
            f"{setting.prior} | {setting.rungs} | {setting.cap} | {setting.opening} | {setting.on_not_proved}"
        )
        figures = " | ".join(f"{100 * row[name]:.2f}" for name in COLUMNS)
        tail = f"{row['calls']:.0f} | {row['fewer']:.1f}x ({row['fewer than cap']:.1f}x) | {row['cost']:.1f}x"
        print(f"| {head} | {figures} | {tail} |", flush=True)
    return found


def print_worst(ladders: int, seed: int) -> dict[Setting, float]:
    """False meets where every rung is 2 points below the target: simulated, and the exact sum over rungs."""
    print("\nEvery rung truly 2 points below the target: any rung said to meet, per cent")
    print(
        "| rungs | cap | opening | simulated | standard error | exact, at most | calls |\n" + "|---" * 7 + "|"
    )
    bounds = {}
    for setting in WORST:
        row = rates(setting, ladders, seed)
        rate = row["any meets"]
        error = (rate * (1 - rate) / ladders) ** 0.5
        bounds[setting] = bound = setting.rungs * setting.test().fate(TARGET - TOLERANCE).meets  # type: ignore[attr-defined]
        head = f"{setting.rungs} | {setting.cap} | {setting.opening}"
        figures = f"{100 * rate:.2f} | {100 * error:.2f} | {100 * bound:.2f}"
        print(f"| {head} | {figures} | {row['calls']:.0f} |", flush=True)
    return bounds


def main() -> int:
    """Print the tables; exit code 1 where one of the promised bounds is passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ladders", type=int, default=10000, help="simulated ladders per row")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    started = time.monotonic()
    print(f"target {TARGET} within {TOLERANCE}, {chosen.ladders} ladders per row, seed {chosen.seed}\n")
    row = print_table(chosen.ladders, chosen.seed)[Setting("mixed")]
    worst = print_worst(chosen.ladders, chosen.seed)
    openings = sum(bound for setting, bound in worst.items() if (setting.rungs, setting.cap) == (6, 1000))
    promises = (
        ("wrong decisions at most 1 % (wrong claims)", row["wrong claim"], row["wrong claim"] <= 0.01),
        ("wrong decisions at most 1 % (by estimate)", row["by estimate"], row["by estimate"] <= 0.01),
        ("false meets at most 5 %, three openings together", openings, openings <= 0.05),
    )
    print("\nmixed ladders, six rungs, cap 1000, first opening:")
    for promise, figure, kept in promises:
        print(f"  {'kept  ' if kept else 'BROKEN'} {100 * figure:5.2f} %  {promise}")
    fewer = row["fewer"] >= 8
    error = row["fewer"] * row["calls error"] / row["calls"]
    said = f"{row['fewer']:5.2f} x  at least 8 x fewer calls (standard error {error:.2f})"
    print(f"  {'kept  ' if fewer else 'BROKEN'} {said}")
    print(f"  no bound {100 * row['wrong pick']:.2f} %  undecided rungs counted as passed over (wrong pick)")
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if fewer and all(kept for _, _, kept in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
