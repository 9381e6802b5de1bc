"""Views of a graph in a training step: some feature columns and some edges are hidden.

PyG's `dropout_edge(force_undirected=True)`, which the reference calls, treats every graph as undirected: in a directed
graph, or a sampled neighbourhood, which has edges of one direction only, it loses those that point from a higher to a
lower number and invents others that are not there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stemlib.data.graph import Graph, plain, undirected_pairs


def view(graph: Graph, feature_dropout: float, edge_dropout: float) -> Graph:
    """A graph with less to see; the given one is left alone. Draws come from PyTorch's global generator.

    Args:
        graph: `x` `[N, d]`, edges sorted by target with what belongs to them, or `hops` of such edges as
            `stemlib.data.sampling.neighbourhood` gives them.
        feature_dropout: probability that a column of `x` is zero in the whole graph.
        edge_dropout: probability that an undirected edge is missing: both directions, and all edges between
            the same two nodes, share one fate, in every hop.
    """
    columns = shown_columns(graph, feature_dropout)
    graph = with_fewer_edges(graph, edge_dropout)
    # In one pass; PyG's `mask_feature`, with the same draws, takes three.
    return graph if columns is None else replace(graph, x=graph.x * columns)


def shown_columns(graph: Graph, dropout: float) -> Tensor | None:
    """Which columns of `x` are seen, `[d]`, as `view` draws them; None for all."""
    return torch.rand(graph.x.size(1), device=graph.x.device) >= dropout if dropout else None


def with_fewer_edges(graph: Graph, dropout: float) -> Graph:
    """The graph without the edges that `view` hides."""
    if not dropout:
        return graph
    edges = plain((graph.hops or (graph,))[0].edge_index)
    pairs, pair_of_edge = undirected_pairs(edges, graph.x.size(0))
    return _without(graph, (torch.rand(pairs.numel(), device=edges.device) < dropout)[pair_of_edge])


def drop_edges(graph: Graph, rate: float) -> Graph:
    """The graph without a random share of its edges: one training step's graph in DropEdge (Rong et al., ICLR 2020).

    Each directed edge is dropped independently, by PyTorch's global generator; the paper draws a fixed number of them.
    The network that reads the graph normalises what is left, as in the paper.

    Args:
        graph: `edge_index` `[2, E]`, with what belongs to edges, or `hops` of such edges.
        rate: probability that an edge is missing.
    """
    edges = (graph.hops or (graph,))[0].edge_index
    return _without(graph, torch.rand(edges.size(1), device=edges.device) < rate)


def _without(graph: Graph, hidden: Tensor) -> Graph:
    """The graph without the edges of a mask `[E]`; for hops, of the first one's edges, which start with the others'."""
    if graph.hops:
        return replace(graph, hops=tuple(hop.without_edges(hidden[: hop.num_edges]) for hop in graph.hops))
    return graph.without_edges(hidden)
