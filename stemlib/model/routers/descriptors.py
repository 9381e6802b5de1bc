"""Where a node lies, in numbers that deployment can measure without labels."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from stemlib.data.graph import Graph, node_features, plain
from stemlib.model.messages import neighbour_mean

DESCRIPTORS = ("log degree", "clustering", "feature homophily", "share of zero features")


def degrees(graph: Graph, like: Tensor) -> Tensor:
    """How many edges end in each node, `[N]`, as numbers like `like`."""

    def count() -> Tensor:
        return torch.bincount(plain(graph.edge_index)[1], minlength=graph.num_nodes)

    return graph.derived("degrees", count, graph.edge_index).to(like.dtype)


def clustering(graph: Graph) -> Tensor:
    """Share of a node's pairs of neighbours that are neighbours, `[N]`, in float64; 0 with fewer than two.

    Directions, repeats and self-loops of edges do not count.
    """
    source, target = plain(graph.edge_index).cpu().numpy()
    keep, shape = source != target, (graph.num_nodes, graph.num_nodes)
    one_way = scipy.sparse.csr_matrix((np.ones(keep.sum()), (source[keep], target[keep])), shape=shape)
    edges = ((one_way + one_way.T) > 0).astype(float)
    degree, closed = (np.asarray(each.sum(1)).ravel() for each in (edges, (edges @ edges).multiply(edges)))
    return torch.from_numpy(closed / np.maximum(degree * (degree - 1), 1))


@torch.no_grad()
def descriptors(graph: Graph) -> Tensor:
    """`DESCRIPTORS` of each node of a whole graph, `[N, 4]`; worked out once of the same graph.

    Feature homophily is the cosine of a node's features and the mean of its neighbours'.
    """

    def measure() -> Tensor:
        features = node_features(graph).to_dense()
        alike = cosine_similarity(features, neighbour_mean(features, graph.edge_index), dim=1)
        read = [
            degrees(graph, features).log1p(),
            clustering(graph).to(features),
            alike,
            features.eq(0).mean(1, dtype=features.dtype),
        ]
        return torch.stack(read, dim=1)

    of = [one for one in (graph.x, graph.edge_index, graph.node_type) if one is not None]
    return graph.derived("descriptors", measure, *of)
