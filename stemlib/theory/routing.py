"""What both decompositions read from a routed network: its mode, its routed layers, an instance's gates and losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, Task, read_out, require_classes
from stemlib.model.encoder import Gates
from stemlib.model.stem import StemGNN

GRAPHS_PER_BATCH = 512  # of a graph task; node and link tasks are taken whole


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode is restored afterwards.

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


def per_instance(values: Gates, graph: Graph, instances: Tensor | None, kind: Kind) -> Tensor:
    """What nodes carry in every layer, read for instances: `[N, c]` per layer to `[M, L, c]`.

    A node's own; the mean of a link's two ends; the mean over a graph's nodes, whatever its pool.
    """
    return torch.stack([read_out(value, graph, instances, kind) for value in values], dim=1)


def labelled(task: Task, index: Tensor) -> Tensor:
    """The instances among a task's `index` that have a label.

    Raises:
        ValueError: none has, or the task is a regression.
    """
    require_classes(task, "cross-entropy, like the 0/1 loss,")
    known = task.labelled(index)
    if known.numel() == 0:
        raise ValueError(f"none of the {index.numel()} instances has a label; a loss needs one")
    return known
