"""Which GPUs a run fits on, and which change makes it fit."""

from dataclasses import replace

import pytest

from tunewise.estimation.fit import FRAGMENTS, Ways, fits, needs_of, smallest, verdict_of
from tunewise.estimation.hardware import find_gpu, load_hardware
from tunewise.estimation.memory import CONTEXT, NCCL, memory
from tunewise.estimation.models import find_model
from tunewise.estimation.setup import Setup

LLAMA = find_model("Llama-3.1-8B")
CATALOGUE = load_hardware()


def fit(gpu: str, **setup):
    return Ways(LLAMA, Setup(seq_len=4096, **setup).complete(), 1.0).on(find_gpu(gpu, CATALOGUE))


def test_the_verdict_compares_both_needs_with_what_can_be_used():
    assert [verdict_of(10, 12, usable) for usable in (12, 11.9, 10, 9.9)] == ["fits", "tight", "tight", "no"]


def test_needs_add_the_context_and_on_several_gpus_the_collectives_buffers():
    one = Setup(method="lora", seq_len=1024).complete()
    two = replace(one, gpus=2, sharding="ddp")
    found = memory(LLAMA, one)
    held = found.parts["weights"] + found.parts["adapter"] + found.parts["optimizer"]
    assert needs_of(found, one) == (
        pytest.approx(found.allocated.expected + FRAGMENTS * (found.allocated.expected - held) + CONTEXT),
        pytest.approx(found.allocated.high + CONTEXT),
    )
    assert needs_of(found, two)[1] - needs_of(found, one)[1] == pytest.approx(NCCL)
    assert needs_of(found, one, factor=2.0)[1] == pytest.approx(2 * found.allocated.high + CONTEXT)


def test_a_larger_gpu_never_has_a_worse_verdict():
    order = {"fits": 0, "tight": 1, "no": 2}
    for method in ("full", "lora", "qlora"):
        found = sorted(
            fits(LLAMA, Setup(method=method, seq_len=4096), CATALOGUE), key=lambda f: f.gpu.usable_gib
        )
        verdicts = [order[one.verdict] for one in found]
        assert verdicts == sorted(verdicts, reverse=True)


def test_the_smallest_gpu_fits_and_no_smaller_one_with_a_price_does():
    found = fits(LLAMA, Setup(method="lora", seq_len=4096), CATALOGUE)
    best = smallest(found)
    for one in found:
        if one.gpu.price is not None and one.gpu.memory_gib < best.memory_gib:
            assert one.verdict != "fits"


def test_what_fits_needs_no_change():
    assert fit("H200", method="lora").changes == ()


def test_the_change_proposed_makes_it_fit_when_it_is_made():
    found = fit("RTX 4090", method="lora")
    assert found.verdict != "fits"
    assert [change.name for change in found.changes] == ["cross-entropy"]
    changed = Setup(method="lora", seq_len=4096, cross_entropy="fused").complete()
    assert needs_of(memory(LLAMA, changed), changed)[1] == pytest.approx(found.after)
    assert found.after <= find_gpu("RTX 4090", CATALOGUE).usable_gib


def test_free_changes_come_before_those_that_cost_time_or_quality():
    ways = Ways(
        LLAMA, Setup(method="full", seq_len=4096, micro_batch=4, checkpointing="none").complete(), 1.0
    )
    names = [change.name.split(":")[0] for change, _ in ways.changes]
    first = list(dict.fromkeys(names))
    assert first == ["cross-entropy", "optimizer", "checkpointing", "micro-batch", "method", "length", "fsdp"]


def test_of_several_changes_none_is_superfluous():
    found = fit("T4", method="full")
    names = tuple(change.name for change in found.changes)
    assert len(names) >= 2
    ways = Ways(LLAMA, Setup(method="full", seq_len=4096).complete(), 1.0)
    usable = find_gpu("T4", CATALOGUE).usable_gib
    assert ways.after(names)[1] <= usable
    for dropped in names:
        assert ways.after(tuple(name for name in names if name != dropped))[1] > usable


def test_a_gpu_without_bf16_is_read_as_fp16_and_says_so():
    assert fit("T4", method="qlora").note == "in fp16: it has no bf16"


def test_what_no_change_can_fit_says_nothing_it_cannot_keep():
    found = Ways(find_model("Llama-3.1-405B"), Setup(method="full", seq_len=4096).complete(), 1.0).on(
        find_gpu("T4", CATALOGUE)
    )
    assert (found.verdict, found.changes, found.after) == ("no", (), None)


def test_a_published_run_that_filled_an_a100_is_not_called_impossible():
    """Llama-3-8B, full, pure bf16, AdamW foreach: 74.80 GiB allocated on an A100 80GB (fms-acceleration)."""
    shape = find_model("Llama-3-8B")
    setup = Setup(method="full", seq_len=4096, micro_batch=4, cross_entropy="fused").complete()
    assert Ways(shape, setup, 1.0).on(find_gpu("A100", CATALOGUE)).verdict == "tight"


def test_a_sharded_run_can_be_spread_over_more_gpus():
    shape = find_model("Llama-3.1-70B")
    setup = Setup(method="qlora", seq_len=2048, gpus=2, sharding="fsdp").complete()
    found = Ways(shape, setup, 1.0).on(find_gpu("RTX 4090", CATALOGUE))
    assert found.verdict == "no"
    assert any(change.name.startswith("fsdp:") for change in found.changes)
