"""Which of the methods that train weights climbs."""

from dataclasses import replace

import pytest

from tunewise.left_out import static_reasons
from tunewise.rungs.order import rungs_for
from tunewise.rungs.tuned_settings import method_that_fits
from tunewise.task import Tune


@pytest.fixture
def bench(make_bench, make_row):
    made = make_bench(lambda messages: "?", train=[make_row(f"t{n}") for n in range(20)])
    return replace(made, tune_door=lambda adapter: made.door)


def tuned(reasons):
    return {name: reasons[name] for name in ("lora", "qlora", "full") if name in reasons}


def test_lora_climbs_unless_another_method_is_named(bench):
    reasons = tuned(static_reasons(rungs_for(), bench, None))
    assert reasons.keys() == {"qlora", "full"}
    assert reasons["full"].endswith("name full with --rungs or tune.method to have it measured")
    task = bench.task.model_copy(update={"tune": Tune(method="full")})
    assert tuned(static_reasons(rungs_for(), replace(bench, task=task), None)).keys() == {"lora", "qlora"}


def test_rungs_that_are_named_are_all_measured(bench):
    assert not tuned(static_reasons(rungs_for(), bench, ["lora", "qlora", "full"]))


def test_qlora_takes_the_place_of_lora_where_only_it_fits(bench, monkeypatch):
    from tunewise.training import probe

    task = bench.task.model_copy(update={"tune": Tune(model="Llama-3.1-8B")})
    monkeypatch.setattr(probe, "this_device", lambda what: "RTX 4060 Ti 16GB")
    large = replace(bench, task=task)
    method, why = method_that_fits(large)
    assert method == "qlora", why
    assert "lora needs" in why
    small = replace(bench, task=bench.task.model_copy(update={"tune": Tune(model="SmolLM2-135M")}))
    assert method_that_fits(small) == ("lora", "")
