"""What the forgetting guard found, for people: one line per tuned rung, then timeline, benchmarks, repair."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tunewise.guard_words import kept_in_words, on_b_in_words


def print_guard(console: Console, decision: dict[str, Any]) -> None:
    """The guard of every tuned rung; nothing where none was trained."""
    for rung in decision["rungs"]:
        if (guard := rung.get("guard")) is not None:
            print_rung(console, rung["rung"], guard)


def print_rung(console: Console, name: str, guard: dict[str, Any]) -> None:
    """The guard of one training run: verdict, budget, timeline, benchmarks, repair, symptoms, advice."""
    verdict, why = guard["verdict"].replace("_", " "), escape(guard["why"])
    if guard["verdict"] == "off":
        console.print(
            f"\nForgetting guard of {name}: off, general ability was not measured: {why}", soft_wrap=True
        )
        return
    console.print(f"\nForgetting guard of {name}: {verdict}: {why}", soft_wrap=True)
    if "repair" in guard:
        said = kept_in_words(guard)
        console.print(f"{said[0].upper()}{said[1:]}.", soft_wrap=True)
    if guard.get("off"):
        console.print(escape(f"It was not read while training: {guard['off']}"), soft_wrap=True, style="dim")
    else:
        console.print(escape(budget_in_words(guard)), soft_wrap=True, style="dim")
        console.print(timeline_table(guard))
    alarm = next((entry for entry in guard["timeline"] if entry["outcome"] == "alarm"), None)
    if alarm is not None and alarm.get("benchmarks"):
        console.print(f"At the alarm (step {alarm['step']}), on set A:")
        console.print(benchmarks_table(alarm["benchmarks"]))
    if confirmation := guard.get("confirmation"):
        console.print(f"At full strength, on fresh items: {on_set_b(confirmation)}.", soft_wrap=True)
    if (check := guard.get("check")) and not check.get("benchmarks"):
        console.print(f"What is handed over, on fresh items: {on_set_b(check)}.", soft_wrap=True)
    if (check := guard.get("check")) and check.get("benchmarks"):
        console.print(f"What is handed over, against its base, {on_b_in_words(guard)}:", soft_wrap=True)
        console.print(benchmarks_table(check["benchmarks"]))
    if guard.get("repair"):
        console.print(repair_table(guard["repair"]))
    console.print(symptoms_in_words("Symptoms", guard["symptoms"]), soft_wrap=True, markup=False)
    if guard.get("stopped_symptoms"):
        said = symptoms_in_words("Symptoms at full strength", guard["stopped_symptoms"])
        console.print(said, soft_wrap=True, markup=False)
    for line in guard["advice"]:
        console.print(f"- {escape(line)}", soft_wrap=True)


def on_set_b(reading: dict[str, Any]) -> str:
    """A reading of fresh items, which chose nothing; why there is none."""
    if reading["outcome"] is None:
        return f"set B was not read, {reading['why']}"
    outcome = reading["outcome"].replace("_", " ")
    between = f"{percent(reading['low'])} to {percent(reading['high'])}"
    return f"set B: {outcome}, pooled drop {percent(reading['drop'])} ({between}, {reading['n']} items)"


def symptoms_in_words(what: str, found: dict[str, Any]) -> str:
    """Which signs fire, each with base and tuned."""
    fired = [
        f"{sign['name'].replace('_', ' ')} {sign['base']:.2f} -> {sign['tuned']:.2f}"
        for sign in found["signs"]
        if sign["fires"]
    ]
    if found["why"]:
        also = f"; on running text: {', '.join(fired) or 'none'}" if found["signs"] else ""
        return f"{what}: not looked for in answers, {found['why']}{also}"
    return f"{what} on {found['prompts']} general prompts: {', '.join(fired) or 'none'}."


def budget_in_words(guard: dict[str, Any]) -> str:
    """Items, checkpoints, what can be seen and what it took."""
    seen = guard["smallest_visible_drop"]
    can = "no drop" if seen is None else f"a true drop of {100 * seen:.1f} %"
    share = "" if guard["share"] is None else f", {100 * guard['share']:.1f} % of the training time"
    allowed = "no budget" if guard["time_share"] is None else f"budget {100 * guard['time_share']:g} %"
    seconds = guard["seconds"]
    return (
        f"{guard['items']} items of {', '.join(guard['used'])} at {guard['checkpoints']} checkpoints show "
        f"{can} in nine of ten cases; readings took {seconds['checkpoints']:.1f} s{share} ({allowed}); "
        f"the base {seconds['base']:.1f} s, what came after training {seconds.get('after', 0.0):.1f} s"
    )


def timeline_table(guard: dict[str, Any]) -> Table:
    """One row per checkpoint."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("step", "epoch", "guard", "pooled drop", "between", "items", "right choice lost"):
        table.add_column(heading, no_wrap=True)
    for entry in guard["timeline"]:
        early = entry["early"]
        table.add_row(
            f"{entry['step']}{' kept' if entry['step'] == guard['kept']['step'] else ''}",
            f"{entry['epoch']:.2f}",
            str(entry["outcome"]).replace("_", " "),
            percent(entry["drop"]),
            f"{percent(entry['low'])} to {percent(entry['high'])}",
            str(entry["n"]),
            "?" if early["estimate"] is None else f"{early['estimate']:.3f}{' !' if early['warns'] else ''}",
        )
    return table


def benchmarks_table(rows: list[dict[str, Any]]) -> Table:
    """One row per benchmark."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("benchmark", "base", "tuned", "relative drop", "between", "items"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        relative = row["relative"]
        table.add_row(
            row["name"],
            f"{row['first']:.3f}",
            f"{row['second']:.3f}",
            percent(relative["estimate"]),
            f"{percent(relative['low'])} to {percent(relative['high'])}",
            str(row["n"]),
        )
    return table


def repair_table(rows: list[dict[str, Any]]) -> Table:
    """The curve of scales."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title="Repair", title_justify="left")
    for heading in ("strength", "selection", "guard", "drop on set A", "between"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        score = row["selection_score"]
        table.add_row(
            f"{row['scale']:g}",
            "?" if score is None else f"{score:.3f}",
            str(row["outcome"]).replace("_", " "),
            percent(row.get("drop")),
            f"{percent(row.get('low'))} to {percent(row.get('high'))}",
        )
    return table


def percent(value: float | None) -> str:
    """One place, a question mark where undefined."""
    return "?" if value is None else f"{100 * value:.1f} %"
