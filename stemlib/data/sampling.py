"""The part of a graph that some nodes' embeddings are computed from: all of it, or a sample; in plain PyTorch.

PyG's `NeighborLoader` needs the compiled pyg-lib or torch-sparse. Over edges sorted by target the same idea takes a
few tensor operations: for every node that is to be computed, at most `fanout` incoming edges are drawn uniformly
without replacement, so that the mean over the drawn neighbours is an unbiased estimate of the mean over all.

With all neighbours (`fanout` None) an instance's embedding and its gradient are exactly those of the whole graph, as
long as a layer is a mean over neighbours; averaged over batches they are the full-batch gradient. With fewer they are
estimates: unbiased for one linear layer, and with a bias that falls with the fan-out where nonlinear layers follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex

from stemlib.data.graph import Graph, Hop, node_features, plain, sorted_by_target


class Reached(NamedTuple):
    """What the search from some seeds reached, hop by hop.

    Attributes:
        nodes: numbers in the graph `[n]`: the seeds, then the nodes first reached at hop 1, at hop 2, ...
        edges: positions in `edge_index` `[e]`, by target in the order of `nodes`.
        ends: source and target of these edges as positions in `nodes`, `[2, e]`.
        nodes_within: how many of `nodes` lie within 0, 1, ... hops.
        edges_within: how many of `edges` lead to nodes within 0, 1, ... hops.
    """

    nodes: Tensor
    edges: Tensor
    ends: Tensor
    nodes_within: list[int]
    edges_within: list[int]


def neighbourhood(
    graph: Graph,
    seeds: Tensor,
    fanouts: Sequence[int | None],
    generator: torch.Generator | None = None,
    hidden: Tensor | None = None,
) -> Graph:
    """What a model with one layer per fan-out needs to embed the seeds, and no more.

    Args:
        graph: edges sorted by target.
        seeds: nodes `[B]`, without repeats.
        fanouts: edges drawn per node, one for each layer, the layer nearest to the seeds first; None for all.
        generator: of the draws; None for PyTorch's global one.
        hidden: mask `[E]` of edges to leave out.

    Returns:
        `x` of all nodes reached, seeds first, and `hops`: one graph for each layer, first layer first, whose edges lead
        from the nodes of its input to the first `num_nodes` of them; `nodes` `[n]` are their numbers in `graph`.
    """
    met = _search(graph, seeds, fanouts, generator, hidden)
    hops = []
    for hop in reversed(range(len(fanouts))):
        edges = met.edges_within[hop]
        size = (met.nodes_within[hop + 1], met.nodes_within[hop])
        index = EdgeIndex(met.ends[:, :edges], sparse_size=size, sort_order="col").fill_cache_()
        hops.append(Hop(edge_index=index, num_nodes=size[1], **edge_features(graph, met.edges[:edges])))
    return Graph(node_features(graph, met.nodes), edge_attr=graph.edge_attr, nodes=met.nodes, hops=tuple(hops))


def sampled_neighbourhood(
    graph: Graph,
    seeds: Tensor,
    fanouts: Sequence[int | None],
    generator: torch.Generator | None = None,
    hidden: Tensor | None = None,
) -> Graph:
    """The nodes and edges of `neighbourhood` as one ordinary graph, for models that read more than the seeds.

    Returns:
        A graph whose first `B` nodes are the seeds in order; `nodes` `[n]` are the numbers of all its nodes in `graph`.
    """
    met = _search(graph, seeds, fanouts, generator, hidden)
    x = node_features(graph, met.nodes)
    return sorted_by_target(Graph(x, met.ends, nodes=met.nodes, **edge_features(graph, met.edges)))


def incoming(
    graph: Graph,
    nodes: Tensor,
    fanout: int | None,
    generator: torch.Generator | None = None,
    hidden: Tensor | None = None,
) -> Tensor:
    """Edges that end in the given nodes, at most `fanout` per node, drawn uniformly without replacement.

    Args:
        graph: edges sorted by target.
        nodes: `[n]`, without repeats.
        fanout: edges per node; None for all.
        generator: draws.
        hidden: mask `[E]` of edges to leave out.

    Returns:
        Positions in `edge_index`, `[e]`, in the order of `nodes`.
    """
    (pointer, _), _ = graph.edge_index.get_csc()
    edges, owner = spans(pointer[nodes], pointer[nodes + 1] - pointer[nodes])
    if hidden is not None:
        seen = ~hidden[edges]
        edges, owner = edges[seen], owner[seen]
    if fanout is None or edges.numel() == 0:
        return edges
    # The fan-out edges with the smallest random numbers, node by node: one sort for all nodes.
    order = (owner + torch.rand(edges.numel(), generator=generator, dtype=torch.double)).argsort()
    count = torch.bincount(owner, minlength=len(nodes))
    rank = torch.arange(edges.numel()) - (count.cumsum(0) - count)[owner]
    return edges[order[rank < fanout]]


def spans(first: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers `first[i], ..., first[i] + size[i] - 1` of all spans `i` in turn, and the span of each."""
    owner = torch.arange(size.numel()).repeat_interleave(size)
    before = size.cumsum(0) - size
    return torch.arange(owner.numel()) + (first - before)[owner], owner


def _search(
    graph: Graph, seeds: Tensor, fanouts: Sequence[int | None], generator: torch.Generator | None, hidden: Tensor | None
) -> Reached:
    if any(fanout is not None and fanout < 1 for fanout in fanouts):
        raise ValueError(f"a fan-out must be at least 1, or None for all neighbours; got {list(fanouts)}")
    position = torch.full((graph.num_nodes,), -1)
    position[seeds] = torch.arange(seeds.numel())
    source, target = plain(graph.edge_index)
    nodes, drawn, frontier = [seeds], [], seeds
    for fanout in fanouts:
        drawn.append(incoming(graph, frontier, fanout, generator, hidden))
        found = source[drawn[-1]].unique()
        frontier = found[position[found] < 0]  # nodes met before have had their edges drawn
        position[frontier] = sum(map(len, nodes)) + torch.arange(frontier.numel())
        nodes.append(frontier)
    edges = torch.cat(drawn)
    return Reached(
        nodes=torch.cat(nodes),
        edges=edges,
        ends=torch.stack([position[source[edges]], position[target[edges]]]),
        nodes_within=torch.tensor([len(some) for some in nodes]).cumsum(0).tolist(),
        edges_within=torch.tensor([len(some) for some in drawn]).cumsum(0).tolist(),
    )


def edge_features(graph: Graph, edges: Tensor) -> dict[str, Tensor | None]:
    """The features of some edges, positions `[e]`, as fields of their graph."""
    return {"edge_attr": graph.edge_attr} | {name: value[edges] for name, value in graph.per_edge.items()}
