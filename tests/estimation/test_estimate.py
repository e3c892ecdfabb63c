"""The whole estimate: what goes in, what comes out, what is refused."""

import json
import subprocess
import sys

import pytest

import tunewise
from tunewise.errors import SettingError
from tunewise.estimation.calibration import Correction, Record, record

MODEL = "Llama-3.1-8B"


def test_every_range_is_ordered_and_the_document_is_json():
    document = tunewise.estimate(MODEL, method="qlora", lengths=2048, rows=1000, gpu="A100").to_json()
    json.dumps(document, allow_nan=False)

    def check(node):
        if isinstance(node, dict):
            if set(node) == {"low", "expected", "high"}:
                assert 0 <= node["low"] <= node["expected"] <= node["high"]
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(document)
    memory = document["memory"]
    assert memory["allocated_gib"]["expected"] <= memory["reserved_gib"]["expected"]
    assert memory["reserved_gib"]["expected"] < memory["device_gib"]["expected"]
    peak = max(memory["phases_gib"][phase] for phase in ("loss", "backward", "step"))
    assert memory["allocated_gib"]["expected"] == pytest.approx(peak)


def test_full_tuning_in_pure_bf16_peaks_at_five_times_the_weights():
    """Weights, gradients, two moments and the transient of foreach AdamW, published for Llama-3-8B: 74.80."""
    found = tunewise.estimate("Llama-3-8B", method="full", lengths=4096, micro_batch=4, cross_entropy="fused")
    assert found.memory.allocated.expected == pytest.approx(5 * 8_030_261_248 * 2 / 2**30, rel=0.01)
    assert found.memory.allocated.expected == pytest.approx(74.80, rel=0.01)


def test_the_run_s_time_and_money_follow_from_rows_epochs_and_price():
    one = tunewise.estimate(MODEL, lengths=1024, rows=1000, epochs=1, gpu="A100", price=2.0).run
    three = tunewise.estimate(MODEL, lengths=1024, rows=1000, epochs=3, gpu="A100", price=2.0).run
    assert one.steps == 1000
    assert three.steps == 3000
    per_step = one.speed.step_seconds.expected
    assert three.seconds.expected - one.seconds.expected == pytest.approx(2000 * per_step)
    assert one.usd.expected == pytest.approx(one.seconds.expected / 3600 * 2.0)


def test_memory_follows_the_longest_row_and_time_the_padded_mean():
    even = tunewise.estimate(MODEL, lengths=[512] * 9 + [4096], gpu="A100")
    long = tunewise.estimate(MODEL, lengths=4096, gpu="A100")
    assert even.memory.allocated == long.memory.allocated
    assert even.setup.mean_len == pytest.approx(870.4)
    assert even.run.seconds.expected > 0


def test_without_a_gpu_time_is_told_for_the_smallest_that_fits():
    found = tunewise.estimate(MODEL, method="lora", lengths=2048)
    assert found.run.gpu == found.smallest
    assert found.fit is None


def test_bf16_on_a_t4_is_refused_when_asked_for_and_replaced_when_not():
    with pytest.raises(SettingError, match="T4 has no bf16"):
        tunewise.estimate(MODEL, method="qlora", gpu="T4", compute_dtype="bf16")
    found = tunewise.estimate(MODEL, method="qlora", gpu="T4")
    assert found.setup.compute_dtype == "fp16"
    assert any("T4 has no bf16" in warning for warning in found.warnings)


def test_this_machine_s_processor_computes_in_float32():
    found = tunewise.estimate("embedded", method="lora", lengths=256, gpu="cpu", attention="sdpa")
    assert (found.setup.compute_dtype, found.setup.weight_dtype) == ("fp32", "fp32")
    assert found.fit.gpu.name == "cpu"
    assert tunewise.estimate("embedded", method="qlora", gpu="cpu").setup.weight_dtype == "nf4-dq"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "Llama-3.1-9B"}, "unknown model"),
        ({"gpu": "A1000"}, "unknown GPU 'A1000'"),
        ({"lora_targets": ("q_porj",)}, "did you mean 'q_proj'"),
        ({"lengths": 0}, "seq_len must be a whole number from 1"),
        ({"lengths": -5}, "seq_len must be a whole number from 1"),
        ({"lengths": []}, "at least one number of tokens"),
        ({"rows": 0}, "rows must be 1 or more"),
        ({"epochs": -1.0}, "epochs must be a number above 0"),
        ({"method": "dora"}, "unknown method 'dora'"),
        ({"stak": "hf"}, "unknown setting 'stak'"),
        ({"price": -2.0}, "0 or more"),
        ({"concurrency": 0}, "start at 1"),
    ],
)
def test_mistakes_are_refused_with_what_was_expected(given, said):
    with pytest.raises(SettingError) as error:
        tunewise.estimate(**{"model": MODEL, **given})
    assert said in str(error.value)


def test_a_length_beyond_the_model_s_positions_is_estimated_with_a_warning():
    found = tunewise.estimate("gpt2", method="full", lengths=4096)
    assert any("positions of gpt2" in warning for warning in found.warnings)


def test_earlier_runs_on_the_same_machine_correct_the_estimate_and_are_named(own_home):
    settings = {"method": "lora", "lengths": 256, "gpu": "cpu"}
    before = tunewise.estimate("embedded", **settings)
    record(Record("train", before.shape.name, "lora", "hf", "cpu", 1.0, 1.1))
    after = tunewise.estimate("embedded", **settings)
    assert after.memory.allocated.expected == pytest.approx(1.1 * before.memory.allocated.expected)
    assert "1 measured run of" in after.calibrated.said
    plain = tunewise.estimate("embedded", calibrate=False, **settings)
    assert plain.memory.allocated == before.memory.allocated
    other = tunewise.estimate("embedded", method="lora", lengths=256, gpu="A100")
    assert other.calibrated.runs == 0


def test_a_correction_can_be_handed_in():
    found = tunewise.estimate(MODEL, gpu="A100", calibrate=Correction(memory=1.2, time=2.0, runs=1, said="x"))
    plain = tunewise.estimate(MODEL, gpu="A100")
    assert found.memory.allocated.high == pytest.approx(1.2 * plain.memory.allocated.high)
    assert found.run.seconds.expected == pytest.approx(2.0 * plain.run.seconds.expected, rel=0.2)


def test_an_estimate_loads_neither_torch_nor_numpy_nor_the_network():
    code = (
        "import sys, tunewise; tunewise.estimate('Llama-3.1-8B', gpu='cpu').to_json();"
        "print([m for m in ('torch','transformers','numpy','scipy','httpx','pydantic','jinja2','tokenizers') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
