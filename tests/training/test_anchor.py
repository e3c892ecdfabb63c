"""KL to the base: the value and gradient of the definition, nothing at the start, and less drift with it."""

from dataclasses import replace

import pytest

from tunewise.progress import Silent
from tunewise.training.recipe import Recipe, quiet, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=2.0, weight_decay=0.0, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", kl_weight=0.5, kl_rows=3,
)  # fmt: skip


def moved(base, recipe):
    """A model that is no longer its base."""
    import torch

    from tunewise.training import methods

    model = methods.attach(methods.open_base(base, recipe), recipe)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def by_hand(base, model, rows):
    """KL(base || tuned) per answer token, row by row, from plain logits and the definition."""
    import torch

    from tunewise.models.weights import load_model

    plain, found = load_model(base).eval(), []
    for row in rows:
        ids, begin = torch.tensor([row.ids]), len(row.prompt)
        assert row.learnt == ((begin, len(row)),)
        with torch.no_grad():
            p = plain(input_ids=ids).logits[0, begin - 1 : -1].double().softmax(-1)
        q = model(input_ids=ids).logits[0, begin - 1 : -1].double().softmax(-1)
        found.append((p * (p.log() - q.log())).sum(-1))
    return torch.cat(found).mean()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_value_and_gradient_are_those_of_the_definition(method, tiny, rows):
    import torch

    from tunewise.training.anchor import anchor_of

    recipe = replace(RECIPE, method=method)
    with quiet():
        model = moved(tiny, recipe)
        anchor = anchor_of(tiny, model, rows[:7], recipe)
        value = anchor.divergence(model, anchor.inputs(model, 1))
        value.backward()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [parameter.grad.clone() for parameter in trained]
        expected = by_hand(tiny, model, anchor.of_step(1))
        model.zero_grad()
        expected.backward()
    value = float(value.detach())
    assert value == pytest.approx(float(expected.detach()), rel=1e-4)
    assert value > 1e-3
    for came, parameter in zip(gradients, trained, strict=True):
        torch.testing.assert_close(came, parameter.grad, rtol=1e-3, atol=1e-5)


def test_an_untouched_model_does_not_differ_from_its_base(tiny, rows):
    from tunewise.training import methods
    from tunewise.training.anchor import anchor_of

    with quiet():
        model = methods.attach(methods.open_base(tiny, RECIPE), RECIPE)
        anchor = anchor_of(tiny, model, rows[:7], RECIPE)
        assert float(anchor.divergence(model, anchor.inputs(model, 0))) == pytest.approx(0.0, abs=1e-6)


def test_steps_go_round_all_rows_in_one_order(tiny, rows):
    from tunewise.training.anchor import Anchor

    anchor = Anchor(rows[:7], 0.1, 3, seed=3)
    some = [row.key for step in range(7) for row in anchor.of_step(step)]
    assert sorted(some[:7]) == sorted(row.key for row in rows[:7])
    assert some[:7] == some[7:14] == some[14:]


def test_with_it_training_stays_nearer_to_the_base(tiny, rows, tmp_path):
    hard = replace(RECIPE, learning_rate=2e-2, epochs=4.0, kl_weight=20.0)
    free = train(tiny, rows[:24], (), replace(hard, kl_weight=0.0), tmp_path / "free", Silent())
    held = train(tiny, rows[:24], (), hard, tmp_path / "held", Silent(), general=rows[24:30])
    from tunewise.models.weights import load_model

    drift = [
        float(by_hand(tiny, load_model(tiny, run.snapshots[-1].folder).eval(), rows[30:36]).detach())
        for run in (free, held)
    ]
    assert drift[1] < 0.5 * drift[0], drift
    assert "kl" not in free.facts
    assert held.facts["kl"][0] == pytest.approx(0.0, abs=1e-6)
    assert len(held.facts["kl"]) == held.facts["steps"]


def test_a_weight_without_rows_is_refused(tiny, rows, tmp_path):
    with pytest.raises(ValueError, match="needs general rows"):
        train(tiny, rows[:8], (), RECIPE, tmp_path, Silent())


def test_a_memory_that_the_general_rows_fill_is_not_blamed_on_the_rows_of_the_task(
    tiny, rows, tmp_path, monkeypatch
):
    import torch

    from tunewise.errors import WorldError
    from tunewise.training.anchor import Anchor

    def full(self, model, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Anchor, "divergence", full)
    with pytest.raises(WorldError, match=r"pass of training\.kl: 3 general rows.*Lower training\.kl\.rows"):
        train(tiny, rows[:16], (), RECIPE, tmp_path, Silent(), general=rows[20:30])
