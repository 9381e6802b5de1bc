"""Means over neighbourhoods: the one place where a graph's edges are read.

Edges run from `edge_index[0]` (source) to `edge_index[1]` (target), as in PyTorch Geometric. A plain
`[2, E]` tensor is gathered and scattered edge by edge; a PyG `EdgeIndex` sorted by target is a sparse
product with its transpose cached for the backward pass: the same numbers, several times faster.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric import EdgeIndex
from torch_geometric.utils import scatter

from stemlib.data.graph import Graph, plain

# PyTorch announces once per process that its sparse products are in beta; the tests hold them to the plain form.
warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)


def neighbour_mean(x: Tensor, edge_index: Tensor) -> Tensor:
    """`mean_{j -> i} x_j`, `[N, d]`; zero for a node that no edge ends in.

    An `EdgeIndex` may lead from `S` sources to `T` targets (`sparse_size`): `x` is `[S, d]` then, the mean `[T, d]`.
    """
    if isinstance(edge_index, EdgeIndex):
        return _SparseMean.apply(x, edge_index)
    return scatter(x[edge_index[0]], edge_index[1], dim_size=x.size(0), reduce="mean")


class _SparseMean(torch.autograd.Function):
    """One sparse product each way. PyG's own (2.8) has the sizes of its backward pass wrong where `S` is not `T`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, edge_index: EdgeIndex) -> Tensor:
        (pointer, source), _ = edge_index.get_csc()
        count = pointer.diff()
        weight = count.clamp(min=1).to(x.dtype).reciprocal().repeat_interleave(count)
        ctx.edge_index, ctx.weight = edge_index, weight
        return _sparse_product(pointer, source, weight, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (pointer, target), permutation = ctx.edge_index.get_csr()
        return _sparse_product(pointer, target, ctx.weight[permutation], grad), None


def _sparse_product(pointer: Tensor, column: Tensor, value: Tensor, x: Tensor) -> Tensor:
    matrix = torch.sparse_csr_tensor(pointer, column, value, size=(pointer.numel() - 1, x.size(0)))
    # The form with a reduction is the faster one on a CPU, and the only one without a kernel for GPUs.
    return matrix @ x if x.is_cuda else torch.sparse.mm(matrix, x.contiguous(), "sum")


def edge_mean(graph: Graph, table: Tensor) -> Tensor:
    """Mean of the features of the edges that end in each node, `[N, d]`.

    Args:
        graph: its `edge_type` `[E]`, where it has one, indexes `table`.
        table: `[T, d]`, or `[E, d]` where the graph has no edge types.
    """
    target = plain(graph.edge_index)[1]
    if graph.edge_type is None:
        return scatter(table, target, dim_size=graph.num_nodes, reduce="mean")
    # Counting types per node first needs no [E, d] tensor: there are far fewer types than edges.
    types = table.size(0)
    counts = torch.bincount(target * types + graph.edge_type, minlength=graph.num_nodes * types)
    share = counts.view(graph.num_nodes, types).to(table.dtype)
    return share.div_(share.sum(1, keepdim=True).clamp(min=1)) @ table


def message_mean(x: Tensor, graph: Graph, table: Tensor | None) -> Tensor:
    """`mean_{j -> i} relu(x_j + e_ij)`, `[N, d]`; without edge features `mean_{j -> i} relu(x_j)`."""
    if table is None:
        return neighbour_mean(x.relu(), graph.edge_index)
    features = table if graph.edge_type is None else table[graph.edge_type]
    source, target = plain(graph.edge_index)
    messages = (x[source] + features).relu()
    return scatter(messages, target, dim_size=graph.num_nodes, reduce="mean")
