"""Counted tensor storages against sizes known by hand."""

import pytest

torch = pytest.importorskip("torch")

from tunewise.training.tensor_memory import measured  # noqa: E402


def test_the_peak_counts_what_lives_at_once_and_forgets_what_is_freed():
    one = torch.zeros(1000, 1000)
    with measured(one) as gauge:
        two = one + 1
        three = two * 2
        del two
        four = three + 1
    assert gauge.peak == 3 * one.nbytes
    assert four.shape == three.shape


def test_views_share_the_storage_they_look_into():
    base = torch.zeros(100, 100)
    with measured(base) as gauge:
        views = [base[1:], base.t(), base.view(-1)]
    assert gauge.peak == base.nbytes
    assert len(views) == 3


def test_a_module_counts_with_its_gradients_and_its_optimizer_s_states():
    layer = torch.nn.Linear(500, 500, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), foreach=True)
    layer(torch.zeros(2, 500)).sum().backward()
    optimizer.step()
    with measured(layer, optimizer) as gauge:
        pass
    weights = 500 * 500 * 4
    assert gauge.peak == pytest.approx(4 * weights, rel=0.001)


def test_foreach_adamw_needs_one_more_copy_of_the_weights_for_a_moment():
    layers = torch.nn.ModuleList(torch.nn.Linear(200, 200, bias=False) for _ in range(5))
    optimizer = torch.optim.AdamW(layers.parameters(), foreach=True)
    for _ in range(2):
        sum(layer(torch.zeros(1, 200)).sum() for layer in layers).backward()
        with measured(layers, optimizer) as gauge:
            optimizer.step()
    assert gauge.peak == pytest.approx(5 * 5 * 200 * 200 * 4, rel=0.01)
