"""Robust message passing: a GCN whose mean is a soft median."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.utils import scatter, softmax

from stemlib.model.messages import Spread

# Weights that add up to half, rounding aside, count as half, in whatever order they were added.
HALF = 0.5 * (1 - 1e-6)
MOST_COUNTED = 16  # values of a group; more are sorted faster than compared


def weighted_median(x: Tensor, weight: Tensor, pointer: Tensor) -> Tensor:
    """The median of every group of rows in every column: the smallest value with half of the weight up to it.

    Args:
        x: values `[E, d]`, group after group.
        weight: of the rows, positive, `[E]`.
        pointer: where each group begins, and `E`, `[G + 1]`; no group is empty.

    Returns:
        Medians `[G, d]`; each is an entry of `x` and passes its gradient on.
    """
    place = pointer.new_empty(pointer.numel() - 1, x.size(1))
    size = pointer.diff()
    for count in size.unique().tolist():  # groups of one size together
        groups = (size == count).nonzero().flatten()
        rows = pointer[groups].unsqueeze(1) + torch.arange(count, device=x.device)  # [n, count]
        found = (_by_counting if count <= MOST_COUNTED else _by_sorting)(x.detach()[rows], weight[rows])
        place[groups] = pointer[groups].unsqueeze(1) + found
    return x.gather(0, place)


def _by_counting(values: Tensor, weight: Tensor) -> Tensor:
    """Which of the values `[n, c, d]` of weights `[n, c]` is the median, `[n, d]`: each is compared with the others."""
    carried, below = torch.zeros_like(values), torch.empty_like(values)  # the weight up to each value
    for other in range(values.size(1)):
        torch.le(values[:, other : other + 1], values, out=below)
        carried.addcmul_(below, weight[:, other, None, None])
    enough = carried >= HALF * weight.sum(1)[:, None, None]
    return torch.where(enough, values, torch.inf).min(1).indices


def _by_sorting(values: Tensor, weight: Tensor) -> Tensor:
    """As `_by_counting`, for many values."""
    order = values.transpose(1, 2).argsort(-1)  # [n, d, c]
    carried = weight.unsqueeze(1).expand_as(order).gather(2, order).cumsum(-1)
    before = (carried < HALF * carried[..., -1:]).sum(-1, keepdim=True)
    return order.gather(2, before).squeeze(2)


def soft_median(x: Tensor, matrix: Tensor, temperature: float) -> Tensor:
    """Weighted means of neighbours, whose weights fade with distance from the neighbourhood's median, `[N, d]`.

    `sum_j a_ij * sum_j w_ij x_j / sum_j w_ij` with `w_ij = a_ij softmax_j(-|x_j - m_i| / (T sqrt(d)))`, where `m_i` is
    the weighted median of the neighbours in each dimension (Geisler et al., NeurIPS 2021). A high temperature gives
    `A x`, as in a GCN; a low one the neighbour closest to the median.

    Args:
        x: states `[N, d]`.
        matrix: `A`, sparse CSR `[N, N]`, no row empty; `a_ij` belongs to an edge that ends in `i`.
        temperature: `T`.
    """
    pointer, source, weight = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    nodes = x.size(0)
    target = torch.arange(nodes, device=x.device).repeat_interleave(pointer.diff())
    neighbours = x.index_select(0, source)
    median = weighted_median(neighbours, weight, pointer)
    distance = torch.linalg.vector_norm(neighbours - median.index_select(0, target), dim=1) / x.size(1) ** 0.5
    faded = weight * softmax(-distance / temperature, target, num_nodes=nodes)
    sums = scatter(torch.stack([weight, faded], dim=1), target, dim_size=nodes)
    share = faded * (sums[:, 0] / sums[:, 1])[target]
    return scatter(share.unsqueeze(1) * neighbours, target, dim_size=nodes)


class SoftMedianConv(nn.Module):
    """A GCN layer with `soft_median` in place of its sum: `[N, d_in] -> [N, d_out]`."""

    def __init__(self, in_width: int, out_width: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.lin = Linear(in_width, out_width, bias=False, weight_initializer="glorot")
        self.bias = nn.Parameter(torch.zeros(out_width))

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """Soft medians of the neighbours' mapped states, `[N, out_width]`."""
        return soft_median(self.lin(x), edges.matrix, self.temperature) + self.bias


class SoftMedianGCN(BasicGNN):
    """PyG's stack of layers with `SoftMedianConv` (Geisler et al., "Robustness of GNNs at Scale", NeurIPS 2021).

    The paper's networks read a graph that personalised PageRank has made denser; this one reads the graph as it is.
    """

    supports_edge_weight: Final[bool] = False
    supports_edge_attr: Final[bool] = False
    supports_norm_batch: Final[bool] = False

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> nn.Module:
        """One layer, as PyG asks for it."""
        return SoftMedianConv(in_channels, out_channels, **kwargs)
