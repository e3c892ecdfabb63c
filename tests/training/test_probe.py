"""The probe on a tiny model, and what a run leaves in the calibration file."""

import json

import pytest

pytest.importorskip("trl")

import tunewise
from tunewise.estimation.calibration import calibration_file, read_records
from tunewise.training.measured import against_estimate
from tunewise.training.probe import ProbeSetup, probe, probe_and_record


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("recompute", [False, True])
def test_counted_memory_of_a_tiny_model_agrees_with_the_estimate(tiny, method, recompute):
    found = probe(tiny, ProbeSetup(method, 128, 4, recompute=recompute))
    said = tunewise.estimate(
        tiny,
        method=method,
        lengths=128,
        micro_batch=4,
        gpu="cpu",
        attention="sdpa",
        checkpointing="full" if recompute else "none",
    )
    assert found.trainable_parameters == said.memory.trainable
    assert said.memory.allocated.expected * 2**30 == pytest.approx(found.peak_bytes, rel=0.10)


def what(**changed):
    return {
        "method": "lora",
        "lengths": 64,
        "rows": None,
        "hardware": None,
        "attention": "flash",
        "checkpointing": "none",
        **changed,
    }


def test_a_probe_aims_the_estimate_at_this_machine_corrects_it_and_is_kept(tiny, own_home):
    given = what()
    found = probe_and_record(str(tiny), given)
    assert given["gpu"] == "cpu"
    said = tunewise.estimate(str(tiny), **given)
    assert said.memory.allocated.expected == pytest.approx(found["measured_gib"], rel=0.01)
    assert said.calibrated.runs == 1
    kept = read_records()
    assert [(one.source, one.length) for one in kept] == [("probe", 64)]


def test_a_training_run_keeps_its_estimate_beside_what_was_measured(tiny, own_home):
    facts = {
        "rank": 8,
        "memory": {
            "peak_bytes": 3_000_000,
            "pass_tokens": 128,
            "pass_logits": 16,
            "computed_tokens_per_second": 1e4,
        },
    }
    found = against_estimate(str(tiny), facts)
    assert found["measured_gib"] == pytest.approx(3_000_000 / 2**30, abs=1e-4)
    [kept] = read_records()
    assert (kept.source, kept.method, kept.length) == ("train", "lora", 128)
    assert kept.measured_seconds == pytest.approx(0.0128)


def test_a_model_that_cannot_be_estimated_or_a_file_that_cannot_be_written_fails_no_run(
    tiny, own_home, monkeypatch
):
    facts = {"rank": 8, "memory": {"peak_bytes": 1, "pass_tokens": 1, "pass_logits": 1}}
    facts["memory"]["computed_tokens_per_second"] = None
    assert "not_estimated" in against_estimate("no such model at all", facts)
    assert against_estimate(str(tiny), {"memory": None}) is None
    blocked = own_home / "file"
    blocked.write_text("")
    monkeypatch.setenv("TUNEWISE_HOME", str(blocked))
    assert "could not be kept" in against_estimate(str(tiny), facts)["not_kept"]


@pytest.mark.parametrize("lean", [False, True])
def test_the_lora_rung_s_trainer_watches_memory_after_the_first_step(tiny, rows, tmp_path, own_home, lean):
    from tunewise.progress import Silent
    from tunewise.training.recipe import Recipe, train

    recipe = Recipe(1e-3, 1.0, 0.0, 1.0, 4, 8, 0, "fp32", lean=lean)
    trained = train(tiny, rows, (), recipe, tmp_path / "work", Silent())
    seen = trained.facts["memory"]
    assert seen["pass_tokens"] >= seen["pass_logits"] > 0
    found = against_estimate(str(tiny), trained.facts)
    assert found["ratio"] == pytest.approx(found["measured_gib"] / found["estimated_gib"], rel=0.01)
    # a model this small is mostly masks and rotations, which lean layers hold more of at once
    assert 0.4 < found["ratio"] < (4.0 if lean else 1.6)
    assert json.loads(calibration_file().read_text())["source"] == "train"
