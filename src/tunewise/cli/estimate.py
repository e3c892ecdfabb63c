"""``tunewise estimate``: what tuning a model takes, before anything is spent."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunewise.cli.documents import print_json
from tunewise.errors import SettingError

if TYPE_CHECKING:
    from tunewise.estimation.estimate import Estimate

MODEL = "config.json, a folder, a hub id or a name of the catalogue; with --task, by default what it tunes."
METHOD = "full, lora or qlora."
LENGTH = "Longest row in tokens, prompt and answer; or see --task."
TASK = "A task file: lengths, rows, epochs and rank are its own."
GPU = "A GPU of the catalogue, or cpu for this machine."
WEIGHTS = "fp32, bf16, fp16, int8, nf4, nf4-dq, fp4, gptq-int4."
OPTIMIZER = "adamw (foreach), adamw-fused, adamw-8bit, paged-adamw, paged-adamw-8bit, adafactor, ..."
STACK = "hf, hf-fused, unsloth, torchtune or litgpt."
BATCH = "JSON requests, one per line; answers one JSON per line. - reads standard input."
PROBE = "Run a few real steps at the longest length here and correct the estimate by them."


def estimate(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help=MODEL)] = None,
    method: Annotated[str, typer.Option(help=METHOD)] = "lora",
    length: Annotated[int | None, typer.Option(help=LENGTH + " Default 2048.")] = None,
    task: Annotated[Path | None, typer.Option(help=TASK)] = None,
    rows: Annotated[
        int | None, typer.Option(help="Training rows; without, time is per million tokens.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the rows; default 1.")] = None,
    micro_batch: Annotated[int, typer.Option(help="Rows in one forward pass, on each GPU.")] = 1,
    accumulation: Annotated[int, typer.Option(help="Forward passes to one optimizer step.")] = 1,
    rank: Annotated[int | None, typer.Option(help="LoRA rank; default 16.")] = None,
    targets: Annotated[
        str, typer.Option(help="LoRA targets: all-linear, attention, mlp, or names with commas.")
    ] = "all-linear",
    weights: Annotated[str | None, typer.Option(help=f"Format of the weights: {WEIGHTS}")] = None,
    precision: Annotated[str | None, typer.Option(help="Format to compute in: bf16, fp16, fp32.")] = None,
    double_quant: Annotated[bool, typer.Option(help="Quantise the scales of NF4 too.")] = True,
    optimizer: Annotated[str, typer.Option(help=OPTIMIZER)] = "adamw",
    checkpointing: Annotated[
        str, typer.Option(help="Recompute activations: full, selective, none.")
    ] = "full",
    attention: Annotated[str, typer.Option(help="flash, sdpa or eager.")] = "flash",
    cross_entropy: Annotated[
        str | None, typer.Option(help="logits, fast, chunked or fused; by default the stack's.")
    ] = None,
    stack: Annotated[str, typer.Option(help=STACK)] = "hf",
    compiled: Annotated[bool, typer.Option("--compile", help="The model is compiled.")] = False,
    gpu: Annotated[str | None, typer.Option(help=GPU)] = None,
    gpus: Annotated[int, typer.Option(help="Number of GPUs.")] = 1,
    sharding: Annotated[str | None, typer.Option(help="ddp, fsdp, zero1, zero2, zero3.")] = None,
    offload: Annotated[
        str, typer.Option(help="What lives in main memory: optimizer, weights, activations.")
    ] = "",
    hardware: Annotated[Path | None, typer.Option(help="YAML that adds GPUs or changes them.")] = None,
    price: Annotated[
        float | None, typer.Option(help="USD per GPU-hour, in place of the catalogue's.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Serving: tokens per sequence; default --length.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Serving: sequences at once.")] = 1,
    adapters: Annotated[int, typer.Option(help="Serving: LoRA adapters on one base.")] = 0,
    params: Annotated[
        float | None, typer.Option(help="Billions of parameters, for an unknown model.")
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help=PROBE)] = False,
    calibrate: Annotated[bool, typer.Option(help="Correct by what earlier runs here measured.")] = True,
    batch: Annotated[str | None, typer.Option(metavar="FILE", help=BATCH)] = None,
    all_gpus: Annotated[bool, typer.Option("--all-gpus", help="List every GPU of the catalogue.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Say what tuning a model takes: memory, disk, time, money, and which GPUs it fits on. Runs nothing."""
    if batch is not None:
        _batch(batch)
        return
    from tunewise.estimation import estimate as room

    what: dict[str, Any] = {
        "method": method,
        "gpu": gpu,
        "hardware": hardware,
        "price": price,
        "context": context,
        "concurrency": concurrency,
        "adapters": adapters,
        "parameters": None if params is None else round(params * 1e9),
        "calibrate": calibrate,
        "micro_batch": micro_batch,
        "accumulation": accumulation,
        "lora_rank": rank,
        "lora_targets": _names(targets),
        "weight_dtype": weights,
        "compute_dtype": precision,
        "double_quant": double_quant,
        "optimizer": optimizer,
        "checkpointing": checkpointing,
        "attention": attention,
        "cross_entropy": cross_entropy,
        "stack": stack,
        "compile": compiled,
        "gpus": gpus,
        "sharding": sharding,
        "offload": _names(offload),
    }
    name = model
    if task is not None:
        name = _from_task(task, model, length, rows, epochs, what)
    else:
        what |= {"lengths": 2048 if length is None else length, "rows": rows, "epochs": epochs or 1.0}
    if name is None:
        raise SettingError(f"expected MODEL: {MODEL}")
    probed = None
    if probe:
        from tunewise.training.probe import probe_and_record

        probed = probe_and_record(name, what)
    found = room.estimate(name, **what)
    _show(found, probed, as_json, all_gpus)


def _names(said: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in said.split(",") if name.strip())


def _from_task(
    path: Path,
    model: str | None,
    length: int | None,
    rows: int | None,
    epochs: float | None,
    what: dict[str, Any],
) -> str:
    """Fill in what the task file says, but for what was given; returns the model."""
    from dataclasses import replace

    from tunewise.estimation import lengths
    from tunewise.task import load_task

    found = load_task(path)
    try:
        measured = lengths.of_task(found, model)
    except SettingError:
        if length is None:
            raise
        measured = lengths.fixed(length)  # nothing to count, and nothing that had to be
    if length is not None:
        measured = replace(lengths.fixed(length), rows=measured.rows)
    what["lengths"] = replace(measured, rows=rows if rows is not None else measured.rows)
    what["rows"] = rows
    what["epochs"] = epochs or found.training.epochs
    if what["lora_rank"] is None:
        what["lora_rank"] = found.training.lora_rank
    named = what.get("gpu") is not None  # the price of the user's machine is none of the catalogue's
    if named and what["price"] is None and found.tune is not None and found.tune.usd_per_hour is not None:
        what["price"] = found.tune.usd_per_hour
    return model or lengths.model_of(found)


def _batch(source: str) -> None:
    """Requests from a file or standard input, one answer a line."""
    from tunewise.estimation.batch import estimate_batch

    if source == "-":
        lines = sys.stdin.read().splitlines()
    else:
        try:
            lines = Path(source).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"--batch {source}: cannot be read: {error}") from None
    for answer in estimate_batch(lines):
        print_json(answer, None)


def _show(found: "Estimate", probed: dict[str, Any] | None, as_json: bool, all_gpus: bool) -> None:
    document = found.to_json()
    if probed is not None:
        document["probe"] = probed
    if as_json:
        print_json(document)
        return
    from tunewise.cli.estimate_tables import print_estimate

    print_estimate(document, all_gpus)
