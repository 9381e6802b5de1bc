"""Instances in batches: what a model is shown in one step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.data.sampling import edge_features, neighbourhood, sampled_neighbourhood, spans
from stemlib.data.tasks import Task


class Batch(NamedTuple):
    """A graph, its instances and their labels; or labels of the first ones, and which the `unlabelled` others are."""

    graph: Graph
    instances: Tensor | None
    labels: Tensor
    unlabelled: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device; a graph that several batches share is moved there once."""
        instances, unlabelled = (None if one is None else one.to(device) for one in (self.instances, self.unlabelled))
        return Batch(self.graph.on(device), instances, self.labels.to(device), unlabelled)


def batches(
    task: Task,
    index: Tensor,
    size: int = 0,
    generator: torch.Generator | None = None,
    *,
    fanouts: Sequence[int | None] = (),
    hide: bool = False,
    as_one: bool = False,
) -> Iterator[Batch]:
    """Batches of the instances `index`, in order, or shuffled by `generator`.

    Args:
        task: node and link batches share the whole graph; a graph batch is the union of its graphs.
        index: instances `[M]`.
        size: instances per batch; 0 for all in one.
        generator: shuffles and draws neighbours; None keeps the order.
        fanouts: one for each layer of the model: a node or link batch then has only the nodes that its
            instances need, see `stemlib.data.sampling.neighbourhood`.
        hide: leave out the edges that stand for the batch's own instances (a graph's `edge_pair` `[E]` says which
            instance an edge stands for). In training, a triple could otherwise be read off its own edge.
        as_one: with fan-outs, whether a batch's nodes come as one ordinary graph, for models that read no hops.

    Raises:
        ValueError: hiding the instances of a single batch would hide every edge.
    """
    if generator is not None and size:
        index = index[torch.randperm(index.numel(), generator=generator)]
    for chunk in index.split(size or index.numel()):
        if task.kind == "graph":
            yield Batch(union_of_graphs(task.graph, chunk), None, task.labels[chunk])
            continue
        hidden = own_edges(task, chunk) if hide else None
        instances = task.select(chunk)
        if fanouts:
            seeds, instances = instances.unique(return_inverse=True)
            around = sampled_neighbourhood if as_one else neighbourhood
            graph = around(task.graph, seeds, fanouts, generator, hidden)
        else:
            graph = task.graph if hidden is None else task.graph.without_edges(hidden)
        yield Batch(graph, instances, task.labels[chunk])


def own_edges(task: Task, index: Tensor) -> Tensor | None:
    """Mask `[E]` of the edges that stand for the instances `index`; None where no edge stands for an instance."""
    pair = task.graph.edge_pair
    if pair is None:
        return None
    own = torch.zeros(task.instances + 1, dtype=torch.bool).index_fill_(0, index, True)
    own = own[pair]  # -1, for an edge that stands for none, is the last
    if own.all() and own.numel():
        raise ValueError(
            f"{task.name}: a step over all training pairs hides every edge of the graph; set "
            "`batch_size` of `TrainConfig` below their number"
        )
    return own


def union_of_graphs(graph: Graph, index: Tensor) -> Graph:
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
    out = Graph(node_features(graph, nodes), edge_index, batch=batch, ptr=new_ptr, **edge_features(graph, edges))
    out.source = None if graph.source is None else graph.source.of(nodes)
    return sorted_by_target(out)
