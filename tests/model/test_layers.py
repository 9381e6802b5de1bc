"""Layers by themselves: routed sums, dropout, mixtures, initialisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few

from stemlib.model import experts
from stemlib.model.experts import RoutedSAGE
from stemlib.model.layers import Dropout
from stemlib.model.messages import neighbour_mean


def test_one_routed_layer_by_hand() -> None:
    """0 -> 1 <- 2; expert 0 returns the neighbours' mean, expert 1 the node itself, both plus the residual."""
    layer = RoutedSAGE(1, 1, experts=2)
    layer.weight.data = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    x = torch.tensor([[2.0], [10.0], [4.0]])
    mean = neighbour_mean(x, torch.tensor([[0, 2], [1, 1]]))
    gates = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.25, 0.75]])
    assert layer(mean, x, gates).tolist() == [[2.0], [13.0], [7.0]]


@few
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_a_routed_layer_is_the_gated_sum_of_its_experts(experts: int, a: int, b: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = RoutedSAGE(a, b, experts).double()
    mean, x = torch.randn(2, 7, a, dtype=torch.double)
    gates = torch.rand(7, experts, dtype=torch.double).softmax(-1)
    both = torch.cat([mean, x], 1)
    outputs = [both @ layer.weight[k] + (x if a == b else 0) for k in range(experts)]
    torch.testing.assert_close(layer.expert_outputs(mean, x), torch.stack(outputs, 1), **EXACT)
    expected = sum(gates[:, k : k + 1] * outputs[k] for k in range(experts))
    torch.testing.assert_close(layer(mean, x, gates), expected, **EXACT)


def test_experts_start_at_their_own_scale_and_the_references_about_20_times_smaller() -> None:
    own, reference = (RoutedSAGE(768, 768, 3, init).weight for init in ("per_expert", "reference"))
    bound = (6 / (2 * 768 + 768)) ** 0.5
    for expert in own:
        assert 0.99 * bound < expert.abs().max() <= bound
    assert 20 < own.std() / reference.std() < 25


@pytest.mark.parametrize("p", [0.15, 0.5])
def test_dropout_keeps_the_expectation_and_is_off_in_evaluation(p: float) -> None:
    dropout, x = Dropout(p), torch.ones(500, 401, requires_grad=True)
    out = dropout(x)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    out.sum().backward()
    assert torch.equal(x.grad, out)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("form", ["inputs want a gradient", "inputs want none", "products are known"])
@pytest.mark.parametrize("rows", [3, 7, 2048])
def test_routed_experts_and_their_gradients_are_those_of_the_plain_sum(
    form: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "ROWS", rows)
    layer = RoutedSAGE(4, 4, experts=3).double()
    mean, x = (torch.randn(7, 4).double().requires_grad_(form == "inputs want a gradient") for _ in range(2))
    gates = torch.rand(7, 3).double().requires_grad_()
    inputs = torch.cat([mean, x], dim=1)
    plain = torch.einsum("nk,ni,kio->no", gates, inputs, layer.weight) + x
    if form == "products are known":
        products = torch.einsum("ni,kio->nko", inputs, layer.weight).detach().flatten(1)
        own = layer.mix_known(inputs, products, x, gates)
    else:
        own = layer(mean, x, gates)
    torch.testing.assert_close(own, plain, rtol=1e-12, atol=1e-14)
    wanted = [gates, layer.weight] + [mean, x] * mean.requires_grad
    weight = torch.randn(7, 4).double()
    expected = torch.autograd.grad((plain * weight).sum(), wanted)
    for one, other in zip(torch.autograd.grad((own * weight).sum(), wanted), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
