"""Losses: the one that training minimises, and every instance's own."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["ce", "zero_one"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


def task_loss(logits: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
    """Cross-entropy for class labels `[M]`; for labels `[M, T]` the mean binary cross-entropy over those known.

    For a `regression` the mean squared error takes its place. Missing labels are NaN; if none is known (in a small
    batch of a sparse task) the loss is zero.
    """
    if labels.dim() == 1:
        return F.cross_entropy(logits, labels)
    known = labels.isfinite()
    each = F.mse_loss if regression else F.binary_cross_entropy_with_logits
    # Not `logits[known]`, whose size would have to be waited for on a GPU.
    return each(logits, labels.where(known, 0), reduction="none").where(known, 0).sum() / known.sum().clamp(min=1)


def task_loss_slope(logits: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
    """The gradient of `task_loss` with respect to the logits `[M, classes]`, several times faster than by autograd."""
    if labels.dim() == 1:
        rest = logits.softmax(1).scatter_add_(1, labels.unsqueeze(1), logits.new_full((len(labels), 1), -1))
        return rest / len(labels)
    known = labels.isfinite()
    rest = 2 * (logits - labels) if regression else logits.sigmoid() - labels
    return rest.where(known, 0) / known.sum().clamp(min=1)


def instance_loss(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """The loss of every instance, in float64.

    Args:
        logits: `[M, ..., classes]` or `[M, ..., T]`.
        labels: classes `[M]`, or binary labels `[M, T]`, NaN if missing: the loss is the mean over those known.
        loss: `ce` (cross-entropy, binary for binary labels) or `zero_one` (share of wrong decisions).

    Returns:
        `[M, ...]`; NaN for an instance without a known label.
    """
    logits = logits.double()
    between = [1] * (logits.dim() - 2)
    if labels.dim() == 1:
        target = labels.view(-1, *between, 1).expand(*logits.shape[:-1], 1)
        if loss == "zero_one":
            return (logits.argmax(-1, keepdim=True) != target).double().squeeze(-1)
        return -logits.log_softmax(-1).gather(-1, target).squeeze(-1)
    target = labels.double().view(-1, *between, labels.size(1)).expand_as(logits)
    if loss == "zero_one":
        wrong = ((logits > 0).double() - target).abs()
    else:
        wrong = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return wrong.nanmean(-1)


def routing_regulariser(gates: list[Tensor], gate_logits: list[Tensor]) -> Tensor:
    """Mean over layers and nodes of `sum_k g_k log softmax(logits)_k` (reference: the lower, the more uniform).

    Returns a scalar; 0 if no layer is routed.
    """
    terms = [(g * torch.log_softmax(a, dim=-1)).sum(-1).mean() for g, a in zip(gates, gate_logits, strict=True)]
    return torch.stack(terms).mean() if terms else torch.zeros(())
