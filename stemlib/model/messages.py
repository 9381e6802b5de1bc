"""Means over neighbourhoods: the one place where a graph's edges are read.

Edges run from `edge_index[0]` (source) to `edge_index[1]` (target), as in PyTorch Geometric. A plain `[2, E]` tensor is
gathered and scattered edge by edge; a PyG `EdgeIndex` sorted by target becomes a sparse product, with its transpose
cached for the backward pass: the same numbers, several times faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import scatter

from stemlib.data.graph import Graph, plain, sorted_by_target

# PyTorch announces once per process that its sparse products are in beta; the tests compare them with the plain form.
warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
_MEANS = WeakTensorKeyDictionary()  # `mean_over` the edges that are in use


class Spread:
    """A sparse matrix that multiplies states, `spread @ x`; its transpose, which gradients need, is made once.

    PyTorch's own gradient of a product with a CSR matrix sorts the matrix anew in every step, and PyG's (2.8) for an
    `EdgeIndex` gets the sizes wrong if `S` is not `T`.

    Args:
        matrix: CSR `[T, S]`, whose values need no gradient.
        transposed: gives CSR `[S, T]`; called at the first gradient. None: it is made from the matrix.
    """

    def __init__(self, matrix: Tensor, transposed: Callable[[], Tensor] | None = None) -> None:
        self.matrix, self._make = matrix, transposed or (lambda: matrix.t().to_sparse_csr())

    @cached_property
    def transposed(self) -> Tensor:
        """CSR `[S, T]`."""
        return self._make()

    def __matmul__(self, x: Tensor) -> Tensor:
        """States `[T, d]` of the targets from those of the sources `[S, d]`."""
        return _SparseProduct.apply(x, self)


class Gathered:
    """A `Spread` edge by edge, for an exported network, which has no sparse matrices.

    Args:
        edges: source and target `[2, E]`.
        weights: of the edges `[E]`.
        targets: the number of targets.
    """

    def __init__(self, edges: Tensor, weights: Tensor, targets: int) -> None:
        self.edges, self.weights, self.targets = edges, weights, targets

    def __matmul__(self, x: Tensor) -> Tensor:
        """States `[T, d]` of the targets from those of the sources `[S, d]`."""
        source, target = self.edges
        return scatter(x[source] * self.weights.unsqueeze(1), target, dim_size=self.targets, reduce="sum")


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, spread: Spread) -> Tensor:
        ctx.spread = spread
        return _product(spread.matrix, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _product(ctx.spread.transposed, grad), None


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    # The form with a reduction is the faster one on a CPU, but has no kernel for GPUs.
    if x.device.type == "cpu":
        return torch.sparse.mm(matrix, x.contiguous(), "sum")
    with torch.autocast(x.device.type, enabled=False):  # which would round x and not the matrix
        return matrix @ x


def neighbour_mean(x: Tensor, edge_index: Tensor) -> Tensor:
    """`mean_{j -> i} x_j`, `[N, d]`; zero for a node that no edge ends in.

    An `EdgeIndex` may lead from `S` sources to `T` targets (`sparse_size`): then `x` is `[S, d]` and the mean `[T, d]`.
    """
    if isinstance(edge_index, EdgeIndex):
        return mean_over(edge_index, x.dtype) @ x
    return scatter(x[edge_index[0]], edge_index[1], dim_size=x.size(0), reduce="mean")


def mean_over(edge_index: EdgeIndex, dtype: torch.dtype) -> Spread:
    """The means over edges sorted by target; made once for as long as these are in use."""
    if edge_index not in _MEANS or _MEANS[edge_index].matrix.dtype != dtype:
        (pointer, source), _ = edge_index.get_csc()
        (by_source, target), order = edge_index.get_csr()
        count, (targets, sources) = pointer.diff(), (pointer.numel() - 1, by_source.numel() - 1)
        share = count.clamp(min=1).to(dtype).reciprocal().repeat_interleave(count, output_size=source.numel())
        _MEANS[edge_index] = Spread(
            torch.sparse_csr_tensor(pointer, source, share, size=(targets, sources)),
            lambda: torch.sparse_csr_tensor(by_source, target, share[order], size=(sources, targets)),
        )
    return _MEANS[edge_index]


def means(graph: Graph, dtype: torch.dtype) -> Spread | Gathered:
    """The means over the edges of a whole graph, `[N, N]`; made once."""
    if torch.compiler.is_exporting():
        one = torch.ones_like(graph.edge_index[1], dtype=dtype)
        count = scatter(one, graph.edge_index[1], dim_size=graph.num_nodes, reduce="sum")
        return Gathered(graph.edge_index, count[graph.edge_index[1]].reciprocal(), graph.num_nodes)
    key = ("mean", dtype)
    return graph.derived(key, lambda: mean_over(sorted_by_target(graph).edge_index, dtype), graph.edge_index)


def normalised(graph: Graph, dtype: torch.dtype) -> Spread | Gathered:
    """`D^-1/2 (A + I) D^-1/2` of a whole graph, `[N, N]`, a GCN's; made once. Row `i` has the edges that end in `i`."""
    if torch.compiler.is_exporting():
        edges, weights = gcn_norm(graph.edge_index, num_nodes=graph.num_nodes, dtype=dtype)
        return Gathered(edges, weights, graph.num_nodes)

    def matrix() -> Spread:
        edges, weights = gcn_norm(plain(graph.edge_index), num_nodes=graph.num_nodes, dtype=dtype)
        index, order = EdgeIndex(edges, sparse_size=(graph.num_nodes, graph.num_nodes)).sort_by("col")
        return Spread(index.to_sparse_csc(weights[order]).t())

    return graph.derived(("normalised", dtype), matrix, graph.edge_index)


def edge_mean(graph: Graph, table: Tensor) -> Tensor:
    """Mean of the features of the edges that end in each node, `[N, d]`.

    Args:
        graph: its `edge_type` `[E]`, if it has one, indexes `table`.
        table: `[T, d]`, or `[E, d]` if the graph has no edge types.
    """
    target = plain(graph.edge_index)[1]
    if graph.edge_type is None:
        return scatter(table, target, dim_size=graph.num_nodes, reduce="mean")
    # Counting types per node first needs no [E, d] tensor: there are far fewer types than edges.
    types = table.size(0)

    def shares() -> Tensor:
        cells, one = target * types + graph.edge_type, table.new_ones(1)
        counts = table.new_zeros(graph.num_nodes * types).index_add_(0, cells, one.expand(len(cells)))
        counts = counts.view(graph.num_nodes, types)
        return counts.div_(counts.sum(1, keepdim=True).clamp(min=1))

    return graph.derived(("types", types, table.dtype), shares, graph.edge_index, graph.edge_type) @ table


def message_mean(x: Tensor, graph: Graph, table: Tensor | None) -> Tensor:
    """`mean_{j -> i} relu(x_j + e_ij)`, `[N, d]`; without edge features `mean_{j -> i} relu(x_j)`."""
    if table is None:
        return neighbour_mean(x.relu(), graph.edge_index)
    features = table if graph.edge_type is None else table[graph.edge_type]
    source, target = plain(graph.edge_index)
    messages = (x[source] + features).relu()
    return scatter(messages, target, dim_size=graph.num_nodes, reduce="mean")
