"""Instances in batches: what a model is shown in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data

from stemlib.messages import edge_attributes, neighbour_mean, node_features, plain, sorted_by_target
from stemlib.sampling import neighbourhood, spans
from stemlib.sparse_features import compact, is_sparse
from stemlib.tasks import Task


class Batch(NamedTuple):
    """A graph, what to read out of it, and the labels of that."""

    graph: Data
    instances: Tensor | None
    labels: Tensor


Epochs = Callable[[torch.Generator | None], Iterable[Batch]]


def batches(
    task: Task,
    index: Tensor,
    size: int = 0,
    generator: torch.Generator | None = None,
    *,
    fanouts: Sequence[int | None] = (),
    hide: bool = False,
) -> Iterator[Batch]:
    """Batches of the instances `index`, in order, or shuffled by `generator`.

    Args:
        task: node and link batches share the whole graph; a graph batch is the union of its graphs.
        index: instances `[M]`.
        size: instances per batch; 0 for all in one.
        generator: shuffles and draws neighbours; None keeps the order.
        fanouts: one for each layer of the model: a node or link batch then comes with the nodes only that its
            instances need, see `stemlib.sampling.neighbourhood`.
        hide: leave out the edges that stand for the batch's own instances (a graph's `edge_pair` `[E]` says which
            instance an edge stands for). In training a triple would otherwise be read off the edge that it is.

    Raises:
        ValueError: hiding the instances of one single batch would hide every edge there is.
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
            graph = neighbourhood(task.graph, seeds, fanouts, generator, hidden)
        else:
            graph = task.graph if hidden is None else without_edges(task.graph, hidden)
        yield Batch(graph, instances, task.labels[chunk])


def every_epoch(
    task: Task,
    index: Tensor,
    size: int = 0,
    *,
    fanouts: Sequence[int | None] = (),
    hide: bool = False,
) -> Epochs:
    """`batches` again and again: what does not change between epochs is made once.

    Returns:
        A function from the generator (None: in order) to the batches of one epoch.
    """
    if size or any(fanouts):
        return lambda generator: batches(task, index, size, generator, fanouts=fanouts, hide=hide)
    whole = list(batches(task, index, fanouts=fanouts, hide=hide))
    for batch in whole:
        if fanouts and task.kind != "graph":
            graph = batch.graph
            if graph.get("edge_attr") is None:
                graph.x = compact(graph.x)
            if not is_sparse(graph.x):
                graph.hops[0].mean = neighbour_mean(graph.x, graph.hops[0].edge_index)
    return lambda generator: whole


def own_edges(task: Task, index: Tensor) -> Tensor | None:
    """Mask `[E]` of the edges that stand for the instances `index`; None where no edge stands for an instance."""
    pair = task.graph.get("edge_pair")
    if pair is None:
        return None
    own = torch.zeros(task.instances, dtype=torch.bool).index_fill_(0, index, True)[pair]
    if own.all() and own.numel():
        raise ValueError(
            f"{task.name}: a step that shows all training pairs hides every edge of the graph; set "
            "`batch_size` of `TrainConfig` to a part of them"
        )
    return own


def without_edges(graph: Data, hidden: Tensor) -> Data:
    """The graph, edges sorted by target, without those of the mask `hidden` `[E]`."""
    out, kept = copy(graph), ~hidden
    edges = plain(graph.edge_index)[:, kept]
    out.edge_index = EdgeIndex(edges, sparse_size=graph.edge_index.sparse_size(), sort_order="col").fill_cache_()
    for name in edge_attributes(graph):
        out[name] = graph[name][kept]
    return out


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
