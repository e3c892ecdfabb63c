"""Error rates of the forgetting guard's test, by simulation through the product's own code.

    python benchmarks/guard.py [--items 3000] [--runs 4000] [--base 0.6] [--churn 0.03] [--seed 1]

Items: the base has a share ``base`` right; a tuned model newly gets ``churn`` right and loses churn + drop *
base. Checkpoints of a run change other items each (``apart``) or the same ones (``alike``): how much they
have in common is not known, and the promise holds either way. Exit code 1 where a run with a true drop of
exactly 5 % at all four checkpoints is stopped in more than 5 % of cases, or one of 10 % at two successive
checkpoints is caught in less than 95 %, beyond three standard errors of the simulation. Seconds on one core:
about 20.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tunewise.benchmarks.guard_test import GuardTest

Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
LIMIT = 0.05


def drawn(rng: np.random.Generator, n: int, base: float, churn: float, drop: float) -> Pair:
    """Outcomes of base and tuned model on n items."""
    draw = rng.random(n)
    right = (draw < base).astype(np.int64)
    lost = draw < drop * base + churn
    gained = (draw >= base) & (draw < base + churn)
    return right, np.where(lost, 0, np.where(gained, 1, right))


def run(test: GuardTest, draws: list[Callable[[], Pair]], alike: bool) -> tuple[bool, list[str], int]:
    """One run: alarm or not, the outcomes, and items read. It ends at the first alarm."""
    outcomes: list[str] = []
    read = 0
    pair = draws[0]()
    for number, draw in enumerate(draws):
        pair = pair if alike and number else draw()
        reading = test.read(*pair)
        outcomes.append(reading.outcome or "")
        read += reading.n
        if reading.outcome == "alarm":
            return True, outcomes, read
    return False, outcomes, read


def main() -> int:
    parser = argparse.ArgumentParser(description="Error rates of the guard's test.")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--base", type=float, default=0.6)
    parser.add_argument("--churn", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    test = GuardTest(items=options.items)
    visible = test.smallest_visible_drop(options.base, options.churn)
    print(
        f"{options.items} items, base {options.base}, churn {options.churn}, {options.runs} runs of each kind"
    )
    print(f"smallest drop seen at one checkpoint (90 %): {visible:.1%}\n" if visible else "no drop is seen\n")
    print(
        "| true drop | checkpoints | they change | stopped | first checkpoint clear | items per checkpoint |"
    )
    print("|---|---|---|---|---|---|")
    holds = True
    for drop, checkpoints in ((0.0, 4), (0.02, 4), (0.05, 4), (0.08, 2), (0.10, 2), (0.15, 1), (0.20, 1)):
        for alike in (False, True) if checkpoints > 1 else (False,):
            stopped = clear = items = seen = 0
            draws = [lambda d=drop: drawn(rng, options.items, options.base, options.churn, d)] * checkpoints
            for _ in range(options.runs):
                alarm, outcomes, read = run(test, draws, alike)
                stopped += alarm
                clear += outcomes[0] == "clear"
                items += read
                seen += len(outcomes)
            share = stopped / options.runs
            print(
                f"| {drop:.0%} | {checkpoints} | {'alike' if alike else 'apart'} | {share:.2%} "
                f"| {clear / options.runs:.1%} | {items / seen:.0f} |"
            )
            error = 3 * (0.05 * 0.95 / options.runs) ** 0.5
            if drop == LIMIT:
                holds &= share <= 0.05 + error
            if drop == 0.10:
                holds &= share >= 0.95 - error
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
