"""With what a tuned rung trains: the task's settings as a recipe, and all that its result depends on."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tunewise.data import Example, read_examples
from tunewise.errors import TunewiseError
from tunewise.models.precision import best_precision
from tunewise.rungs.prompt import PromptLayout
from tunewise.rungs.replay import keys_of
from tunewise.rungs.rung import Workbench
from tunewise.rungs.search import selection_items
from tunewise.rungs.tuned_rows import LocalWeights, messages_of
from tunewise.training.methods import DEFAULTS, Method
from tunewise.training.recipe import KL_ROWS, Recipe

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "trl", "accelerate", "datasets", "bitsandbytes")
FEWEST_ROWS = 8  # to train on
SELECTION_ITEMS = 40  # answered by each finalist
LENGTH_ESTIMATED = 1024  # tokens of a row, where the task sets no length


def model_named(bench: Workbench) -> str:
    """The model that is tuned, as the task names it."""
    tune = bench.task.tune
    spec = tune.model if tune is not None and tune.model is not None else bench.task.model
    return spec if isinstance(spec, str) else ""


def method_that_fits(bench: Workbench) -> tuple[Method, str]:
    """``lora``, or ``qlora`` with the reason where lora does not fit this machine's GPU and qlora does.

    Where nothing can be estimated (no GPU, none of the catalogue, an unknown architecture) it is ``lora``.
    """
    from tunewise.estimation.estimate import estimate
    from tunewise.estimation.hardware import CPU
    from tunewise.training.probe import this_device

    name = model_named(bench)
    try:
        device = this_device({"hardware": None})
        if device == CPU or not name:
            return "lora", ""
        lengths = bench.task.training.max_length or LENGTH_ESTIMATED
        fits = {m: estimate(name, method=m, lengths=lengths, gpu=device).fit for m in ("lora", "qlora")}
    except TunewiseError:
        return "lora", ""
    lora, qlora = fits["lora"], fits["qlora"]
    if lora is None or qlora is None or lora.verdict != "no" or qlora.verdict == "no":
        return "lora", ""
    return "qlora", f" (lora needs {lora.needs:.1f} GiB, more than {device} has; qlora {qlora.needs:.1f})"


def recipe_of(bench: Workbench, method: Method) -> Recipe:
    """The task's settings as a recipe, the method's defaults where the task says nothing."""
    training, defaults = bench.task.training, DEFAULTS[method]
    precision = best_precision(whole=method == "full") if training.precision == "auto" else training.precision
    return Recipe(
        learning_rate=training.learning_rate or defaults.learning_rate,
        epochs=training.epochs,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        rank=training.lora_rank,
        batch_size=training.batch_size,
        seed=bench.seed,
        precision=precision,
        method=method,
        schedule=training.schedule or defaults.schedule,
        targets=training.lora_targets,
        lora_alpha=training.lora_alpha,
        checkpointing=training.checkpointing,
        kl_weight=training.kl.weight if training.kl is not None else 0.0,
        kl_rows=training.kl.rows if training.kl is not None else KL_ROWS,
        patience=training.patience or 0,
    )


def versions_of(names: Sequence[str]) -> dict[str, str]:
    """The installed versions of the libraries that are there."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def row_place(said: list[Any], example: Example) -> list[str]:
    """What a row is told by where rows changed: a digest of what is trained on, and where it stands."""
    place = f"{example.source}:{example.line}" if example.source else example.key
    return [hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16], place]


def settings_of(bench: Workbench, base: LocalWeights, layout: PromptLayout, method: Method) -> dict[str, Any]:
    """All that the result depends on, JSON-able: another value anywhere means another training run."""
    training = bench.task.training
    said = [[[m.role, m.content] for m in messages_of(layout, e)] + [e.answer] for e in bench.parts.train]
    held = [example.key for example in selection_items(bench, SELECTION_ITEMS)]
    mix = training.mix
    general = [] if mix is None else keys_of(mix)
    kl = training.kl
    held_near = [] if kl is None else [example.key for example in read_examples(kl.general).examples]
    return {
        "base": base.weights_fingerprint,
        "train_rows": hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        "train_row_places": [row_place(row, e) for row, e in zip(said, bench.parts.train, strict=True)],
        "held_out": hashlib.sha256(json.dumps(held).encode()).hexdigest(),
        "recipe": asdict(recipe_of(bench, method)),
        "length": [training.max_length, training.too_long],
        "choice": {  # what the checkpoint is chosen by
            "metric": bench.task.metric,
            "options": json.loads(json.dumps(bench.task.metric_options, default=str)),
            "decoding": bench.task.decoding.model_dump(mode="json", exclude={"precision"}),
        },
        "mix": None if mix is None else [hashlib.sha256(json.dumps(general).encode()).hexdigest(), mix.share],
        **({"kl": hashlib.sha256(json.dumps(held_near).encode()).hexdigest()} if held_near else {}),
        "versions": versions_of(LIBRARIES),
    }
