"""Layers: GraphSAGE-mean experts that gates mix, and the dense layers that they replace."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric import EdgeIndex
from torch_geometric.nn import GATConv, GCNConv, GINConv

from stemlib.data.graph import Graph
from stemlib.model.messages import message_mean, neighbour_mean
from stemlib.model.sparse_features import first_rows, is_sparse

# Rows that go through the experts together where no gradient is wanted: 3 experts of 128 units are 3 MB then, so
# that their outputs are mixed while they lie in the processor's cache (1.6 to 2 times faster on large graphs).
ROWS = 2048


class RoutedSAGE(nn.Module):
    """`K` GraphSAGE-mean experts that share one neighbourhood mean.

    Args:
        in_width: width of the input `d_in`.
        out_width: width of the output `d_out`.
        experts: number of experts `K`.
        init: `per_expert` draws every expert with its own Xavier fans; `reference` draws the whole
            `[K, 2 d_in, d_out]` tensor at once, as the authors do, whose fans are wrong: experts
            start about 20 times too small.
    """

    def __init__(self, in_width: int, out_width: int, experts: int, init: str = "per_expert") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, 2 * in_width, out_width))
        self.residual = in_width == out_width
        for block in self.weight if init == "per_expert" else [self.weight]:
            nn.init.xavier_uniform_(block)

    @property
    def experts(self) -> int:
        """Number of experts `K`."""
        return self.weight.size(0)

    def expert_outputs(self, mean: Tensor, x: Tensor) -> Tensor:
        """Every expert's output `[N, K, d_out]` from neighbourhood means and own states `[N, d_in]`."""
        outputs = self._products(mean, x)
        return outputs + x.unsqueeze(1) if self.residual else outputs

    def forward(self, mean: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """`sum_k g_ik ([mean_i ; x_i] W_k)`, and `x_i` where widths match: the experts' outputs mixed, `[N, d_out]`.

        The paper's experts; `expert_outputs` has them apart.

        Args:
            mean: over each node's in-neighbours, `[N, d_in]`.
            x: own states `[N, d_in]`.
            gates: `[N, K]`, rows on the simplex.

        Example:
            >>> layer = RoutedSAGE(in_width=8, out_width=16, experts=3)
            >>> mean, x, gates = torch.randn(5, 8), torch.randn(5, 8), torch.randn(5, 3).softmax(dim=-1)
            >>> layer(mean, x, gates).shape, layer.expert_outputs(mean, x).shape
            (torch.Size([5, 16]), torch.Size([5, 3, 16]))
        """
        rows = max(x.size(0), 1) if torch.is_grad_enabled() or x.is_cuda else ROWS
        parts = zip(mean.split(rows), x.split(rows), gates.split(rows), strict=True)
        mixed = torch.cat([mixture(g, self._products(m, own)) for m, own, g in parts])
        return self._with_residual(mixed, x)

    def projected(self, x: Tensor, edge_index: EdgeIndex) -> Tensor:
        """`expert_outputs` without residual where neighbours' states are mapped before they are averaged.

        With sparse states that is a sparse product, and no wide mean has to be made.

        Args:
            x: sparse states of the sources `[S, d_in]`.
            edge_index: from the sources to the targets, the first of them.

        Returns:
            `[T, K, d_out]`.
        """
        of_mean, of_own = self.weight.transpose(0, 1).flatten(1).chunk(2)  # [d_in, K d_out] each
        mapped = x @ torch.cat([of_mean, of_own], dim=1)
        neighbours, own = mapped.chunk(2, dim=1)
        mean = neighbour_mean(neighbours, edge_index)
        return (mean + own[: mean.size(0)]).unflatten(1, (self.experts, -1))

    def mix(self, products: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """`forward` where the products `[mean ; x] W_k` `[N, K, d_out]` are known."""
        return self._with_residual(mixture(gates, products), x)

    def _with_residual(self, mixed: Tensor, x: Tensor) -> Tensor:
        # Every expert adds x, and gates sum to one: the mixture adds it once.
        return mixed.add_(x) if self.residual else mixed

    def _products(self, mean: Tensor, x: Tensor) -> Tensor:
        """`[mean ; x] W_k` for all experts, `[N, K, d_out]`, as one product with the experts side by side."""
        side_by_side = self.weight.transpose(0, 1).flatten(1)  # [2 d_in, K d_out]
        return (torch.cat([mean, x], dim=-1) @ side_by_side).unflatten(-1, (self.experts, -1))


def mixture(gates: Tensor, outputs: Tensor) -> Tensor:
    """`sum_k g_ik u_ik`, `[N, d]`, of gates `[N, K]` (or any weights) and expert outputs `[N, K, d]`."""
    return _Mixture.apply(gates, outputs)


class _Mixture(torch.autograd.Function):
    """`einsum("nk,nko->no", gates, outputs)`, which runs as one tiny product per node, up to five times slower."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, outputs: Tensor) -> Tensor:
        ctx.save_for_backward(gates, outputs)
        mixed = gates[:, :1] * outputs[:, 0]
        for k in range(1, outputs.size(1)):
            mixed.addcmul_(gates[:, k : k + 1], outputs[:, k])
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        gates, outputs = ctx.saved_tensors
        of_gates = None
        if ctx.needs_input_grad[0]:  # under autocast the outputs are in bf16, the mixture is not
            of_gates = torch.bmm(outputs, grad.to(outputs.dtype).unsqueeze(2)).squeeze(2)
        return of_gates, gates.unsqueeze(2) * grad.unsqueeze(1)


class Dropout(nn.Dropout):
    """Dropout at a third of the time on a CPU: one draw of 64 random bits serves four values, 16 bits each.

    A value is dropped with probability `p` rounded to a multiple of `2**-16`. Of a sparse CSR matrix the stored values
    are dropped: the others are zero either way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`x` with some values dropped and the others scaled up in training, `x` itself in evaluation."""
        if not self.training or self.p == 0:
            return x
        if is_sparse(x):
            return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), self(x.values()), size=x.shape)
        if x.is_cuda:
            return super().forward(x)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.long).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: x.numel()].view_as(x) >= round(self.p * 2**16) - 2**15
        return (x * kept).mul_(1 / (1 - self.p))


class DenseSAGE(nn.Module):
    """`W_l mean_j relu(x_j + e_ij) + W_r x_i`: the reference's dense layer, `[N, d_in] -> [N, d_out]`."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.lin_l = nn.Linear(in_width, out_width)
        self.lin_r = nn.Linear(in_width, out_width, bias=False)

    def forward(self, x: Tensor, graph: Graph, edge_table: Tensor | None) -> Tensor:
        """States `[T, d_out]` of the targets from those of the sources `[S, d_in]`."""
        own = self.lin_r(first_rows(x, graph.num_nodes))
        if is_sparse(x):  # mapped first: see `RoutedSAGE.projected`
            mapped = F.linear(x.relu(), self.lin_l.weight)
            return neighbour_mean(mapped, graph.edge_index) + self.lin_l.bias + own
        return self.lin_l(message_mean(x, graph, edge_table)) + own


class DenseConv(nn.Module):
    """A PyG convolution as a dense layer; it reads no edge features, as in the reference."""

    def __init__(self, backbone: str, in_width: int, out_width: int) -> None:
        super().__init__()
        if backbone == "gcn":
            self.conv: nn.Module = GCNConv(in_width, out_width)
        elif backbone == "gat":
            self.conv = GATConv(in_width, out_width, heads=1)
        else:
            self.conv = GINConv(nn.Linear(in_width, out_width))

    def forward(self, x: Tensor, graph: Graph, edge_table: Tensor | None) -> Tensor:
        """States `[N, d_out]` from `[N, d_in]`; the edge features are not read."""
        return self.conv(x, graph.edge_index)
