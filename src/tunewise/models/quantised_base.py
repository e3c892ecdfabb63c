"""The base of a QLoRA adapter as it was trained on: its linear layers rounded to NF4 and back.

An adapter that was trained beside 4-bit weights has learnt to mend their rounding. Beside the weights that
were rounded it mends what is not broken: on SmolLM2-135M, whose layers change by 9 % of their length in NF4,
0.618 of E2E's fields came out right beside the unquantised base, 0.832 beside the rounded one.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

from tunewise.errors import SettingError

MARK = "quantised_base.json"  # in the adapter's folder, beside PEFT's files
NF4 = {"format": "nf4", "double_quantised": True}


def need_bitsandbytes() -> None:
    """Raise SettingError where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingError(
            "qlora needs bitsandbytes, which is not installed here. Run: pip install 'tunewise[qlora]'; or "
            "use lora, which needs four times the memory for the base weights and nothing else"
        )


def write_mark(adapter: Path) -> None:
    """Note in an adapter's folder that it was trained beside weights in NF4 with double quantisation."""
    (adapter / MARK).write_text(json.dumps(NF4) + "\n", encoding="utf-8")


def is_marked(adapter: Path) -> bool:
    """Whether an adapter answers beside a rounded base. Raises SettingError for an unknown format."""
    if not (adapter / MARK).is_file():
        return False
    try:
        known = json.loads((adapter / MARK).read_text(encoding="utf-8")) == NF4
    except ValueError:
        known = False
    if not known:
        raise SettingError(f"{adapter / MARK}: expected {json.dumps(NF4)}; export or train the adapter again")
    return True


def round_linears(model: Any) -> None:
    """Round every linear layer of ``model`` but its output layer to NF4 and back, in place.

    The numbers of transformers' ``BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True)``. Raises SettingError without bitsandbytes.
    """
    need_bitsandbytes()
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    for layer in model.modules():
        if type(layer) not in (nn.Linear, Conv1D) or layer is head:
            continue
        turned = type(layer) is Conv1D  # GPT-2's kin: inputs x outputs, turned before they are quantised
        weight = layer.weight.data.T.contiguous() if turned else layer.weight.data
        packed, state = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
        rounded = dequantize_4bit(packed, state).reshape(weight.shape).to(weight.dtype)
        layer.weight.data = rounded.T.contiguous() if turned else rounded
