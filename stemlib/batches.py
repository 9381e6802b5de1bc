"""Instances in batches: what a model is shown in one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from stemlib.messages import edge_attributes, node_features, plain, sorted_by_target
from stemlib.tasks import Task


class Batch(NamedTuple):
    """A graph, what to read out of it, and the labels of that."""

    graph: Data
    instances: Tensor | None
    labels: Tensor


def batches(
    task: Task, index: Tensor, size: int = 0, generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """Batches of the instances `index`, in order, or shuffled by `generator`.

    Args:
        task: node and link batches share the whole graph; a graph batch is the union of its graphs.
        index: instances `[M]`.
        size: instances per batch; 0 for all in one.
        generator: shuffles; None keeps the order.
    """
    if generator is not None and size:
        index = index[torch.randperm(index.numel(), generator=generator)]
    for chunk in index.split(size or index.numel()):
        if task.kind == "graph":
            yield Batch(union_of_graphs(task.graph, chunk), None, task.labels[chunk])
        else:
            yield Batch(task.graph, task.select(chunk), task.labels[chunk])


def union_of_graphs(graph: Data, index: Tensor) -> Data:
    """The disjoint union of some graphs of a disjoint union, in the order of `index`.

    Args:
        graph: `x` (with `node_type`, a table, which the union spells out), `edge_index` sorted by target, `batch`
            `[N]`, `ptr` `[G + 1]`.
        index: graphs `[B]`, without repeats.
    """
    first, size = graph.ptr[index], graph.ptr.diff()[index]
    new_ptr = torch.cat([size.new_zeros(1), size.cumsum(0)])
    nodes, batch = spans(first, size)
    # Edges are sorted by target, so each graph's edges lie together, between its nodes' pointers.
    (pointer, _), _ = graph.edge_index.get_csc()
    edges, of_edge = spans(pointer[first], pointer[first + size] - pointer[first])
    offset = first - new_ptr[:-1]
    edge_index = plain(graph.edge_index)[:, edges] - offset[of_edge]
    out = Data(x=node_features(graph, nodes), edge_index=edge_index, batch=batch, ptr=new_ptr)
    if graph.get("edge_attr") is not None:
        out.edge_attr = graph.edge_attr
        for name in edge_attributes(graph):
            out[name] = graph[name][edges]
    return sorted_by_target(out)


def spans(first: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers `first[i], ..., first[i] + size[i] - 1` of all spans `i` in turn, and whose each is."""
    owner = torch.arange(size.numel()).repeat_interleave(size)
    before = size.cumsum(0) - size
    return torch.arange(owner.numel()) + (first - before)[owner], owner
