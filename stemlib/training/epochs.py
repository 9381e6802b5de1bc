"""Epochs: the same batches again and again; what does not change between epochs is made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from stemlib.data.batches import Batch, batches
from stemlib.data.tasks import Task
from stemlib.model.messages import neighbour_mean
from stemlib.model.sparse_features import compact, is_sparse

Epochs = Callable[[torch.Generator | None], Iterable[Batch]]


def every_epoch(
    task: Task,
    index: Tensor,
    size: int = 0,
    *,
    fanouts: Sequence[int | None] = (),
    hide: bool = False,
    as_one: bool = False,
    device: torch.device | str = "cpu",
) -> Epochs:
    """`batches` again and again, on a device: what does not change between epochs is made once.

    Args:
        task, index, size, fanouts, hide, as_one: see `batches`.
        device: of the batches.

    Returns:
        A function from the generator (None: in order) to the batches of one epoch.
    """
    if size or any(fanouts):
        return lambda generator: (
            batch.to(device)
            for batch in batches(task, index, size, generator, fanouts=fanouts, hide=hide, as_one=as_one)
        )
    whole = [batch.to(device) for batch in batches(task, index, fanouts=fanouts, hide=hide)]
    for batch in whole:
        if fanouts and task.kind != "graph":
            graph = batch.graph
            if graph.edge_attr is None:
                graph.x = compact(graph.x)
            if not is_sparse(graph.x):
                graph.hops[0].mean = neighbour_mean(graph.x, graph.hops[0].edge_index)
    return lambda generator: whole
