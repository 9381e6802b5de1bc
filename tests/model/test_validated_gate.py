"""The weights that validation gives the networks of a mixture: by hand, by brute force, and how far they may go."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few
from torch import Tensor
from torch.nn import functional as F

from stemlib.model.losses import task_loss, task_loss_slope
from stemlib.model.mixture import validated_gate


def test_the_gate_by_hand_on_three_nodes() -> None:
    """Two networks: the first is right of two nodes by 3, the second of the third by 2."""
    labels = torch.tensor([0, 0, 0])
    first, second = torch.tensor([3.0, 3.0, -1.0]), torch.tensor([-2.0, -1.0, 2.0])
    parts = torch.stack([torch.stack([one, torch.zeros(3)], 1) for one in (first, second)], 1).double()

    def badness(share: float) -> float:
        mixed = share * first.double() + (1 - share) * second.double()
        return F.softplus(-mixed).sum().item() - 0.5 * (math.log(share) + math.log(1 - share))

    best = min((k / 100000 for k in range(1, 100000)), key=badness)
    assert 0.6 < best < 0.7  # far from uniform, and from either end
    gate = validated_gate(parts, labels, counts=0.5)
    assert gate.tolist() == pytest.approx([best, 1 - best], abs=1e-4)
    assert gate.sum().item() == pytest.approx(1, abs=1e-12)


LABELS: dict[str, Callable[[int], Tensor]] = {
    "classes": lambda size: torch.randint(3, (size,)),
    "binary": lambda size: torch.where(torch.rand(size, 3) < 0.2, float("nan"), (torch.rand(size, 3) < 0.5).float()),
    "numbers": lambda size: torch.randn(size, 3),
}


@few
@given(kind=st.sampled_from(list(LABELS)), size=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_the_slope_of_the_loss_is_autograd_s(kind: str, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    labels, logits = LABELS[kind](size), torch.randn(size, 3, dtype=torch.double, requires_grad=True)
    labels = labels.double() if labels.is_floating_point() else labels
    (slope,) = torch.autograd.grad(task_loss(logits, labels, kind == "numbers"), logits)
    torch.testing.assert_close(task_loss_slope(logits.detach(), labels, kind == "numbers"), slope)


@few
@given(kind=st.sampled_from(list(LABELS)), size=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_no_weights_nearby_are_better(kind: str, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    labels, parts = LABELS[kind](size), 2 * torch.randn(size, 4, 3)
    gate = validated_gate(parts, labels, kind == "numbers")

    def badness(weights: Tensor) -> float:
        mixed = torch.einsum("k,mkc->mc", weights, parts.double())
        if kind == "classes":
            loss = F.cross_entropy(mixed, labels)
        elif kind == "numbers":
            loss = F.mse_loss(mixed, labels.double())
        else:
            known = labels.isfinite()
            loss = F.binary_cross_entropy_with_logits(mixed[known], labels[known].double()) if known.any() else 0.0
        return float(size * loss - 5 * weights.log().sum())

    others = (gate.log() + 0.1 * torch.randn(50, 4)).softmax(1)
    assert all(badness(gate) <= badness(other) + 1e-5 for other in others)


@few
@given(size=st.integers(1, 20), seed=st.integers(0, 2**31), sure=st.floats(0.1, 5))
def test_twenty_nodes_move_the_gate_no_farther_than_stated(size: int, seed: int, sure: float) -> None:
    torch.manual_seed(seed)
    labels, parts = torch.randint(3, (size,)), sure * torch.randn(size, 5, 3).double()
    gate = validated_gate(parts, labels)
    before, after = (F.cross_entropy(torch.einsum("k,mkc->mc", each, parts), labels) for each in (gate * 0 + 0.2, gate))
    apart = (gate - 0.2).abs().sum().item()
    away = (0.2 * (0.2 / gate).log()).sum().item()
    assert 5 * 5 * away <= size * (before - after).item() + 1e-9
    assert apart <= math.sqrt(2 * size * before.item() / 25) + 1e-9


def test_many_nodes_move_it_to_the_one_that_is_right_and_few_do_not() -> None:
    def gate(size: int) -> list[float]:
        labels = torch.arange(size) % 2
        right = F.one_hot(labels, 2).float()
        return validated_gate(torch.stack([right, 0 * right, 0 * right], 1), labels).tolist()

    assert gate(2000)[0] > 0.95
    assert 1 / 3 < gate(5)[0] < 0.45
