"""A training run is trusted only after these checks: the failures they find leave a healthy-looking loss.

Before: every example carries loss, the stop token is trained, training reads the ids that serving sends,
nothing that certifies is trained on. After: the adapter changes the model, is on disk as it was in memory,
and answers the same merged into the base as beside it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewise.errors import DataError, WorldError
from tunewise.training.masks import TrainRow

# Largest difference of two logits that rounding explains, measured on SmolLM2-135M: 7e-5 in fp32 between
# layouts; a wrong mask gives 25 and more. In bf16 one step of a logit near 20 is already 0.125.
SAME_LOGIT = {"float32": 1e-2, "bfloat16": 2.0, "float16": 0.5}
# In 16 bits: how far a pack may be from its rows read alone, as a share of how far plain text is from them;
# SmolLM2-135M in bf16 0.06 to 0.10 on ten pairs of rows
NEAR = 0.3
# Largest difference that a merge makes, as a share of what an adapter adds to a layer's output, in fp32:
# 2e-6 on SmolLM2-135M; a merge that forgets the adapter makes 1, one without its scale 0.5
SAME_SHARE, MERGE_ROWS = 1e-2, 8


class TrainingNotTrusted(WorldError):
    """A silent failure of training was found; the adapter is not used."""


def check_rows(
    rows: Sequence[TrainRow],
    stop_ids: Collection[int],
    served: Callable[[TrainRow], Sequence[Sequence[int]]],
    certification_keys: Collection[str],
) -> None:
    """The checks before training. Raises TrainingNotTrusted, or DataError for what the data has wrong.

    stop_ids: ids that end an answer in serving. served: the ids that serving sends for a row's prompt, by
    each way of making them; none where it cannot tell.
    """
    for row in rows:
        if row.key in certification_keys:
            raise DataError(
                f"Example {row.key} stands in the train part and in the certification part: a verdict on "
                "what was trained on says nothing. Take it out of one of them."
            )
        if not row.prompt or not row.answer:
            raise TrainingNotTrusted(
                f"Example {row.key} has {len(row.prompt)} prompt tokens and {len(row.answer)} answer tokens; "
                "both need at least one. Look at the row and at the model's chat template."
            )
        if row.answer[-1] not in stop_ids:
            raise TrainingNotTrusted(
                f"Example {row.key}: the last token that carries loss is {row.answer[-1]}, expected a stop "
                f"token (one of {sorted(stop_ids)}): where to stop would not be learnt. The chat "
                "template and the generation config name different end tokens; mend one of them."
            )
        for sent in served(row):
            read = tuple(sent)[row.cut :]
            if read == row.prompt:
                continue
            both = zip(row.prompt, read, strict=False)
            place = next((n for n, (one, other) in enumerate(both) if one != other), None)
            apart = "one goes on where the other ends" if place is None else f"they part at token {place}"
            raise TrainingNotTrusted(
                f"Example {row.key}: training reads a prompt of {len(row.prompt)} tokens, serving sends "
                f"{len(read)}; {apart}. They must be the same ids: please report this with the name of the "
                "model."
            )


def within_window(model: Any, rows: Sequence[TrainRow]) -> bool:
    """False where a layer sees less than the longest row: the mask of a pack knows no window.

    Short rows would not show it, so the config is asked.
    """
    from tunewise.training.methods import core_of

    config = core_of(model).config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ("by window",))
    if kinds == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return True
    sizes = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    window = min((size for size in sizes if isinstance(size, int)), default=None)
    return window is None or max(map(len, rows)) <= window


def packing_agrees(model: Any, rows: Sequence[TrainRow]) -> bool:
    """True when two rows in one pack get the logits that each gets alone, to rounding.

    In 16 bits rounding may be as large as what one row does to the other. So the pack is also read as plain
    text, without mask and positions, and must differ far less than that does; of positions alone rounding
    may hide what they do. False for architectures that do not honour the mask or the positions; they are
    trained in padded batches.
    """
    import torch

    from tunewise.training.packing import tensors

    probe = [replace(row, earlier=()) for row in sorted(rows, key=len)[:2]]
    device, was_training = model.device, model.training
    model.eval()
    try:
        with torch.no_grad():
            given = {name: value.to(device) for name, value in tensors(probe).items()}
            for name in ("labels", "shift_labels"):
                given.pop(name)
            alone = torch.cat([answer_logits(model, row) for row in probe])
            together = model(**given, use_cache=False).logits[0][: len(alone)]
            exact = len(probe) == 1 or tolerance(model) == SAME_LOGIT["float32"]
            if not exact:
                kept = given["logits_to_keep"][: len(alone)]
                mixed = model(given["input_ids"], logits_to_keep=kept, use_cache=False).logits[0]
    except (TypeError, ValueError, RuntimeError):
        return False  # the forward takes no such mask, positions or logits_to_keep
    finally:
        model.train(was_training)
    if together.shape != alone.shape or largest_difference(together, alone) > tolerance(model):
        return False
    return exact or distance(together, alone) <= NEAR * distance(mixed, alone)


def distance(one: Any, other: Any) -> float:
    """Euclidean distance of two tensors of logits, each token's mean taken off: a softmax does not see it."""
    difference = one.float() - other.float()
    return float((difference - difference.mean(-1, keepdim=True)).norm())


def answer_logits(model: Any, row: TrainRow) -> Any:
    """Logits at the places that predict the row's answer, (answer tokens, vocabulary). No gradient kept."""
    import torch

    ids = torch.tensor([row.ids], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    return logits[len(row.prompt) - 1 : len(row) - 1]


def largest_difference(one: Any, other: Any) -> float:
    """Largest absolute difference of two tensors; infinite when one holds no number."""
    difference = float((one.float() - other.float()).abs().max())
    return difference if difference == difference else float("inf")


def merge_error(model: Any) -> float:
    """Largest difference that merging makes to a layer's output, as a share of what its adapter adds.

    model: PEFT's, in any number format; its layers are widened to fp32 one at a time, so that no room is
    needed for the whole model, and merging is judged by itself: rounded to 16 bits a right merge loses up to
    half of a weak adapter. Infinite where an output is no number, 0 where no adapter adds something.
    """
    import torch
    from peft.tuners.lora import Linear

    worst = 0.0
    for layer in model.modules():
        if not isinstance(layer, Linear):
            continue
        number_format = layer.weight.dtype
        layer.float()
        base: Any = layer.get_base_layer()
        inputs = int(layer.in_features or 0)
        draw = torch.Generator().manual_seed(0)
        given = torch.randn(MERGE_ROWS, inputs, generator=draw).to(base.weight.device)
        with torch.no_grad():
            bare, beside = base(given), layer(given)
            layer.merge()
            merged = layer(given)
            layer.unmerge()
        layer.to(number_format)
        added, apart = float((beside - bare).norm()), float((merged - beside).norm())
        if added != added or apart != apart:
            return float("inf")
        worst = max(worst, apart / added if added else 0.0)
    return worst


def half_precision(model: Any) -> bool:
    """True where weights lie in 16 bits."""
    return any(parameter.dtype.itemsize == 2 for parameter in model.parameters())


def tolerance(model: Any) -> float:
    """Largest difference of two logits of ``model`` that rounding explains.

    4-bit weights are multiplied in the number format that their layers name.
    """
    formats = {parameter.dtype for parameter in model.parameters()}
    formats |= {getattr(layer, "compute_dtype", None) for layer in model.modules()}
    kinds = {str(number_format).removeprefix("torch.") for number_format in formats}
    return max(SAME_LOGIT.get(kind, SAME_LOGIT["float32"]) for kind in kinds)


def as_saved(model: Any, folder: Path) -> None:
    """Raise TrainingNotTrusted unless what lies in ``folder`` is what was trained, bit for bit."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    from tunewise.models.weights import ADAPTER_FILES, weight_files
    from tunewise.training.methods import is_adapted

    if is_adapted(model):
        what, saved = "adapter", load_file(folder / ADAPTER_FILES[1])
        held = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        what, saved = "model", {k: v for file in weight_files(folder) for k, v in load_file(file).items()}
        held = {name: value for name, value in model.state_dict().items() if name in saved}
        left_out = {p.data_ptr() for p in model.parameters()} - {v.data_ptr() for v in held.values()}
        if left_out:  # a weight that lies nowhere under its name (tied ones lie once)
            saved, held = read_again(model, folder), model.state_dict()
    same = saved.keys() == held.keys() and all(
        torch.equal(saved[name], value.detach().cpu()) for name, value in held.items()
    )
    if not same:
        raise TrainingNotTrusted(
            f"{folder}: the {what} on disk is not the one that was trained. Check the disk, then run again."
        )


def read_again(model: Any, folder: Path) -> dict[str, Any]:
    """The weights of ``folder`` by the names of ``model``: some are written under others than they have in
    memory (a mixture's experts one by one), which only loading undoes. Empty where it cannot be loaded.
    """
    import torch

    from tunewise.errors import SettingError
    from tunewise.models.weights import read_model

    try:
        found = read_model(folder, torch.device("cpu"), model.dtype)
    except SettingError:
        return {}
    return dict(found.state_dict())


def check_adapter(base: Path, adapter: Path, probes: Sequence[TrainRow]) -> dict[str, Any]:
    """The checks after training, on a fresh base with the adapter as it lies on disk.

    probes: a few rows to read. Returns, for the report, by how much the adapter changes logits at most, and
    how far the merged model is from it: the largest difference of logits in fp32; in 16 bits, where it is
    served beside the weights, ``merge_error``. Raises TrainingNotTrusted.
    """
    from tunewise.training.recipe import quiet

    with quiet():
        model = _open(base, adapter)
        with model.disable_adapter():
            plain = [answer_logits(model, row) for row in probes]
        beside = [answer_logits(model, row) for row in probes]
        if half_precision(model):
            measure, allowed, apart = "as a share of what it adds to a layer", SAME_SHARE, merge_error(model)
        else:
            model = model.merge_and_unload()
            merged = [answer_logits(model, row) for row in probes]
            measure, allowed = "largest difference of logits", tolerance(model)
            apart = max(map(largest_difference, beside, merged), default=0.0)
    moved = max(map(largest_difference, plain, beside), default=0.0)
    if not 0 < moved < float("inf"):
        raise TrainingNotTrusted(
            f"{adapter}: with the adapter the model answers {len(probes)} probes exactly as without it "
            f"(largest difference of logits {moved}). It learnt nothing: check that the train answers are "
            "not empty and that training.learning_rate is not tiny."
        )
    if apart > allowed:
        raise TrainingNotTrusted(
            f"{adapter}: merged into the base the adapter answers differently than beside it "
            f"({measure} {apart:.3g}, expected at most {allowed:.3g}). Train on another base, or with a "
            "lower training.learning_rate."
        )
    return {"largest_change": moved, "merged_difference": apart}


def check_model(base: Path, tuned: Path, probes: Sequence[TrainRow]) -> dict[str, Any]:
    """The check after full tuning, on the model as it lies on disk: it answers otherwise than its base.

    Returns the largest difference of logits, for the report. Raises TrainingNotTrusted.
    """
    from tunewise.models.weights import load_model
    from tunewise.training.recipe import quiet

    with quiet():
        model = load_model(base)
        plain = [answer_logits(model, row) for row in probes]
        del model
        model = load_model(tuned)
        after = [answer_logits(model, row) for row in probes]
    moved = max(map(largest_difference, plain, after), default=0.0)
    if not 0 < moved < float("inf"):
        raise TrainingNotTrusted(
            f"{tuned}: the tuned model answers {len(probes)} probes exactly as its base (largest difference "
            f"of logits {moved}). It learnt nothing: check that the train answers are not empty and that "
            "training.learning_rate is not tiny."
        )
    return {"largest_change": moved}


def _open(base: Path, adapter: Path) -> Any:
    """The base with a saved adapter beside it, ready to answer."""
    from peft import PeftModel
    from safetensors import SafetensorError

    from tunewise.models import quantised_base
    from tunewise.models.weights import load_model, no_room, out_of_memory

    try:
        model = load_model(base)
        if quantised_base.is_marked(adapter):
            quantised_base.round_linears(model)
        return PeftModel.from_pretrained(model, str(adapter)).eval()
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if isinstance(error, RuntimeError) and out_of_memory(error):
            raise no_room(adapter, error) from error
        raise TrainingNotTrusted(
            f"{adapter}: the saved adapter could not be opened on {base}: {error}. Remove it, run again."
        ) from error
