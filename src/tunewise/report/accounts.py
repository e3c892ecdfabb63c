"""What a run spent, read and ran on, in words: the last block of the page."""

from collections.abc import Mapping
from typing import Any

from tunewise.decision import Decision
from tunewise.report.further import how_often, usd_in_words


def accounts(decision: Decision) -> list[tuple[str, str]]:
    """Title and line of each account, in the page's order."""
    return [
        ("spent", spent_in_words(decision.spent)),
        ("data", data_in_words(decision.data)),
        ("model", ", ".join(hosts_in_words(decision.data))),
        ("openings", openings_in_words(decision.openings)),
        ("versions", ", ".join(f"{name} {version}" for name, version in decision.versions.items())),
        ("seed", str(decision.seed)),
        ("ended by", decision.ended_by),
    ]


def spent_in_words(spent: Mapping[str, Any]) -> str:
    """Tokens that no call reported and USD that nothing had are left out; a reserve makes USD a bound."""
    tokens = ((spent["tokens_in"], "tokens in"), (spent["tokens_out"], "tokens out"))
    said = [f"{spent['calls']:,} calls"]
    said += [f"{count:,} {name}" for count, name in tokens if count is not None]
    said.append(f"{spent['seconds']:,.0f} s")
    usd = usd_in_words(spent)
    return ", ".join([*said, usd] if usd else said)


def data_in_words(data: Mapping[str, Any]) -> str:
    """Rows of the three parts, and the form they were read in."""
    return (
        f"{data['train']} train, {data['selection']} selection and {data['certification']} certification "
        f"items, read as {data['format']}"
    )


def hosts_in_words(data: Mapping[str, Any]) -> list[str]:
    """Where each role answered."""
    said = []
    for role, host in data["hosts"].items():
        name = data["model"] if role == "model" else f"the {role}"
        said.append(f"{name} {'on this machine' if host is None else 'at ' + host}")
    return said


def openings_in_words(openings: Mapping[str, Any]) -> str:
    """How often the certification items were looked at, and the budget that is left to each rung for it."""
    number, fresh = openings["number"], openings["fresh"]
    opened = f"opened {how_often(number)}, {fresh} of them for the first time"
    if openings.get("opened") is False:  # no door answered an item in this run
        opened = "not opened" if number == 0 else f"not opened by this run, before it {how_often(number)}"
    budget = openings["alpha_per_rung"]
    return f"certification rows {opened}; the false-meets budget of each rung is {budget:.4g}"
