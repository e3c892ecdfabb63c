"""``tunewise.estimate``: what a way of tuning a model takes, all figures in one object.

Nothing is run or loaded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError
from tunewise.estimation import calibration
from tunewise.estimation.compute import Flops, Speed, speed, training_flops
from tunewise.estimation.disk import Disk, disk
from tunewise.estimation.fit import Fit, fits, needs_of, smallest, verdict_of
from tunewise.estimation.hardware import CPU, Gpu, find_gpu, load_hardware, refuse_format
from tunewise.estimation.inference import Inference, inference
from tunewise.estimation.lengths import Lengths, fixed
from tunewise.estimation.memory import Memory, Range, memory
from tunewise.estimation.models import find_model
from tunewise.estimation.money import usd
from tunewise.estimation.rule import RuleOfThumb, rule_of_thumb
from tunewise.estimation.setup import QUANTISED, Setup
from tunewise.estimation.shapes import Shape

START_SECONDS = 30.0  # imports, tokenising, the first slow steps: assumed
READ_GB_S = 1.0  # of weights from disk: assumed
PER_TOKENS = 1_000_000  # time and money without a number of rows are for so many tokens
SETTINGS = tuple(entry.name for entry in fields(Setup) if entry.name not in ("seq_len", "mean_len", "method"))


@dataclass(frozen=True, slots=True)
class Run:
    """Time and money of a whole run on one kind of GPU. tokens: padded ones that are computed. usd.

    None unpriced.
    """

    gpu: Gpu
    speed: Speed
    tokens: float
    steps: int
    seconds: Range
    usd: Range | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What ``tunewise estimate`` shows. See ``to_json`` for units."""

    shape: Shape
    setup: Setup
    lengths: Lengths
    epochs: float
    memory: Memory
    disk: Disk
    flops: Flops
    gpu: Gpu | None
    fit: Fit | None
    fits: tuple[Fit, ...]
    runs: tuple[Run, ...]
    smallest: Gpu | None
    inference: Inference
    rule: RuleOfThumb
    calibrated: calibration.Correction
    warnings: tuple[str, ...] = field(default=())

    @property
    def run(self) -> Run | None:
        """The run on the GPU that was asked for, else on the smallest that fits; None when none does."""
        wanted = self.gpu or self.smallest
        return next((run for run in self.runs if wanted is not None and run.gpu.name == wanted.name), None)

    def to_json(self) -> dict[str, Any]:
        """One JSON object; keys end in their unit."""
        from tunewise.estimation.estimate_json import to_json

        return to_json(self)


def estimate(
    model: str | Path | Mapping[str, Any],
    *,
    method: str = "lora",
    lengths: int | Sequence[int] | Lengths = 2048,
    rows: int | None = None,
    epochs: float = 1.0,
    parameters: int | None = None,
    gpu: str | None = None,
    hardware: Path | None = None,
    price: float | None = None,
    context: int | None = None,
    concurrency: int = 1,
    adapters: int = 0,
    calibrate: bool | calibration.Correction = True,
    **settings: Any,
) -> Estimate:
    """Memory, disk, time and money of tuning ``model``, and what serving it takes.

    model: a ``config.json``, a folder with one, a name of the catalogue, a hub id, or a config as a mapping.
    method: full, lora or qlora. lengths: tokens per row, one number or the rows' own. rows, epochs: the size
    of the run; without rows, time and money are for a million tokens. gpu: a name of the catalogue, or
    ``cpu`` for this machine. hardware: a file that overrides the catalogue; price: USD per GPU-hour. context,
    concurrency, adapters: of serving. calibrate: use what earlier runs here measured, or this correction.
    settings: the fields of ``estimation.setup.Setup``. Raises SettingError (nearest names, what to do),
    WorldError when a hub id cannot be looked up.
    """
    shape = find_model(model, parameters)
    catalogue = load_hardware(hardware, price)
    on = None if gpu is None else find_gpu(gpu, catalogue)
    measured = _lengths(lengths, rows)
    _check_size(measured.rows, epochs)
    setup, notes = _setup(method, measured, on, settings)
    found = memory(shape, setup)
    if isinstance(calibrate, calibration.Correction):
        calibrated = calibrate
    else:
        calibrated = _correction(shape, setup, on) if calibrate else calibration.Correction()
    found = corrected(found, calibrated.memory)
    others = fits(shape, setup, catalogue, calibrated.memory)
    runs = [_run(shape, setup, one.gpu, measured, epochs, 1.0) for one in others if one.verdict != "no"]
    if on is not None:
        runs = [run for run in runs if run.gpu.name != on.name]
        runs.append(_run(shape, setup, on, measured, epochs, calibrated.time))
    serve = _serving(shape, setup, on, context, concurrency, adapters, found.trainable)
    return Estimate(
        shape=shape,
        setup=setup,
        lengths=measured,
        epochs=epochs,
        memory=found,
        disk=disk(shape, setup),
        flops=training_flops(shape, setup),
        gpu=on,
        fit=None if on is None else _fit_on(shape, setup, on, others, calibrated.memory),
        fits=others,
        runs=tuple(runs),
        smallest=smallest(others),
        inference=serve,
        rule=rule_of_thumb(shape, setup, found),
        calibrated=calibrated,
        warnings=(*found.warnings, *notes),
    )


def corrected(found: Memory, factor: float) -> Memory:
    """The estimate scaled by what earlier runs measured; the interval keeps its relative width."""
    if factor == 1.0:
        return found

    def scaled(one: Range) -> Range:
        return Range(one.low * factor, one.expected * factor, one.high * factor)

    more = (factor - 1) * found.allocated.expected
    return replace(
        found,
        allocated=scaled(found.allocated),
        reserved=found.reserved.plus(more),
        device=found.device.plus(more),
        evaluation=scaled(found.evaluation),
        resume=scaled(found.resume),
    )


def _lengths(given: int | Sequence[int] | Lengths, rows: int | None) -> Lengths:
    if isinstance(given, Lengths):
        return given if rows is None else replace(given, rows=rows)
    if isinstance(given, int):
        return fixed(given, rows)
    values = sorted(given)
    if not values or values[0] < 1:
        raise SettingError("lengths: expected at least one number of tokens, each 1 or more")
    return Lengths(tuple(values), rows if rows is not None else len(values), "as given")


def _check_size(rows: int | None, epochs: float) -> None:
    if rows is not None and rows < 1:
        raise SettingError(f"rows must be 1 or more, got {rows}")
    if not math.isfinite(epochs) or epochs <= 0:
        raise SettingError(f"epochs must be a number above 0, got {epochs}")


def _setup(
    method: str, lengths: Lengths, gpu: Gpu | None, settings: Mapping[str, Any]
) -> tuple[Setup, tuple[str, ...]]:
    """The completed set-up, its number format one that the GPU has, and notes on what was chosen."""
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise SettingError(f"unknown setting {unknown[0]!r}; known: {', '.join(sorted(SETTINGS))}")
    given = {name: value for name, value in settings.items() if value is not None}
    notes = []
    if gpu is not None and (form := _format_for(gpu, method, given)) is not None:
        given |= form
        if gpu.name != CPU:
            notes.append(f"{gpu.name} has no bf16, so the estimate is for {form['compute_dtype']}")
    if gpu is not None and gpu.name == CPU and given.get("attention", "flash") == "flash":
        given["attention"] = "sdpa"  # the flash kernels are for GPUs
    mean = lengths.padded(int(given.get("micro_batch", 1)))
    setup = Setup(method=method, seq_len=lengths.longest, mean_len=min(mean, float(lengths.longest)), **given)
    if gpu is not None and gpu.name != CPU:
        setup = replace(setup, capacity_gib=gpu.usable_gib)
    setup = setup.complete()
    if gpu is not None:
        used = {setup.compute_dtype, str(setup.weight_dtype)} - set(QUANTISED) - {"fp32"}
        for wanted in sorted(used):
            if gpu.name != CPU or wanted == "fp16":
                refuse_format(gpu, wanted)
    return setup, tuple(notes)


def _format_for(gpu: Gpu, method: str, given: Mapping[str, Any]) -> dict[str, str] | None:
    """Another format than bf16 where the GPU lacks it and the user named none."""
    if "bf16" not in gpu.lacks or "compute_dtype" in given:
        return None
    form = "fp32" if "fp16" in gpu.lacks else "fp16"
    own = method == "qlora" or "weight_dtype" in given
    return {"compute_dtype": form} if own else {"compute_dtype": form, "weight_dtype": form}


def _correction(shape: Shape, setup: Setup, gpu: Gpu | None) -> calibration.Correction:
    """What was measured on the GPU asked for; nothing is carried from one device to another."""
    if gpu is None:
        return calibration.Correction()
    return calibration.correction(shape.name, setup.method, setup.stack, gpu.name)


def _fit_on(shape: Shape, setup: Setup, gpu: Gpu, others: Sequence[Fit], factor: float) -> Fit:
    """The verdict for the GPU asked for, also when it is this machine's processor."""
    for one in others:
        if one.gpu.name == gpu.name:
            return one
    needs, safe = needs_of(memory(shape, setup), setup, factor)
    return Fit(gpu, verdict_of(needs, safe, gpu.usable_gib), needs, safe)


def _run(shape: Shape, setup: Setup, gpu: Gpu, lengths: Lengths, epochs: float, factor: float) -> Run:
    """Time and money on one kind of GPU, at the mean padded length."""
    usual = replace(setup, seq_len=max(1, round(setup.mean_len or setup.seq_len)), mean_len=None)
    fast = speed(shape, usual, gpu, factor)
    copies = max(1, setup.shards // setup.context_parallel)
    in_step = setup.micro_batch * setup.accumulation * copies
    per_step = usual.seq_len * in_step
    if lengths.rows is None:
        tokens = float(PER_TOKENS)
        steps = math.ceil(tokens / per_step)
        seconds = [tokens / fast.tokens_per_second.high, tokens / fast.tokens_per_second.expected]
        seconds.append(tokens / fast.tokens_per_second.low)
    else:
        steps = math.ceil(lengths.rows / in_step * epochs)
        tokens = float(steps * per_step)
        start = START_SECONDS + 2.0 * shape.parameters() / (READ_GB_S * 1e9)
        each = fast.step_seconds
        seconds = [start + steps * took for took in (each.low, each.expected, each.high)]
    time = Range(*seconds)
    return Run(gpu, fast, tokens, steps, time, usd(time, setup.gpus, gpu.price))


def _serving(
    shape: Shape,
    setup: Setup,
    gpu: Gpu | None,
    context: int | None,
    concurrency: int,
    adapters: int,
    trainable: int,
) -> Inference:
    """Serving the result: the base in its training format, the longest row as context by default."""
    weights = str(setup.weight_dtype) if setup.method == "qlora" else setup.compute_dtype
    if weights in ("fp4",):
        weights = "nf4"
    size = trainable if setup.method != "full" else 0
    return inference(
        shape,
        context=context or setup.seq_len,
        concurrency=concurrency,
        weights=weights,
        gpu=gpu,
        adapters=adapters if size else 0,
        adapter_parameters=size,
    )
