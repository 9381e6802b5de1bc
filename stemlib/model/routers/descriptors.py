"""Where a node lies, in numbers that deployment can measure without labels."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stemlib.data.graph import Graph, node_features, plain
from stemlib.model.messages import neighbour_mean

MOTIFS = ("clustering", "log triangles", "log squares", "log paths")
DESCRIPTORS = ("log degree", *MOTIFS, "feature homophily", "share of zero features")


def degrees(graph: Graph, like: Tensor) -> Tensor:
    """How many edges end in each node, `[N]`, in the dtype of `like`."""

    def count() -> Tensor:
        return torch.bincount(plain(graph.edge_index)[1], minlength=graph.num_nodes)

    return graph.derived("degrees", count, graph.edge_index).to(like.dtype)


def motifs(graph: Graph) -> Tensor:
    """`MOTIFS` of each node, `[N, 4]`, in float64; counts as `log(1 + count)`.

    Clustering is the share of pairs of a node's neighbours that are adjacent, 0 with fewer than two neighbours. The
    counts are of the triangles and four-cycles that a node is on, with or without chords, and of the paths of two edges
    that start at it; paths centred on it depend on its degree alone. Edge directions, repeated edges and self-loops do
    not count. The cost is one product of the adjacency matrix with itself.
    """
    source, target = plain(graph.edge_index).cpu().numpy()
    keep, shape = source != target, (graph.num_nodes, graph.num_nodes)
    one_way = scipy.sparse.csr_matrix((np.ones(keep.sum()), (source[keep], target[keep])), shape=shape)
    edges = ((one_way + one_way.T) > 0).astype(float)
    walks = edges @ edges  # of two steps, by their ends; those that come back are on the diagonal
    degree, closed, paths = (np.asarray(each.sum(1)).ravel() for each in (edges, walks.multiply(edges), walks))
    walks.data *= (walks.data - 1) / 2  # pairs of walks with the same ends
    wedges = degree * (degree - 1) / 2
    squares = np.asarray(walks.sum(1)).ravel() - wedges
    counts = np.log1p([closed / 2, squares, paths - degree])
    return torch.from_numpy(np.stack([closed / np.maximum(2 * wedges, 1), *counts], axis=1))


@torch.no_grad()
def descriptors(graph: Graph) -> Tensor:
    """`DESCRIPTORS` of each node of a whole graph, `[N, 7]`; computed once per graph.

    Feature homophily is the cosine between a node's features and the mean of its neighbours'.
    """

    def measure() -> Tensor:
        features = node_features(graph).to_dense()
        alike = cosine_similarity(features, neighbour_mean(features, graph.edge_index), dim=1)
        read = [
            degrees(graph, features).log1p(),
            *motifs(graph).to(features).unbind(1),
            alike,
            features.eq(0).mean(1, dtype=features.dtype),
        ]
        return torch.stack(read, dim=1)

    of = [one for one in (graph.x, graph.edge_index, graph.node_type) if one is not None]
    return graph.derived("descriptors", measure, *of)
