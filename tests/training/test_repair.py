"""A part of what was trained: the weights are base + scale * (tuned - base), whatever was tuned."""

import json
from dataclasses import replace

import pytest

from tunewise.progress import Silent
from tunewise.training.recipe import Recipe, train
from tunewise.training.repair import write_scaled

RECIPE = Recipe(
    learning_rate=1e-2, epochs=1.0, weight_decay=0.0, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32",
)  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_at_a_scale_lie_between_base_and_tuned(method, tiny, rows, tmp_path):
    import torch

    from tunewise.models.weights import load_model

    run = train(tiny, rows[:16], (), replace(RECIPE, method=method), tmp_path / "work", Silent())
    tuned = run.snapshots[-1].folder
    write_scaled(tiny, tuned, 0.25, tmp_path / "quarter", method)

    def weights(folder):
        model = load_model(tiny, folder) if method == "lora" else load_model(folder)
        return model.state_dict()

    before, after, between = load_model(tiny).state_dict(), weights(tuned), weights(tmp_path / "quarter")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name, value in between.items():
        expected = before[name] + 0.25 * (after[name] - before[name])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_scale_outside_zero_and_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a scale in \(0, 1\]"):
        write_scaled(tmp_path, tmp_path, 0.0, tmp_path / "out", "lora")


def test_layers_with_an_alpha_of_their_own_are_weakened_too(tmp_path):
    """PEFT gives the experts of a mixture theirs under alpha_pattern."""
    tuned, folder = tmp_path / "tuned", tmp_path / "half"
    tuned.mkdir()
    config = {"lora_alpha": 16, "alpha_pattern": {"gate_up_proj": 32}}
    (tuned / "adapter_config.json").write_text(json.dumps(config))
    write_scaled(tmp_path, tuned, 0.5, folder, "lora")
    assert json.loads((folder / "adapter_config.json").read_text()) == {
        "lora_alpha": 8.0,
        "alpha_pattern": {"gate_up_proj": 16.0},
    }
