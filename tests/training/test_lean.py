"""The lean operations of training compute what the plain formulas compute, forward and back."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tunewise.progress import Silent
from tunewise.training.masks import IGNORED
from tunewise.training.packing import tensors
from tunewise.training.recipe import Recipe, quiet, train

RECIPE = Recipe(
    learning_rate=2e-3, epochs=1.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32",
)  # fmt: skip


def drawn(*shape, grad=True):
    import torch

    return torch.randn(*shape).requires_grad_(grad)


def assert_same(ours, plain, inputs):
    """The same value, and the same gradients of ``inputs`` for a gradient drawn at random."""
    import torch

    one, other = ours(), plain()
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    grad = torch.randn_like(other)
    for a, b in zip(
        torch.autograd.grad(one, inputs, grad), torch.autograd.grad(other, inputs, grad), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.fixture(autouse=True)
def seeded():
    import torch

    torch.manual_seed(11)


def adapted(base: Path, method: str = "lora") -> Any:
    """The model as training has it at its start, but that the adapter already does something."""
    import torch

    from tunewise.training import methods

    recipe = dataclasses.replace(RECIPE, method=method)
    with quiet():
        model = methods.attach(methods.open_base(base, recipe), recipe)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_lora_linear_is_the_frozen_product_plus_the_scaled_low_rank_one(bias):
    from tunewise.training.fused_layers import lora_linear

    x, a, b = drawn(1, 7, 12), drawn(3, 12), drawn(10, 3)
    weight, offset = drawn(10, 12, grad=False), drawn(10, grad=False) if bias else None
    assert_same(
        lambda: lora_linear(x, weight, offset, a, b, 2.0),
        lambda: x @ weight.t() + (0 if offset is None else offset) + 2.0 * ((x @ a.t()) @ b.t()),
        (x, a, b),
    )


def test_factors_in_bf16_leave_the_products_of_the_adapter_and_of_long_rows_exact():
    """They are small: rounding costs more time than it saves, and adapters begin with small differences."""
    import torch

    from tunewise.models.precision import products
    from tunewise.training import row_attention
    from tunewise.training.fused_layers import lora_linear

    x, a, b = drawn(1, 64, 256), drawn(8, 256), drawn(128, 8)
    q, k, v = (drawn(1, heads, 320, 64) for heads in (6, 2, 2))
    rows = row_attention.layout(0, [320])
    with products("bf16"):
        low = lora_linear(x, torch.zeros(128, 256), None, a, b, 1.0)
        mixed = row_attention.attend(None, q, k, v, None, row_layout=rows)[0]
        grads = [*torch.autograd.grad(low.sum(), (a, b)), *torch.autograd.grad(mixed.sum(), (q, k, v))]
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, a, b, q, k, v)]
    wide_low = (exact[0] @ exact[1].t()) @ exact[2].t()
    wide_mixed = torch.nn.functional.scaled_dot_product_attention(*exact[3:], is_causal=True, enable_gqa=True)
    wide_grads = torch.autograd.grad(wide_low.sum(), exact[1:3])
    wide_grads += torch.autograd.grad(wide_mixed.sum(), exact[3:])
    pairs = [(low, wide_low), (mixed, wide_mixed.transpose(1, 2)), *zip(grads, wide_grads, strict=True)]
    for found, right in pairs:
        assert torch.linalg.vector_norm(found - right) < 1e-5 * torch.linalg.vector_norm(right)


def test_linear_layers_that_read_the_same_are_each_its_own_formula():
    import torch

    from tunewise.training.fused_layers import sibling_linears

    x, bias = drawn(2, 7, 12), drawn(6)
    kinds = [(10, 3, None, 2.0), (4, 3, None, 2.0), (6, 5, bias, 0.5)]  # outputs, rank, bias, scale
    layers = [(drawn(o, 12).detach(), c, drawn(r, 12), drawn(o, r), scale) for o, r, c, scale in kinds]
    learnt = (x, *(part for layer in layers for part in layer[2:4]))

    def plain():
        rows = [
            x @ w.t() + (0 if c is None else c.detach()) + scale * (x @ a.t()) @ b.t()
            for w, c, a, b, scale in layers
        ]
        return torch.cat(rows, -1)

    given = [(w, None if c is None else c.detach(), a, b, scale) for w, c, a, b, scale in layers]
    assert_same(lambda: torch.cat(sibling_linears(x, given), -1), plain, learnt)


def test_siblings_answer_for_what_they_are_asked_in_any_order(tiny, rows):
    import torch

    from tunewise.training import lean

    model = adapted(tiny)
    attention = model.get_base_model().model.layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    one, other = (torch.randn(1, 5, 32) for _ in range(2))
    asked = [(0, one), (1, one), (1, one), (2, other), (0, other), (2, other), (0, one), (1, other)]
    own = [layers[number](x) for number, x in asked]
    forwards = lean.siblings_in(model)
    assert len(forwards) == 5 * len(model.get_base_model().model.layers)
    for (number, x), right in zip(asked, own, strict=True):
        torch.testing.assert_close(forwards[layers[number]](x), right, atol=1e-6, rtol=1e-5)


def test_siblings_multiply_once_for_all_and_keep_nothing(tiny, monkeypatch):
    import torch

    from tunewise.training import fused_layers, lean

    model = adapted(tiny)
    attention = model.get_base_model().model.layers[0].self_attn
    group = lean.Siblings([attention.q_proj, attention.k_proj, attention.v_proj])
    calls, inner = [], fused_layers.sibling_linears
    monkeypatch.setattr(fused_layers, "sibling_linears", lambda *given: calls.append(1) or inner(*given))
    monkeypatch.setattr(fused_layers, "lora_linear", None)
    x = torch.randn(1, 5, 32)
    for number in range(3):
        group(number, x)
    assert (len(calls), group.left, group.read) == (1, {}, None)


def test_rms_norm_divides_by_the_root_mean_square():
    import torch

    from tunewise.training.fused_layers import rms_norm

    x, w = drawn(1, 5, 16), drawn(16)
    assert_same(
        lambda: rms_norm(x, w, 1e-5),
        lambda: w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5),
        (x, w),
    )


def test_swiglu_gates_with_silu():
    import torch

    from tunewise.training.fused_layers import swiglu

    gate, up = drawn(4, 9), drawn(4, 9)
    assert_same(lambda: swiglu(gate, up), lambda: gate * torch.sigmoid(gate) * up, (gate, up))


def test_rotary_is_what_transformers_applies():
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    from tunewise.training.fused_layers import rotary

    q, k = drawn(1, 6, 4, 8).transpose(1, 2), drawn(1, 6, 2, 8).transpose(1, 2)
    angles = torch.randn(1, 6, 8)
    given = (q, k, angles.cos(), angles.sin())
    for place in (0, 1):
        assert_same(
            lambda p=place: rotary(*given)[p], lambda p=place: apply_rotary_pos_emb(*given)[p], (q, k)[place]
        )


@pytest.mark.parametrize("chunk", [16, 1000])
def test_cross_entropy_in_chunks_is_torchs_sum_with_ignored_places(chunk, monkeypatch):
    import torch

    from tunewise.training import fused_layers

    monkeypatch.setattr(fused_layers, "CHUNK_BYTES", chunk * 4 * 30)
    hidden, weight = drawn(40, 8), drawn(30, 8)
    targets = torch.randint(0, 30, (40,))
    targets[[3, 39]] = IGNORED
    assert_same(
        lambda: fused_layers.summed_cross_entropy(hidden, weight, targets),
        lambda: torch.nn.functional.cross_entropy(
            hidden @ weight.t(), targets, ignore_index=IGNORED, reduction="sum"
        ),
        (hidden, weight),
    )


@pytest.mark.parametrize("kernel", ["plain", "flash"])
@pytest.mark.parametrize("stem", [0, 5])
@pytest.mark.parametrize("lengths", [[9, 40, 3, 38], [40, 9, 11, 10]])
def test_rows_see_the_stem_and_themselves_as_under_the_mask_of_the_pack(kernel, stem, lengths, monkeypatch):
    import torch

    from tunewise.training import row_attention
    from tunewise.training.packing import mask_of

    monkeypatch.setattr(row_attention, "PLAIN_UP_TO", 1000 if kernel == "plain" else 0)
    segments = [0] * stem + [n for n, length in enumerate(lengths, start=1) for _ in range(length)]
    q, k, v = (drawn(1, heads, len(segments), 8) for heads in (6, 2, 2))
    rows = row_attention.layout(stem, lengths)
    if lengths[0] == 40:
        assert [group.in_place for group in rows.groups] == [True, False]  # read where it stands
    else:
        assert len(rows.groups) == 3  # 40 and 38 stand side by side
    assert_same(
        lambda: row_attention.attend(None, q, k, v, None, row_layout=rows)[0],
        lambda: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask_of(segments), enable_gqa=True
        ).transpose(1, 2),
        (q, k, v),
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_loss_and_gradients_of_a_lean_pack_are_those_of_the_models_own_layers(method, tiny, rows):
    import torch

    from tunewise.training import lean

    model = adapted(tiny, method)
    own = lean.learnt(model, *lean.own_loss(model, tensors(rows[:6])))
    attention = model.config._attn_implementation
    with lean.installed(model):
        ours = lean.learnt(model, *lean.pack_loss(model, tensors(rows[:6], lean=True)))
    torch.testing.assert_close(ours[0], own[0])
    torch.testing.assert_close(ours[1], own[1], atol=1e-6, rtol=1e-3)
    assert lean.agrees(model, rows)
    assert model.config._attn_implementation == attention
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_a_long_row_among_short_ones_is_read_in_place_with_the_gradients_of_the_models_own_layers(tiny, rows):
    import torch

    from tunewise.training import lean

    model = adapted(tiny)
    long = dataclasses.replace(rows[0], answer=rows[0].answer * 6)
    some = [rows[1], rows[2], long, rows[3]]
    given = tensors(some, lean=True)
    assert given["row_layout"].groups[0].in_place
    own = lean.learnt(model, *lean.own_loss(model, tensors(some)))
    with lean.installed(model):
        ours = lean.learnt(model, *lean.pack_loss(model, given))
    torch.testing.assert_close(ours[0], own[0])
    torch.testing.assert_close(ours[1], own[1], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_logits_that_would_fill_the_memory_are_made_in_parts_with_the_same_loss_and_gradients(
    method, tiny, rows, monkeypatch
):
    import torch

    from tunewise.training import lean, methods, packing

    recipe = dataclasses.replace(RECIPE, method=method)
    with quiet():
        model = methods.attach(methods.open_base(tiny, recipe), recipe)
    inputs = tensors(rows[:6])
    whole = lean.learnt(model, *lean.own_loss(model, inputs))
    made, chunk = [], lean.chunked_loss
    monkeypatch.setattr(lean, "chunked_loss", lambda *given: made.append(1) or chunk(*given))
    monkeypatch.setattr(packing, "LOGIT_BYTES", 4 * 16 * model.config.vocab_size)
    parts = lean.learnt(model, *lean.own_loss(model, inputs))
    assert made == [1]
    torch.testing.assert_close(parts[0], whole[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts[1], whole[1], atol=1e-6, rtol=1e-4)
    model.config.final_logit_softcapping = 30.0  # done to logits after the products: they stay whole
    lean.own_loss(model, inputs)
    assert made == [1]


def test_a_model_whose_formulas_differ_keeps_its_own_layers(tiny, rows, monkeypatch, tmp_path):
    from tunewise.training import fused_layers

    inner = fused_layers.rms_norm
    monkeypatch.setattr(fused_layers, "rms_norm", lambda x, w, eps: inner(x, w + 0.01, eps))
    run = train(tiny, rows[:8], (), RECIPE, tmp_path, Silent())
    assert run.facts["lean"] is False
    assert run.facts["packed"] is True


def test_lean_training_follows_the_losses_of_the_models_own_layers(tiny, rows, tmp_path):
    runs = {
        lean: train(
            tiny,
            rows[:24],
            rows[30:36],
            dataclasses.replace(RECIPE, lean=lean),
            tmp_path / str(lean),
            Silent(),
        )
        for lean in (None, False)
    }
    assert [runs[lean].facts["lean"] for lean in runs] == [True, False]
    assert runs[None].facts["losses"] == pytest.approx(runs[False].facts["losses"], abs=2e-5)
    held = [runs[lean].snapshots[-1].held_out_loss for lean in runs]
    assert held[0] == pytest.approx(held[1], abs=1e-5)
