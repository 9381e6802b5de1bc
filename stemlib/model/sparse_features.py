"""Bag-of-words features as sparse matrices: a paper in Cora has eighteen of 1,433 words.

The first layer's products with them are most of a step's work, and nearly all of it is multiplying by zero. Networks
read a CSR matrix instead, and map features before they average them: `benchmarks/sparse_features.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stemlib.data.graph import Graph, node_features

FULLEST = 0.03  # share of values that are not zero; with twice as many a sparse product is no faster
FEWEST = 2**20  # values; smaller matrices cost little


def compact(x: Tensor) -> Tensor:
    """Features `[N, d]` as a sparse CSR matrix if products with it are faster, otherwise as they are."""
    if (
        torch.compiler.is_exporting()
        or is_sparse(x)
        or x.device.type != "cpu"
        or x.numel() < FEWEST
        or x.count_nonzero() > FULLEST * x.numel()
    ):
        return x
    return x.to_sparse_csr()


def compacted(graph: Graph) -> Tensor:
    """Node features `[N, d]`, `compact` if they are the graph's own and need no gradient; made once."""
    x = node_features(graph)
    if x is not graph.x or x.requires_grad:
        return x
    return graph.derived("compact", lambda: compact(x), x)


def is_sparse(x: Tensor) -> bool:
    """Whether features are a sparse CSR matrix."""
    return x.layout == torch.sparse_csr


def first_rows(x: Tensor, count: int) -> Tensor:
    """The first rows `[count, d]` of full or sparse features."""
    if not is_sparse(x):
        return x[:count]
    pointer = x.crow_indices()[: count + 1]
    stored = slice(int(pointer[-1]))
    return torch.sparse_csr_tensor(pointer, x.col_indices()[stored], x.values()[stored], size=(count, x.size(1)))
