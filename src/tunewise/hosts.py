"""Every door that a run asks, where it sends what it is asked, and whether its calls cost money."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewise.errors import SettingError
from tunewise.models.door import Door
from tunewise.task import Task

if TYPE_CHECKING:
    from tunewise.api import Opened

DISTILLED = "distilled"  # the rung that asks a teacher
JUDGED = "inputs and every rung's answers"
KEY_OF_PRICE = {
    "model": "model.usd_per_million",
    "judge": "judge.model.usd_per_million",
    "teacher": "teacher.model.usd_per_million",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A door and what a run asks it for: ``model``, ``judge`` or ``teacher``; what it is sent, in words."""

    role: str
    door: Door
    sends: str = "prompts, and with them your rows and documents,"

    @property
    def costs(self) -> bool:
        """Whether its calls leave for a host and have a price."""
        return self.door.host is not None and self.door.price is not None


def doors_asked(opened: "Opened", in_play: Collection[str]) -> tuple[Asked, ...]:
    """The doors that the rungs in play ask; tuned rungs answer from weights on this machine.

    A judge is asked by its own metric alone, a teacher by ``distilled``.
    """
    found = [Asked("model", opened.door)]
    if opened.task.metric == "judge" and opened.judge_door is not None:
        shown = opened.task.judge is not None and opened.task.judge.show_reference
        sends = "inputs, right answers and every rung's answers" if shown else JUDGED
        found.append(Asked("judge", opened.judge_door, sends))
    if opened.teacher_door is not None and DISTILLED in in_play:
        found.append(Asked("teacher", opened.teacher_door))
    return tuple(found)


def hosts_of(asked: tuple[Asked, ...]) -> dict[str, str | None]:
    """The host of each role; None where it answers on this machine."""
    return {one.role: one.door.host for one in asked}


def where_all(asked: tuple[Asked, ...]) -> str:
    """Where the data of a run goes, over all doors that it asks, in words."""
    away = [one for one in asked if one.door.host is not None]
    if not away:
        return "nothing leaves this machine"
    said = [
        where(one.door.host) if one.role == "model" else f"the {one.role}: {sent_to(one)}" for one in away
    ]
    if away[0].role != "model":
        said.insert(0, "the model's prompts stay on this machine")
    return "; ".join(said)


def where(host: str | None) -> str:
    """Where prompts, and with them rows of the data, are sent."""
    if host is None:
        return "nothing leaves this machine"
    if on_this_machine(host):
        return f"prompts go to {host} on this machine"
    return f"prompts, and with them your rows and documents, go to {host}"


def sent_to(asked: Asked) -> str:
    """What a judge or a teacher is sent, and where to."""
    host = asked.door.host
    if host is None:
        return "nothing leaves this machine"
    return f"{asked.sends} go to {host}" + (" on this machine" if on_this_machine(host) else "")


def on_this_machine(host: str) -> bool:
    """Whether a host is this machine by its name."""
    return host.split(":")[0] in ("127.0.0.1", "localhost") or host.startswith("[::1]")


def refuse_unpriced_cap(asked: tuple[Asked, ...], cap: float | None) -> None:
    """Raise SettingError for a cap below 0, and where a host that is asked has no price to keep it by."""
    if cap is None:
        return
    if not cap >= 0:
        raise SettingError(f"max_usd: at least 0 USD was expected, got {cap}")
    for one in asked:
        if one.door.host is not None and one.door.price is None:
            raise SettingError(
                f"a cap of {cap} USD cannot be kept: {one.role} {one.door.name} at {one.door.host} has no"
                f" price; give {KEY_OF_PRICE[one.role]} (0 where it is free) or drop the cap"
            )


def priced_hosts(asked: tuple[Asked, ...]) -> list[str]:
    """The hosts whose calls cost money, each once, with what they are asked as."""
    roles: dict[str, list[str]] = {}
    for one in asked:
        if one.costs and one.door.host is not None:
            roles.setdefault(one.door.host, []).append(one.role)
    return [f"{host} ({', '.join(names)})" for host, names in roles.items()]


def money_cap(task: Task, max_usd: float | None) -> float | None:
    """The lower of the caps that were given, in USD; None without one."""
    caps = [max_usd, task.budget.usd if task.budget is not None else None]
    return min((cap for cap in caps if cap is not None), default=None)
