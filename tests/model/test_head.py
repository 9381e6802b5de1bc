"""The head is one linear map, and its norms bound it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few

from stemlib.model.head import AveragedHead

sizes = {"width": st.integers(1, 7), "classes": st.integers(1, 5), "heads": st.integers(1, 6)}


def drawn(width: int, classes: int, heads: int, seed: int) -> tuple[AveragedHead, torch.Tensor]:
    torch.manual_seed(seed)
    return AveragedHead(width, classes, heads).double(), torch.randn(9, width, dtype=torch.double)


def test_two_heads_by_hand() -> None:
    head = AveragedHead(width=1, classes=2, heads=2)
    head.linear.weight.data = torch.tensor([[1.0], [2.0], [3.0], [-2.0]])  # head 0, then head 1
    head.linear.bias.data = torch.tensor([0.0, 4.0, 2.0, 0.0])
    codes = torch.tensor([[2.0]])
    assert head.logits_per_head(codes).tolist() == [[[2.0, 8.0], [8.0, -4.0]]]
    assert head(codes).tolist() == [[5.0, 2.0]]
    assert head.effective_weight.tolist() == [[2.0], [0.0]]
    assert head.effective_bias.tolist() == [1.0, 2.0]
    assert head.penalty().item() == 18
    assert head.norms() == pytest.approx({"spectral": 2, "frobenius": 2, "penalised": 3})


@few
@given(**sizes, seed=st.integers(0, 2**31))
def test_averaged_heads_are_one_linear_map(width: int, classes: int, heads: int, seed: int) -> None:
    head, codes = drawn(width, classes, heads, seed)
    logits = head(codes)
    assert logits.shape == (9, classes)
    torch.testing.assert_close(logits, codes @ head.effective_weight.T + head.effective_bias, **EXACT)
    torch.testing.assert_close(logits, head.logits_per_head(codes).mean(1), **EXACT)


@few
@given(**sizes, seed=st.integers(0, 2**31))
def test_norms_are_ordered_and_bound_the_change_of_logits(width: int, classes: int, heads: int, seed: int) -> None:
    head, codes = drawn(width, classes, heads, seed)
    norms = head.norms()
    assert list(norms) == ["spectral", "frobenius", "penalised"]
    assert norms["spectral"] <= norms["frobenius"] * (1 + 1e-9)
    assert norms["frobenius"] <= norms["penalised"] * (1 + 1e-9)
    assert norms["penalised"] ** 2 * heads == pytest.approx(head.penalty().item(), rel=1e-9)
    step = torch.randn_like(codes)
    change = (head(codes + step) - head(codes)).norm(dim=1)
    assert (change <= norms["spectral"] * step.norm(dim=1) * (1 + 1e-9)).all()


def test_the_spectral_bound_is_attained() -> None:
    head, _ = drawn(6, 3, 4, 0)
    direction = torch.linalg.svd(head.effective_weight).Vh[:1]
    change = head(direction) - head(torch.zeros_like(direction))
    assert change.norm().item() == pytest.approx(head.norms()["spectral"], rel=1e-9)


def test_equal_heads_make_the_last_bound_tight() -> None:
    head, _ = drawn(3, 2, 4, 0)
    head.linear.weight.data = head.linear.weight.data[:2].repeat(4, 1)
    assert head.norms()["frobenius"] == pytest.approx(head.norms()["penalised"], rel=1e-9)


def test_the_penalty_is_differentiable() -> None:
    head, _ = drawn(3, 2, 2, 0)
    head.penalty().backward()
    torch.testing.assert_close(head.linear.weight.grad, 2 * head.linear.weight)
