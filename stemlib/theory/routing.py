"""What both decompositions read off a routed network: its mode, its routed layers, an instance's gates and losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from stemlib.experts import Gates
from stemlib.model import StemGNN
from stemlib.tasks import Kind, Task, read_out, require_classes

Loss = Literal["ce", "zero_one"]
LOSSES: tuple[Loss, ...] = get_args(Loss)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode comes back afterwards.

    The decompositions are of the deployed network: noise in gates and dropout would make two passes differ.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def first_routed_layer(model: nn.Module) -> int:
    """Index of the first routed layer; the routed ones are a stack's last layers.

    Raises:
        ValueError: the model routes nothing, so that there are no paths and no gates.
    """
    if not isinstance(model, StemGNN) or model.encoder.routed_layers == 0:
        raise ValueError(
            f"the decompositions need a routed network, got {type(model).__name__} without routed layers; "
            "build a StemGNN with routed='last' or routed='all'"
        )
    return model.encoder.is_routed.index(True)


def per_instance(values: Gates, graph: Data, instances: Tensor | None, kind: Kind) -> Tensor:
    """What nodes carry in every layer, read for instances: `[N, c]` per layer to `[M, L, c]`.

    A node's own; the mean of a link's two ends; the mean over a graph's nodes, whatever its pool.
    """
    return torch.stack([read_out(value, graph, instances, kind) for value in values], dim=1)


def instance_loss(logits: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """The loss of every instance, in float64.

    Args:
        logits: `[M, ..., classes]` or `[M, ..., T]`.
        labels: classes `[M]`, or binary ones `[M, T]`, NaN where missing: then the mean over those known.
        loss: `ce` (cross-entropy, binary for binary labels) or `zero_one` (share of wrong decisions).

    Returns:
        `[M, ...]`; NaN for an instance of which no label is known.
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


def labelled(task: Task, index: Tensor) -> Tensor:
    """Those of a task's instances `index` that have a label.

    Raises:
        ValueError: none has, or labels are values.
    """
    require_classes(task, "cross-entropy, like the 0/1 loss,")
    labels = task.labels
    known = index if labels.dim() == 1 else index[labels[index].isfinite().any(1)]
    if known.numel() == 0:
        raise ValueError(f"none of the {index.numel()} instances has a label; a loss needs one")
    return known
