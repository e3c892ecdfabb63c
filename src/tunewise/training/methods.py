"""Full fine-tuning, LoRA and QLoRA: what is trained, from which defaults, and how it lies on disk.

    base weights -> open_base -> attach -> (training) -> save -> a folder that answers

What is handed over is an adapter in PEFT's layout for ``lora`` and ``qlora``, a whole model as safetensors
for ``full``. An adapter of QLoRA answers beside the weights it was trained on: the base rounded to 4 bits and
back (``models.quantised_base``).
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunewise.errors import SettingError
from tunewise.models.quantised_base import need_bitsandbytes, write_mark
from tunewise.training import checkpoints
from tunewise.training.allocator import keep_freed_memory

if TYPE_CHECKING:
    from tunewise.training.recipe import Recipe

Method = Literal["lora", "qlora", "full"]
Schedule = Literal["linear", "cosine"]
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
ALL_LINEAR = "all-linear"
# Towers and projectors of models that also see or hear: rows of text give them no gradient.
OTHER_SENSES = re.compile(r"(^|\.)(vision|visual|image|audio|multi_modal|mm_)\w*(\.|$)")
OUTPUT_LAYERS = ("lm_head", "embed_out", "output")  # never a target of all-linear: a vocabulary wide


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a method takes where the task file says nothing."""

    learning_rate: float
    schedule: Schedule


# full, 2e-5: Taori et al., "Stanford Alpaca", 2023, and Touvron et al., "Llama 2", 2023, section 3.1; TRL's
# own default. lora and qlora, 2e-4: Dettmers et al., "QLoRA", NeurIPS 2023, appendix B.2 (7B and 13B).
# Cosine with warm-up: Loshchilov and Hutter, "SGDR", 2017; Llama 2, section 3.1. Defazio et al., "Optimal
# Linear Decay Learning Rate Schedules and Further Refinements", 2023, section 5, find linear decay as good or
# better: training.schedule: linear.
DEFAULTS: dict[Method, Defaults] = {
    "lora": Defaults(2e-4, "cosine"),
    "qlora": Defaults(2e-4, "cosine"),
    "full": Defaults(2e-5, "cosine"),
}


def open_base(base: Path, recipe: "Recipe") -> Any:
    """The weights in ``base`` as the method trains them: frozen, frozen and 4-bit, or fp32 and free.

    ``full`` keeps its weights in fp32 also where matrices are multiplied in bf16: a bf16 weight of 0.05 moves
    in steps of 2e-4, and updates of 2e-5 would be lost (Micikevicius et al., "Mixed Precision Training", ICLR
    2018, section 3.1). Raises SettingError where the device cannot run the method.
    """
    from tunewise.models import weights

    keep_freed_memory()
    if recipe.method == "qlora":
        return open_in_4_bits(base)
    model = weights.load_model(base)
    return model.float().requires_grad_(True) if recipe.method == "full" else model


def open_in_4_bits(base: Path) -> Any:
    """The base in NF4 with double quantisation (Dettmers et al., "QLoRA", NeurIPS 2023, section 3), frozen.

    Layers are unpacked to fp32 on a CPU and to bf16 on a GPU. Raises SettingError without bitsandbytes,
    or where it has no 4-bit kernels for the device.
    """
    import torch
    import transformers

    from tunewise.models import weights

    need_bitsandbytes()

    device, dtype = weights.device_and_dtype()
    if device.type == "cuda":  # accelerate compares the index with its own
        device = torch.device("cuda", torch.cuda.current_device())
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        raise SettingError(cannot_quantise("Apple's GPU"))
    config: Any = transformers.BitsAndBytesConfig
    how = config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    weights.weight_files(base)
    try:
        with weights.quiet_transformers():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                base, dtype=dtype, quantization_config=how, device_map={"": device},
                use_safetensors=True, trust_remote_code=False, local_files_only=True,
            )  # fmt: skip
    except (ValueError, ImportError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, RuntimeError) and weights.out_of_memory(error):
            raise weights.no_room(base, error) from error
        raise SettingError(f"{cannot_quantise(str(device))} ({error})") from error
    keep_as_quantised(model)
    return model.requires_grad_(False)


def keep_as_quantised(model: Any) -> None:
    """Forbid bitsandbytes to rewrite the weights while they are read.

    On a CPU with AVX512-BF16 its first pass without gradients (our held-out loss) packs each weight anew:
    its scales are rounded to bf16 and the second quantisation is lost, so that looking would change the
    base under the adapter; layers whose width is no multiple of the block fail.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def cannot_quantise(device: str) -> str:
    """What to do where 4-bit weights cannot be trained on."""
    return (
        f"qlora cannot run on {device}: bitsandbytes has no 4-bit kernels for it. Use lora (the same adapter "
        "on unquantised weights), or lora on a smaller base"
    )


def attach(model: Any, recipe: "Recipe") -> Any:
    """The model with what is trained: an adapter with weights drawn from the seed, or all its weights."""
    import peft
    import torch

    torch.manual_seed(recipe.seed)
    if recipe.method == "full":
        for name, parameter in model.named_parameters():
            if OTHER_SENSES.search(name):
                parameter.requires_grad_(False)
        return model
    others = any(OTHER_SENSES.search(name) for name, _ in model.named_modules())
    targets = ALL_LINEAR if not recipe.targets else list(known_targets(model, recipe.targets))
    if recipe.method == "qlora":
        prepare: Any = peft.prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=False)
        torch.manual_seed(recipe.seed)
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=0.0,
            target_modules=targets,
            exclude_modules=rf"(.*){OTHER_SENSES.pattern}.*" if others else None,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )


def check(base: Path, recipe: "Recipe") -> None:
    """Raise SettingError for what can be seen of method and targets without reading the weights."""
    if recipe.method == "qlora":
        need_bitsandbytes()
    if recipe.method == "full" or not recipe.targets:
        return
    import torch
    import transformers

    classes: Any = transformers.AutoModelForCausalLM
    try:
        config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):  # shapes alone
            model = classes.from_config(config)
    except (ValueError, OSError, ImportError) as error:
        raise SettingError(f"{base}: cannot be loaded as a causal language model: {error}") from error
    known_targets(model, recipe.targets)


def known_targets(model: Any, targets: Sequence[str]) -> Sequence[str]:
    """``targets`` when each ends the name of a linear layer, else SettingError with those there are."""
    there = linear_names(model)
    for target in targets:
        if target not in there:
            near = difflib.get_close_matches(target, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SettingError(
                f"training.lora_targets: this model has no linear layers called {target!r}{hint}. "
                f"There are {', '.join(there)}; leave the key out for all of them"
            )
    return targets


def linear_names(model: Any) -> list[str]:
    """The last parts of the names of all linear layers but the output layer, sorted."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D)  # GPT-2's kin have the latter
    names = {name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if isinstance(layer, kinds)}
    return sorted(names - set(OUTPUT_LAYERS))


def is_adapted(model: Any) -> bool:
    """True for a model with an adapter, False for one whose own weights are trained."""
    return hasattr(model, "peft_config")


def save(model: Any, folder: Path, base: Path, state: dict[str, Any] | None = None) -> None:
    """Write what was trained into ``folder``: an adapter in PEFT's layout, or a whole model beside tokenizer.

    Byte for byte the same for the same weights. A whole model is written in the format it was trained in,
    fp32: what is measured is what was trained.
    """
    if is_adapted(model):
        save_adapter(model, folder, state)
        return
    from tunewise.models import weights

    weights.copy_meaning(base, folder)
    weights.stop_as_trained(core_of(model), base)
    with weights.quiet_transformers():
        model.save_pretrained(folder, state_dict=state)
    keep_router_settings(base / "config.json", folder / "config.json")


def keep_router_settings(before: Path, after: Path) -> None:
    """Have a mixture of experts keep its base's settings, which TRL changes without its balancing loss."""
    base, config = checkpoints.read_json(before) or {}, checkpoints.read_json(after) or {}
    changed: dict[str, Any] = {
        name: base[name] for name in ("output_router_logits", "router_aux_loss_coef") if name in base
    }
    if any(config.get(name) != value for name, value in changed.items()):
        checkpoints.write_json(after, {**config, **changed})


def save_adapter(model: Any, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Write the adapter in PEFT's layout, byte for byte the same for the same weights."""
    model.save_pretrained(folder, save_embedding_layers=False, state_dict=state)
    (folder / "README.md").unlink(missing_ok=True)  # a form that nobody filled in
    config = checkpoints.read_json(folder / "adapter_config.json") or {}
    for name in ("target_modules", "target_parameters"):  # sets: their order differs between processes
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    checkpoints.write_json(folder / "adapter_config.json", config)
    if getattr(core_of(model), "is_loaded_in_4bit", False):
        write_mark(folder)


def describe(model: Any) -> dict[str, Any]:
    """Trained parameters and their share of all; 4-bit weights count as the numbers they stand for."""
    if is_adapted(model):
        trained, everything = model.get_nb_trainable_parameters()
    else:
        trained = everything = sum(parameter.numel() for parameter in model.parameters())
    return {"trainable_parameters": trained, "share": trained / everything}


def core_of(model: Any) -> Any:
    """The transformers model inside: below PEFT's, or the model itself, also with an adapter's layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def disk_need(model: Any, snapshots: int) -> int:
    """Bytes that a run writes at most: a snapshot per epoch, the chosen and the last, three full checkpoints.

    A checkpoint holds the trained weights and AdamW's two fp32 moments for each; two are kept while a third
    is written.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    moments = sum(8 * p.numel() for p in model.parameters() if p.requires_grad)
    return int((snapshots + 2) * trained + 3 * (trained + moments))
