"""Layers other than the routed ones: the dense layers that experts replace, and dropout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv

from stemlib.data.graph import Graph
from stemlib.model.messages import message_mean, neighbour_mean
from stemlib.model.sparse_features import first_rows, is_sparse


class Dropout(nn.Dropout):
    """Dropout in a third of the time on a CPU: one draw of 64 random bits serves four values, 16 bits each.

    A value is dropped with probability `p` rounded to a multiple of `2**-16`. In a sparse CSR matrix only stored values
    are dropped: the others are zero anyway.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`x` with some values dropped and the others scaled up in training, `x` itself in evaluation."""
        if not self.training or self.p == 0:
            return x
        if is_sparse(x):
            return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), self(x.values()), size=x.shape)
        if x.device.type != "cpu":
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
