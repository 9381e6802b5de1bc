"""What a network costs: parameters, and operations of an evaluation."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stemlib.data.tasks import Task
from stemlib.training.evaluation import predict


def size(model: nn.Module, task: Task, index: Tensor | None = None) -> dict[str, float]:
    """How large a network is, and what an evaluation takes.

    Args:
        model: the network.
        task: what it is asked about.
        index: instances that are asked about at once, `[n]`; None for all.

    Returns:
        `parameters`: trained and fixed; `MFLOP`: millions of floating-point operations in the evaluation's products.
        All features count, even words, for which `stemlib.model.sparse_features` needs fewer; sums over neighbours do
        not count.
    """
    graph = copy(task.graph)
    graph.x = torch.ones_like(graph.x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        predict(model, replace(task, graph=graph), index)
    return {"parameters": sum(value.numel() for value in model.parameters()), "MFLOP": counter.get_total_flops() / 1e6}
