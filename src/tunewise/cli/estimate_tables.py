"""The estimate for people: what it takes, where it fits, what it costs.

Printed without rich, whose tables would take a fifth of the whole command's time.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
VERDICT_STYLE = {"fits": "green", "tight": "yellow", "no": "red"}
SIDES = ("low", "expected", "high")
RECOMPUTE = {"full": "checkpointing", "selective": "selective checkpointing", "none": "no checkpointing"}
FEW_GPUS = (
    "T4",
    "RTX 3090",
    "RTX 4090",
    "L4",
    "A10G",
    "L40S",
    "A100 40GB",
    "A100 80GB",
    "H100",
    "H200",
    "MI300X",
)


def print_estimate(found: dict[str, Any], all_gpus: bool = False) -> None:
    """All of it on one page; ``all_gpus`` lists the whole catalogue."""
    _head(found)
    _memory(found)
    _rest(found)
    _gpus(found, all_gpus)
    _serving(found)
    rule = found["rule_of_thumb"]
    head = f"Rule of thumb ({rule['formula']}): {rule['gib']:.1f} GiB, {rule['gpu']}; "
    _say(head + "; ".join(rule["errs"]) + ".", "dim")
    _measured(found)
    for warning in found["warnings"]:
        _say(f"Warning: {warning}", "yellow")


def _say(text: str, style: str | None = None) -> None:
    print(text if style is None else styled(text, style))


def styled(text: str, style: str) -> str:
    """The text in a style where standard output is a terminal that wants one."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{STYLES[style]}m{text}\033[0m"


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int],
    styles: Sequence[dict[int, str]],
) -> None:
    """Aligned columns; the last one is wrapped to the terminal. styles: per row, a style by column."""
    count = len(headings)
    widths = [max(len(row[at]) for row in (headings, *rows)) for at in range(count - 1)]
    room = max(24, shutil.get_terminal_size((100, 24)).columns - sum(widths) - 2 * (count - 1))
    for row, style in zip((headings, *rows), ({}, *styles), strict=True):
        cells = [
            row[at].rjust(width) if at in right else row[at].ljust(width) for at, width in enumerate(widths)
        ]
        last = textwrap.wrap(row[-1], room) or [""]
        if count - 1 in right:
            last = [last[0].rjust(max(len(one[-1]) for one in (headings, *rows)))]
        shown = [
            styled(cell, style[at]) if at in style else cell for at, cell in enumerate([*cells, last[0]])
        ]
        print("  ".join(shown).rstrip())
        indent = " " * (sum(widths) + 2 * (count - 1))
        for line in last[1:]:
            print(indent + line)


def _head(found: dict[str, Any]) -> None:
    model, setup, lengths = found["model"], found["setup"], found["lengths"]
    exact = "" if model["exact"] else " (estimated)"
    adapter = ""
    if found["method"] != "full":
        adapter = f", rank {setup['lora_rank']} on {', '.join(setup['lora_targets'])}"
    _say(
        f"{styled(model['name'], 'bold')}, {found['method']}: {model['parameters']:,} parameters{exact}, "
        f"{found['trainable_params']:,} trained{adapter}."
    )
    shown = f"{lengths['longest']:,} tokens"
    if lengths["p50"] != lengths["longest"]:
        shown = f"rows of {lengths['p50']:,} (median) to {lengths['longest']:,} tokens, {lengths['counted']},"
    several = f", {setup['gpus']} GPUs ({setup['sharding']})" if setup["gpus"] > 1 else ""
    _say(
        f"{shown} x {setup['micro_batch']}, accumulation {setup['accumulation']}; weights "
        f"{setup['weight_dtype']}, {setup['optimizer']}, {RECOMPUTE[setup['checkpointing']]}, "
        f"{setup['attention']} attention, {setup['cross_entropy']} cross-entropy, "
        f"stack {setup['stack']}{several}.\n",
        "dim",
    )


def _memory(found: dict[str, Any]) -> None:
    memory = found["memory"]
    on_cpu = found["gpu"] is not None and found["gpu"]["gpu"] == "cpu"
    names = {
        "allocated_gib": "training: tensors" if on_cpu else "training: allocated",
        "reserved_gib": "training: reserved by the allocator",
        "device_gib": "training: the process, about" if on_cpu else "training: as nvidia-smi shows it",
        "evaluation_gib": "evaluation during training",
        "resume_gib": "resuming",
        "merge_gib": "merging the adapter",
    }
    if on_cpu:
        del names["reserved_gib"]
    rows, styles = [], []
    for key, name in names.items():
        if memory[key] is not None:
            rows.append([name, *(f"{memory[key][side]:.2f}" for side in SIDES)])
            styles.append(dict.fromkeys(range(4), "bold") if key == "allocated_gib" else {})
    title = "Memory, GiB" if on_cpu else "Memory of each GPU, GiB"
    print_table((title, *SIDES), rows, (1, 2, 3), styles)
    parts = [f"{_words(k)} {v:.2f}" for k, v in memory["parts_gib"].items() if v >= 0.005]
    _say(f"Parts: {', '.join(parts)}.")
    phases = [f"{name} {memory['phases_gib'][name]:.2f}" for name in ("loss", "backward", "step")]
    _say(f"Phases: {', '.join(phases)}; the peak is in {styled(memory['peak'], 'bold')}.\n")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _rest(found: dict[str, Any]) -> None:
    disk, time = found["disk_gib"], found["time"]
    what = "adapter" if found["method"] != "full" else "model"
    _say(
        f"Disk: {_size(disk['model'])} for the {what}, {_size(disk['checkpoint'])} a checkpoint, "
        f"{_size(disk['run'])} the whole run. Main memory: about {found['host_gib']:.1f} GiB."
    )
    if time is None:
        _say("Time: no GPU of the catalogue fits as it is, so there is none to time it on.\n")
        return
    number = f"{time['gpus']} x " if time["gpus"] > 1 else ""
    work = (
        "a million tokens" if time["rows"] is None else f"{time['rows']:,} rows x {time['epochs']:g} epochs"
    )
    low, expected, high = (time["seconds"][side] for side in SIDES)
    rate = time["tokens_per_second"]
    _say(
        f"Time on {number}{time['gpu']}: {_duration(expected)} ({_duration(low)} to {_duration(high)}) for "
        f"{work} at {rate['expected']:,.0f} tokens/s ({rate['low']:,.0f} to {rate['high']:,.0f})."
    )
    _say(f"  {time['utilisation']:.0%} of the peak used: {time['why']}.", "dim")
    _say(_money(time) + "\n")


def _money(time: dict[str, Any]) -> str:
    usd, price = time["usd"], time["usd_per_gpu_hour"]
    if usd is None:
        return f"Money: no price is known for {time['gpu']}; give --price USD per GPU-hour."
    source = ", ".join(part for part in (price["source"], price["date"]) if part)
    return (
        f"Money: {usd['expected']:.2f} USD ({usd['low']:.2f} to {usd['high']:.2f}) at "
        f"{price['expected']:.2f} ({price['low']:.2f} to {price['high']:.2f}) a GPU-hour; {source}."
    )


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _gpus(found: dict[str, Any], all_gpus: bool) -> None:
    named = found["gpu"]["gpu"] if found["gpu"] else None
    keep = {*FEW_GPUS, named, found["smallest_gpu"]}
    shown = [one for one in found["gpus"] if all_gpus or one["gpu"] in keep]
    if named == "cpu":
        shown = [found["gpu"]]
    rows, styles = [], []
    for one in shown:
        rate, usd = one.get("tokens_per_second"), one.get("usd")
        changes = " + ".join(change["said"] for change in one["changes"])
        if one["verdict"] != "fits" and not changes:
            changes = "no change known here makes it fit"
        row = [one["gpu"], f"{one['usable_gib']:.1f}", one["verdict"], f"{one['safe_gib']:.1f}"]
        row += [f"{rate['expected']:,.0f}" if rate else "", f"{usd['expected']:.2f}" if usd else ""]
        rows.append([*row, "; ".join(part for part in (changes, one["note"]) if part)])
        bold: dict[int, str] = {0: "bold"} if one["gpu"] == named else {}
        styles.append({**bold, 2: VERDICT_STYLE[one["verdict"]]})
    headings = ("Where it fits", "usable", "", "needs", "tokens/s", "USD", "what makes it fit")
    print_table(headings, rows, (1, 3, 4, 5), styles)
    if named != "cpu":
        smallest = found["smallest_gpu"] or "none of the catalogue"
        more = "" if all_gpus else " (--all-gpus lists all of them)"
        _say(f"Smallest GPU that fits, of those with a price: {styled(smallest, 'bold')}{more}.")
    print()


def _serving(found: dict[str, Any]) -> None:
    serve = found["inference"]
    _say(
        f"Serving: weights {serve['weights_gib']:.2f} GiB, KV cache {serve['kv_cache_gib']:.3f} GiB "
        f"({serve['kv_bytes_per_token'] / 1024:.0f} KiB a token), in all "
        f"{serve['total_gib']['expected']:.2f} GiB."
    )
    if serve["decode_seconds_per_token"] is not None:
        first, each = serve["prefill_seconds"], serve["decode_seconds_per_token"]
        _say(
            f"  First token after {1000 * first['low']:.0f} to {1000 * first['high']:.0f} ms, then "
            f"{1000 * each['low']:.1f} to {1000 * each['high']:.1f} ms a token."
        )
    many = serve["adapters"]
    if many is not None:
        line = (
            f"  {many['adapters']:.0f} adapters on one base: {many['one_base_gib']:.2f} GiB; "
            f"as merged models: {many['merged_models_gib']:.2f} GiB."
        )
        if "adapters_that_fit" in many:
            line += (
                f" The GPU holds {many['adapters_that_fit']:,.0f} adapters, or "
                f"{many['merged_models_that_fit']:,.0f} merged models."
            )
        _say(line)


def _measured(found: dict[str, Any]) -> None:
    """What a probe or earlier runs said."""
    probe = found.get("probe")
    if probe is not None:
        _say(
            f"Probe on {probe['device']}: {probe['measured_gib']:.3f} GiB measured, "
            f"{probe['estimated_gib']:.3f} estimated (x {probe['ratio']:.3f}); "
            f"{probe['tokens_per_second']:,.0f} tokens/s."
        )
        if probe["not_kept"]:
            _say(f"Warning: {probe['not_kept']}", "yellow")
    if found["calibration"]["said"]:
        _say(found["calibration"]["said"].capitalize() + ".")
