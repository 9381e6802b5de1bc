"""The pretraining objectives by their definitions; parity with the reference is in `test_parity.py`."""

from __future__ import annotations

import pytest
import torch
from samples import EXACT
from torch.nn import functional as F

from stemlib.training.student import Decoders


@pytest.fixture
def decoders() -> Decoders:
    return Decoders(width=4, feature_width=3, edge_width=2).double()


@pytest.fixture
def quantised() -> torch.Tensor:
    return torch.randn(6, 4, dtype=torch.double, requires_grad=True)


EDGES, NEGATIVES = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[0, 5], [2, 5]])


def test_feature_and_edge_feature_losses_are_mean_squared_errors(decoders: Decoders, quantised: torch.Tensor) -> None:
    x, edge_attr = torch.randn(6, 3).double(), torch.randn(3, 2).double()
    expected = (decoders.feature(quantised) - x).square().sum() / x.numel()
    torch.testing.assert_close(decoders.feature_loss(quantised, x), expected, **EXACT)
    ends = torch.hstack([quantised[EDGES[0]], quantised[EDGES[1]]])
    expected = (decoders.edge_feature(ends) - edge_attr).square().mean()
    torch.testing.assert_close(decoders.edge_feature_loss(quantised, EDGES, edge_attr), expected, **EXACT)


def test_edge_loss_is_the_cross_entropy_of_inner_products(decoders: Decoders, quantised: torch.Tensor) -> None:
    projected = decoders.edge(quantised)

    def mean_loss(pairs: torch.Tensor, truth: float) -> torch.Tensor:
        logits = (projected[pairs[0]] * projected[pairs[1]]).sum(1)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, truth))

    ours = decoders.edge_loss(quantised, EDGES, NEGATIVES)
    torch.testing.assert_close(ours, mean_loss(EDGES, 1.0) + mean_loss(NEGATIVES, 0.0), rtol=1e-6, atol=0)


def test_edge_loss_stays_finite_where_the_decoder_is_certain() -> None:
    decoders = Decoders(width=4, feature_width=3, edge_width=2)
    far = torch.tensor([[1e3] * 4, [-1e3] * 4]).requires_grad_()
    loss = decoders.edge_loss(far, torch.tensor([[0], [1]]), torch.tensor([[0], [0]]))
    loss.backward()
    assert loss.isfinite()
    assert far.grad.isfinite().all()


def test_teacher_loss_is_a_cosine_distance_without_gradient_to_the_teacher(
    decoders: Decoders, quantised: torch.Tensor
) -> None:
    target = decoders.teacher(quantised).detach().requires_grad_()
    assert decoders.teacher_loss(quantised, 3 * target).item() == pytest.approx(0, abs=1e-12)
    assert decoders.teacher_loss(quantised, -target).item() == pytest.approx(2)
    decoders.teacher_loss(quantised, target).backward()
    assert target.grad is None
    assert quantised.grad is not None


def test_every_decoder_learns(decoders: Decoders, quantised: torch.Tensor) -> None:
    total = decoders.feature_loss(quantised, torch.randn(6, 3).double())
    total = total + decoders.edge_loss(quantised, EDGES, NEGATIVES)
    total = total + decoders.edge_feature_loss(quantised, EDGES, torch.randn(3, 2).double())
    total = total + decoders.teacher_loss(quantised, torch.randn(6, 4).double())
    total.backward()
    assert all(value.grad is not None for value in decoders.parameters())
    assert quantised.grad.abs().sum() > 0
