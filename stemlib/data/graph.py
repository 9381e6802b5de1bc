"""Graphs as the library reads them."""

from __future__ import annotations

from copy import copy

from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data


def sorted_by_target(graph: Data) -> Data:
    """A shallow copy of `graph` whose `edge_index` is an `EdgeIndex` sorted by target, caches filled.

    Edge features and types are permuted along, so that the graph stays the same graph.
    """
    if isinstance(graph.edge_index, EdgeIndex) and graph.edge_index.is_sorted_by_col:
        return graph
    size = (graph.num_nodes, graph.num_nodes)
    index, permutation = EdgeIndex(plain(graph.edge_index), sparse_size=size).sort_by("col")
    out = copy(graph)
    out.edge_index = index.fill_cache_()
    if permutation is not None:
        for name in edge_attributes(graph):
            out[name] = graph[name][permutation]
    return out


def plain(edge_index: Tensor) -> Tensor:
    """`edge_index` as a tensor without caches, in the same order."""
    return edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index


def edge_attributes(graph: Data) -> list[str]:
    """Names of what is stored edge by edge: `edge_type` where there are types, else `edge_attr`; and `edge_pair`."""
    features = "edge_type" if graph.get("edge_type") is not None else "edge_attr"
    return [name for name in (features, "edge_pair") if graph.get(name) is not None]


def node_features(graph: Data, nodes: Tensor | None = None) -> Tensor:
    """Features of some nodes (default: all), `[n, d]`, of a graph that has them by node or by node type.

    A graph with `node_type` `[N]` keeps in `x` a table `[A, d]` of its types, as `edge_attr` is one where there is
    `edge_type`: a million atoms are of some hundred types.
    """
    if graph.get("node_type") is None:
        return graph.x if nodes is None else graph.x[nodes]
    return graph.x[graph.node_type if nodes is None else graph.node_type[nodes]]


def undirected_pairs(edges: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """The undirected edges, `lower N + higher` of their ends, `[P]`, and which of them each edge `[2, E]` is, `[E]`."""
    return (edges.min(0).values * nodes + edges.max(0).values).unique(return_inverse=True)


def thinned(graph: Data, missing: Tensor) -> Data:
    """A new graph without the edges of the mask `missing` `[E]`."""
    out, keep = copy(graph), ~missing
    out.edge_index = plain(graph.edge_index)[:, keep]
    for name in edge_attributes(graph):
        out[name] = graph[name][keep]
    return out


def without_edges(graph: Data, hidden: Tensor) -> Data:
    """The graph, edges sorted by target, without those of the mask `hidden` `[E]`."""
    out, kept = copy(graph), ~hidden
    edges = plain(graph.edge_index)[:, kept]
    out.edge_index = EdgeIndex(edges, sparse_size=graph.edge_index.sparse_size(), sort_order="col").fill_cache_()
    for name in edge_attributes(graph):
        out[name] = graph[name][kept]
    return out
