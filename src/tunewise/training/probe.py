"""A few real training steps on random tokens: what the estimate is corrected by. Heavy: loads the model.

Memory and time of a step depend on shapes alone, so random tokens at the longest length give both. Step 1
creates gradients and optimizer states; measured are the steps after it.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError
from tunewise.models.precision import best_precision, products

MEASURED_STEPS = 2


@dataclass(frozen=True, slots=True)
class Probed:
    """What the steps took. Bytes of tensors at the peak; ``reserved_bytes`` only on a GPU.

    Seconds per step.
    """

    device: str
    steps: int
    peak_bytes: int
    reserved_bytes: int | None
    seconds: float
    tokens_per_second: float
    trainable_parameters: int


@dataclass(frozen=True, slots=True)
class ProbeSetup:
    """What to run: the words of ``tunewise estimate``. length in tokens, micro_batch in rows."""

    method: str
    length: int
    micro_batch: int
    rank: int = 16
    targets: tuple[str, ...] | str = "all-linear"
    optimizer: str = "adamw"
    recompute: bool = False
    double_quant: bool = True
    attention: str = "sdpa"


def probe(folder: Path, setup: ProbeSetup, steps: int = 1 + MEASURED_STEPS) -> Probed:
    """Run ``steps`` training steps on the model in ``folder`` on the machine at hand: a GPU if there is one.

    Raises SettingError when an extra is missing or the machine's memory does not suffice.
    """
    try:
        import torch

        from tunewise.models.weights import out_of_memory
        from tunewise.training.recipe import quiet
        from tunewise.training.tensor_memory import Gauge, on_gpu_now
    except ModuleNotFoundError as error:
        raise SettingError(f'--probe needs {error.name}; run: pip install "tunewise[local]"') from error

    with quiet():
        gauge, seconds = Gauge(on_gpu_now()), []
        shape = (setup.micro_batch, setup.length)
        try:
            model = load(folder, setup)
            optimizer = optimizer_for(model, setup.optimizer)
            rows = torch.randint(0, model.config.get_text_config().vocab_size, shape)
            for number in range(steps):
                if number:
                    gauge.start(model, optimizer)
                began = time.monotonic()
                step(model, optimizer, rows.to(model.device), whole=setup.method == "full")
                if number:
                    seconds.append(time.monotonic() - began)
                    gauge.stop()
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise SettingError(f"the probe ran out of memory: {setup} does not fit this machine") from error
    assert gauge.peak is not None
    took = min(seconds)
    on_gpu = torch.cuda.is_available()
    return Probed(
        device=torch.cuda.get_device_name() if on_gpu else "cpu",
        steps=len(seconds),
        peak_bytes=gauge.peak,
        reserved_bytes=int(torch.cuda.max_memory_reserved()) if on_gpu else None,
        seconds=took,
        tokens_per_second=setup.micro_batch * setup.length / took,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )


def step(model: Any, optimizer: Any, rows: Any, *, whole: bool) -> None:
    """Forward, backward, optimizer; gradients are let go at the end, as trainers do.

    In the precision of a training. Beside an adapter in fp32 a GPU multiplies in bf16 (autocast), as trainers
    do: without it every adapted layer would keep its input once more in fp32.
    """
    import torch

    if rows.is_cuda:
        torch.cuda.synchronize()
    with products(best_precision(whole=whole)):
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=rows.is_cuda):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if rows.is_cuda:
        torch.cuda.synchronize()


def load(folder: Path, setup: ProbeSetup) -> Any:
    """The model ready to train by ``setup.method``: fp32 on a CPU, bf16 on a GPU."""
    from transformers import AutoModelForCausalLM

    from tunewise.models.weights import device_and_dtype, weight_files

    weight_files(folder)
    device, dtype = device_and_dtype()
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": setup.attention}
    if setup.method == "qlora":
        options["quantization_config"] = four_bits(setup, dtype)
        options["device_map"] = {"": device}
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, **options
    )
    if setup.method != "qlora":
        model = model.to(device)
    if setup.method == "qlora":
        import peft

        prepare: Any = peft.prepare_model_for_kbit_training
        model = prepare(
            model,
            use_gradient_checkpointing=setup.recompute,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    elif setup.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if setup.method != "full":
        model = with_adapter(model, setup)
    return model.train()


def four_bits(setup: ProbeSetup, dtype: Any) -> Any:
    """NF4 settings of bitsandbytes. Raises SettingError without it."""
    from importlib.util import find_spec

    import transformers

    if find_spec("bitsandbytes") is None:
        raise SettingError('qlora needs bitsandbytes; run: pip install "tunewise[qlora]"')
    config: Any = transformers.BitsAndBytesConfig
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=setup.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def with_adapter(model: Any, setup: ProbeSetup) -> Any:
    """The model with a fresh LoRA adapter."""
    from peft import LoraConfig, get_peft_model

    targets = setup.targets if isinstance(setup.targets, str) else list(setup.targets)
    return get_peft_model(
        model,
        LoraConfig(
            r=setup.rank,
            lora_alpha=2 * setup.rank,
            lora_dropout=0.0,
            target_modules=targets,
            task_type="CAUSAL_LM",
        ),
    )


def optimizer_for(model: Any, name: str) -> Any:
    """The optimizer of this name over the trainable parameters."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(trained, lr=1e-5, foreach=True)
    if name == "adamw-fused":
        return torch.optim.AdamW(trained, lr=1e-5, fused=True)
    if name == "adafactor":
        import transformers

        adafactor: Any = transformers.Adafactor
        return adafactor(trained, lr=1e-5, relative_step=False, scale_parameter=False)
    import bitsandbytes

    optim: Any = bitsandbytes.optim
    of = {
        "adamw-8bit": optim.AdamW8bit,
        "paged-adamw": optim.PagedAdamW32bit,
        "paged-adamw-8bit": optim.PagedAdamW8bit,
    }
    if name not in of:
        raise SettingError(f"--probe cannot run the optimizer {name!r}; it knows adamw, {', '.join(of)}")
    return of[name](trained, lr=1e-5)


def probe_and_record(model: str, what: dict[str, Any]) -> dict[str, Any]:
    """Probe ``model`` here, keep the result for later estimates, aim the estimate ``what`` at this machine.

    what: the arguments of ``tunewise.estimate``; its ``gpu`` and ``calibrate`` are replaced. Returns what was
    measured beside what was estimated, JSON-able.
    """
    from tunewise.estimation import calibration
    from tunewise.estimation.estimate import estimate
    from tunewise.models.weights import model_folder

    what |= {
        "gpu": this_device(what),
        "attention": "sdpa" if what["attention"] == "flash" else what["attention"],
    }
    before = estimate(model, **{**what, "calibrate": False})
    setup, run = before.setup, before.run
    if setup.gpus > 1:
        raise SettingError("--probe runs on one GPU; drop --gpus and --sharding")
    took = probe(
        model_folder(model),
        ProbeSetup(
            method=setup.method,
            length=setup.seq_len,
            micro_batch=setup.micro_batch,
            rank=setup.lora_rank,
            targets="all-linear" if setup.lora_targets == ("all-linear",) else _modules(before),
            optimizer=setup.optimizer,
            recompute=setup.checkpointing != "none",
            double_quant=setup.weight_dtype == "nf4-dq",
            attention=setup.attention,
        ),
    )
    expected_seconds = None
    if run is not None and setup.seq_len == round(setup.mean_len or setup.seq_len):
        expected_seconds = run.speed.step_seconds.expected / setup.accumulation
    found = calibration.Record(
        source="probe",
        model=before.shape.name,
        method=setup.method,
        stack=setup.stack,
        device=str(what["gpu"]),
        estimated_gib=before.memory.allocated.expected,
        measured_gib=took.peak_bytes / 2**30,
        estimated_seconds=expected_seconds,
        measured_seconds=took.seconds,
        length=setup.seq_len,
        micro_batch=setup.micro_batch,
        checkpointing=setup.checkpointing,
    )
    what["calibrate"] = calibration.correction(found.model, found.method, found.stack, found.device, [found])
    return {
        "device": took.device,
        "steps": took.steps,
        "length": setup.seq_len,
        "micro_batch": setup.micro_batch,
        "measured_gib": round(found.measured_gib, 6),
        "estimated_gib": round(found.estimated_gib, 6),
        "ratio": round(found.measured_gib / found.estimated_gib, 4),
        "reserved_gib": None if took.reserved_bytes is None else round(took.reserved_bytes / 2**30, 4),
        "seconds_per_pass": round(took.seconds, 4),
        "tokens_per_second": round(took.tokens_per_second, 1),
        "trainable_params": took.trainable_parameters,
        "not_kept": calibration.record(found),
    }


def _modules(found: Any) -> tuple[str, ...]:
    """Names of the targeted modules as PEFT knows them."""
    return tuple(linear.name for linear in found.shape.targeted(found.setup.lora_targets))


def this_device(what: dict[str, Any]) -> str:
    """Name in the catalogue of the GPU at hand, or ``cpu``. Raises SettingError when it is not in there."""
    from tunewise.estimation.hardware import CPU, gpu_of_device, load_hardware

    try:
        import torch
    except ModuleNotFoundError as error:
        raise SettingError('--probe needs torch; run: pip install "tunewise[local]"') from error
    if not torch.cuda.is_available():
        return CPU
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    catalogue = load_hardware(what["hardware"])
    return gpu_of_device(torch.cuda.get_device_name(), memory, catalogue).name
