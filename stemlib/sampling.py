"""Mini-batches of large graphs: sampled neighbourhoods, in plain PyTorch.

PyG's `NeighborLoader` needs the compiled pyg-lib or torch-sparse. The same idea over the edges sorted by target is a
few tensor operations: of every node that is to be computed, at most `fanout` incoming edges are drawn, without
replacement and uniformly, so that the mean over the drawn neighbours is an unbiased estimate of the mean over all.

With all neighbours (`fanout` None) an instance's embedding and its gradient are exactly those of the whole graph, as
long as a layer is a mean over neighbours; averaged over batches they are the full-batch gradient. With fewer they are
estimates: unbiased for one linear layer, and with a bias that falls with the fan-out where nonlinear layers follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from stemlib.batches import Batch, spans
from stemlib.messages import edge_attributes, node_features, plain, sorted_by_target
from stemlib.tasks import Task


def sampled_batches(
    task: Task,
    index: Tensor,
    size: int,
    fanouts: Sequence[int | None],
    generator: torch.Generator,
    *,
    shuffle: bool = True,
) -> Iterator[Batch]:
    """Batches of a node or link task, each with the graph that its instances need and no more.

    Args:
        task: a node or link task; the ends of links are the nodes to compute.
        index: instances `[M]`.
        size: instances per batch.
        fanouts: one for each layer of the model, the layer nearest to the instances first; None for all neighbours.
        generator: shuffles and draws.
        shuffle: False keeps the order of `index`.

    Raises:
        ValueError: a graph task (its batches need no sampling), or a fan-out below 1.
    """
    if task.kind == "graph":
        raise ValueError("a graph task's batches are whole graphs: use stemlib.batches.batches")
    if any(fanout is not None and fanout < 1 for fanout in fanouts):
        raise ValueError(f"a fan-out must be at least 1, or None for all neighbours; got {list(fanouts)}")
    if shuffle:
        index = index[torch.randperm(index.numel(), generator=generator)]
    for chunk in index.split(size):
        wanted = task.select(chunk)
        seeds, position = wanted.unique(return_inverse=True)
        graph = sampled_neighbourhood(task.graph, seeds, fanouts, generator)
        yield Batch(graph, position, task.labels[chunk])


def sampled_neighbourhood(
    graph: Data, seeds: Tensor, fanouts: Sequence[int | None], generator: torch.Generator
) -> Data:
    """The part of a graph that the embeddings of some nodes are computed from.

    Args:
        graph: edges sorted by target.
        seeds: nodes `[B]`, without repeats.
        fanouts: see `sampled_batches`.
        generator: draws.

    Returns:
        A graph whose first `B` nodes are `seeds` in order; `nodes` `[n]` are the numbers of all its nodes in `graph`.
    """
    local = torch.full((graph.num_nodes,), -1)
    local[seeds] = torch.arange(seeds.numel())
    nodes, frontier, drawn = [seeds], seeds, []
    source = plain(graph.edge_index)[0]
    for fanout in fanouts:
        edges = incoming(graph, frontier, fanout, generator)
        drawn.append(edges)
        found = source[edges].unique()
        frontier = found[local[found] < 0]  # nodes met before have had their edges drawn
        local[frontier] = sum(map(len, nodes)) + torch.arange(frontier.numel())
        nodes.append(frontier)
    kept, members = torch.cat(drawn), torch.cat(nodes)
    part = Data(
        x=node_features(graph, members),
        edge_index=local[plain(graph.edge_index)[:, kept]],
        nodes=members,
        num_nodes=members.numel(),
    )
    if graph.get("edge_attr") is not None:
        part.edge_attr = graph.edge_attr
        for name in edge_attributes(graph):
            part[name] = graph[name][kept]
    return sorted_by_target(part)


def incoming(graph: Data, nodes: Tensor, fanout: int | None, generator: torch.Generator) -> Tensor:
    """Edges that end in the given nodes, at most `fanout` of each, drawn uniformly without replacement.

    Args:
        graph: edges sorted by target.
        nodes: `[n]`, without repeats.
        fanout: edges per node; None for all.
        generator: draws.

    Returns:
        Positions in `edge_index`, `[e]`.
    """
    (pointer, _), _ = graph.edge_index.get_csc()
    first, count = pointer[nodes], pointer[nodes + 1] - pointer[nodes]
    edges, owner = spans(first, count)
    if fanout is None or edges.numel() == 0:
        return edges
    # The fan-out edges of smallest random number, node by node: one sort for all nodes.
    order = (owner + torch.rand(edges.numel(), generator=generator, dtype=torch.double)).argsort()
    rank = torch.arange(edges.numel()) - (count.cumsum(0) - count)[owner]
    return edges[order[rank < fanout]]
