"""The estimate for people: what it takes, where it fits, what it costs."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

VERDICTS = {"fits": "[green]fits[/green]", "tight": "[yellow]tight[/yellow]", "no": "[red]no[/red]"}
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
    console = Console()
    _head(console, found)
    _memory(console, found)
    _rest(console, found)
    _gpus(console, found, all_gpus)
    _serving(console, found)
    _rule(console, found)
    if found["calibration"]["said"]:
        console.print(escape(found["calibration"]["said"].capitalize()) + ".", soft_wrap=True)
    for warning in found["warnings"]:
        console.print(f"Warning: {escape(warning)}", style="yellow", soft_wrap=True)


def _head(console: Console, found: dict[str, Any]) -> None:
    model, setup = found["model"], found["setup"]
    exact = "" if model["exact"] else " (estimated)"
    adapter = ""
    if found["method"] != "full":
        adapter = f", rank {setup['lora_rank']} on {', '.join(setup['lora_targets'])}"
    console.print(
        f"[bold]{escape(model['name'])}[/bold], {found['method']}: {model['parameters']:,} parameters{exact}"
        f", {found['trainable_params']:,} trained{adapter}.",
        soft_wrap=True,
    )
    lengths = found["lengths"]
    shown = f"{lengths['longest']:,} tokens"
    if lengths["p50"] != lengths["longest"]:
        shown = f"rows of {lengths['p50']:,} to {lengths['longest']:,} tokens ({lengths['counted']})"
    recompute = {"full": "checkpointing", "selective": "selective checkpointing", "none": "no checkpointing"}
    several = f", {setup['gpus']} GPUs ({setup['sharding']})" if setup["gpus"] > 1 else ""
    console.print(
        f"{shown} x {setup['micro_batch']}, accumulation {setup['accumulation']}; weights "
        f"{setup['weight_dtype']}, {setup['optimizer']}, "
        f"{recompute[setup['checkpointing']]}, {setup['attention']} attention, "
        f"{setup['cross_entropy']} cross-entropy, stack {setup['stack']}{several}.",
        style="dim",
        soft_wrap=True,
    )
    console.print()


def _memory(console: Console, found: dict[str, Any]) -> None:
    memory = found["memory"]
    on_cpu = found["gpu"] is not None and found["gpu"]["gpu"] == "cpu"
    table = Table(box=None, pad_edge=False, title="Memory of each GPU, GiB", title_justify="left")
    if on_cpu:
        table.title = "Memory, GiB"
    for heading in ("", "low", "expected", "high"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    names = {
        "allocated_gib": "training: allocated" if not on_cpu else "training: tensors",
        "reserved_gib": "training: reserved by the allocator",
        "device_gib": "training: as nvidia-smi shows it" if not on_cpu else "training: the process, about",
        "evaluation_gib": "evaluation during training",
        "resume_gib": "resuming",
        "merge_gib": "merging the adapter",
    }
    for key, name in names.items():
        one = memory[key]
        if one is not None:
            bold = "bold" if key == "allocated_gib" else None
            table.add_row(name, *(f"{one[side]:.2f}" for side in ("low", "expected", "high")), style=bold)
    console.print(table)
    parts = ", ".join(
        f"{_words(name)} {value:.2f}" for name, value in memory["parts_gib"].items() if value >= 0.005
    )
    phases = ("loss", "backward", "step")
    said = ", ".join(
        f"[bold]{name} {memory['phases_gib'][name]:.2f}[/bold]"
        if name == memory["peak"]
        else f"{name} {memory['phases_gib'][name]:.2f}"
        for name in phases
        if name in memory["phases_gib"]
    )
    console.print(f"Parts: {escape(parts)}.", soft_wrap=True)
    console.print(f"Phases: {said}; the highest is the peak.\n", soft_wrap=True)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _rest(console: Console, found: dict[str, Any]) -> None:
    disk, time = found["disk_gib"], found["time"]
    console.print(
        f"Disk: {_size(disk['model'])} for the {'adapter' if found['method'] != 'full' else 'model'}, "
        f"{_size(disk['checkpoint'])} a checkpoint, {_size(disk['run'])} the whole run. "
        f"Main memory: about {found['host_gib']:.1f} GiB.",
        soft_wrap=True,
    )
    if time is None:
        console.print("Time: no GPU of the catalogue fits, so there is none to time it on.", soft_wrap=True)
        return
    number = f"{time['gpus']} x " if time["gpus"] > 1 else ""
    what = (
        "a million tokens" if time["rows"] is None else f"{time['rows']:,} rows x {time['epochs']:g} epochs"
    )
    seconds, rate = time["seconds"], time["tokens_per_second"]
    console.print(
        f"Time on {number}{time['gpu']}: {_duration(seconds['expected'])} ({_duration(seconds['low'])} to "
        f"{_duration(seconds['high'])}) for {what} at {rate['expected']:,.0f} tokens/s "
        f"({rate['low']:,.0f} to {rate['high']:,.0f}).",
        soft_wrap=True,
    )
    console.print(
        f"  {time['utilisation']:.0%} of the peak used: {escape(time['why'])}.", style="dim", soft_wrap=True
    )
    console.print(_money(time) + "\n", soft_wrap=True)


def _money(time: dict[str, Any]) -> str:
    usd, price = time["usd"], time["usd_per_gpu_hour"]
    if usd is None:
        return f"Money: no price is known for {time['gpu']}; give --price USD per GPU-hour."
    source = ", ".join(part for part in (price["source"], price["date"]) if part)
    return (
        f"Money: {usd['expected']:.2f} USD ({usd['low']:.2f} to {usd['high']:.2f}) at "
        f"{price['expected']:.2f} ({price['low']:.2f} to {price['high']:.2f}) a GPU-hour; {escape(source)}."
    )


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.1f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _gpus(console: Console, found: dict[str, Any], all_gpus: bool) -> None:
    named = found["gpu"]["gpu"] if found["gpu"] else None
    keep = {*FEW_GPUS, named, found["smallest_gpu"]}
    shown = [one for one in found["gpus"] if all_gpus or one["gpu"] in keep]
    if named == "cpu":
        shown = [found["gpu"]]
    table = Table(box=None, pad_edge=False, title="Where it fits", title_justify="left")
    for heading in ("GPU", "GiB", "", "tokens/s", "USD", "what makes it fit"):
        right = heading in ("GiB", "tokens/s", "USD")
        table.add_column(
            heading, justify="right" if right else "left", no_wrap=heading != "what makes it fit"
        )
    for one in shown:
        rate, usd = one.get("tokens_per_second"), one.get("usd")
        changes = " + ".join(change["said"] for change in one["changes"])
        if one["verdict"] != "fits" and not changes:
            changes = "nothing known here"
        table.add_row(
            one["gpu"],
            f"{one['usable_gib']:.0f}",
            VERDICTS[one["verdict"]],
            f"{rate['expected']:,.0f}" if rate else "",
            f"{usd['expected']:.2f}" if usd else "",
            escape("; ".join(part for part in (changes, one["note"]) if part)),
            style="bold" if one["gpu"] == named else None,
        )
    console.print(table)
    if named != "cpu":
        smallest = found["smallest_gpu"] or "none of the catalogue"
        more = "" if all_gpus else " --all-gpus lists every GPU."
        console.print(f"Smallest GPU that fits: [bold]{smallest}[/bold].{more}\n", soft_wrap=True)


def _serving(console: Console, found: dict[str, Any]) -> None:
    serve = found["inference"]
    console.print(
        f"Serving: weights {serve['weights_gib']:.2f} GiB, KV cache {serve['kv_cache_gib']:.3f} GiB "
        f"({serve['kv_bytes_per_token'] / 1024:.0f} KiB a token), in all "
        f"{serve['total_gib']['expected']:.2f} GiB.",
        soft_wrap=True,
    )
    if serve["decode_seconds_per_token"] is not None:
        first, each = serve["prefill_seconds"], serve["decode_seconds_per_token"]
        console.print(
            f"  First token after {1000 * first['low']:.0f} to {1000 * first['high']:.0f} ms, then "
            f"{1000 * each['low']:.1f} to {1000 * each['high']:.1f} ms a token.",
            soft_wrap=True,
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
        console.print(line, soft_wrap=True)


def _rule(console: Console, found: dict[str, Any]) -> None:
    rule = found["rule_of_thumb"]
    console.print(
        f"Rule of thumb ({rule['formula']}): {rule['gib']:.1f} GiB, {rule['gpu']}; "
        f"{escape('; '.join(rule['errs']))}.",
        style="dim",
        soft_wrap=True,
    )
