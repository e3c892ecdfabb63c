"""Time and money of rungs that answer from weights of their own, beside a model that is somewhere else."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tunewise.errors import TunewiseError
from tunewise.plan_rungs import PlannedRung, in_minutes, money_range

if TYPE_CHECKING:
    from tunewise.api import Opened

NO_RATE = "no price (tune.usd_per_hour)"


def answers_apart(opened: "Opened") -> bool:
    """Whether trained rungs answer from other weights than the model that is prompted."""
    task = opened.task
    trained = task.tune.model if task.tune is not None else None
    return not isinstance(task.model, str) or trained not in (None, task.model)


def with_own_weights(opened: "Opened", planned: PlannedRung) -> PlannedRung:
    """A trained rung with time and money of the weights that it trains, in place of the prompted model's.

    Where that is the prompted model and its speed was measured, the time stands; else it is estimated.
    """
    rate = opened.task.tune.usd_per_hour if opened.task.tune is not None else None
    if not answers_apart(opened):
        if rate is None:
            return planned
        if planned.seconds_low is not None and planned.seconds_high is not None:
            low, high = (seconds / 3600 * rate for seconds in (planned.seconds_low, planned.seconds_high))
            return replace(planned, usd_low=low, usd_high=high, money=money_range(low, high))
    return on_paper(opened, planned)


def on_paper(opened: "Opened", planned: PlannedRung) -> PlannedRung:
    """The rung with the time of training and answering that ``estimation`` gives for this machine.

    Money: those hours at ``tune.usd_per_hour``. What cannot be estimated is absent with the reason.
    """
    # imported here: the forecast is made from plans
    from tunewise.forecast import on_this_machine

    try:
        found = on_this_machine(opened, planned)
    except TunewiseError as error:
        why = f"not estimated: {error}"
        return replace(planned, time_why=why, money="not known")
    if found.seconds is None:
        return replace(planned, time_why="not estimated", money="not known")
    timed = replace(
        planned,
        seconds_low=found.seconds[0],
        seconds_high=found.seconds[1],
        time=in_minutes(*found.seconds),
        time_why="",
        money=NO_RATE,
    )
    if found.usd is None:
        return timed
    low, high = found.usd
    return replace(timed, usd_low=low, usd_high=high, money=money_range(low, high))
