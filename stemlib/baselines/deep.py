"""Published networks that reach many hops, and one that mixes filters in each layer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import APPNP, GCN2Conv
from torch_geometric.nn.models import MLP

from stemlib.model.messages import Spread

CHANNELS = 3  # of an ACM layer: low-pass, high-pass, identity


class PersonalisedSteps(APPNP):
    """PyG's layer over a normalised `Spread`."""

    def propagate(self, edge_index: Spread, x: Tensor, **others: None) -> Tensor:
        """One step's sums, `[N, d]`."""
        return edge_index @ x


class GCN2Layer(GCN2Conv):
    """PyG's layer over a normalised `Spread`."""

    def propagate(self, edge_index: Spread, x: Tensor, **others: None) -> Tensor:
        """Sums over neighbours, `[N, d]`."""
        return edge_index @ x


class PlainAPPNP(MLP):
    """PyG's MLP whose answers `z_0` take `steps` steps of `z = (1 - alpha) P z + alpha z_0` (Gasteiger et al., 2019).

    The last bias is added after the steps, which would give each node a different multiple of it: so answers that start
    at the prior are the prior.
    """

    def __init__(self, in_channels: int, steps: int = 10, alpha: float = 0.1, **sizes: Any) -> None:
        super().__init__(in_channels=in_channels, norm=None, **sizes)
        self.steps = PersonalisedSteps(steps, alpha, normalize=False)

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """Logits of the nodes `[N, classes]`."""
        bias = self.lins[-1].bias
        return self.steps(super().forward(x) - bias, edges) + bias


class PlainGCNII(nn.Module):
    """PyG's GCNII layers between a linear map in and one out (Chen et al., "Simple and Deep GCNs", ICML 2020)."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        dropout: float = 0.0,
        alpha: float = 0.1,
        theta: float = 0.5,
    ) -> None:
        super().__init__()
        self.lins = nn.ModuleList([nn.Linear(in_channels, hidden_channels), nn.Linear(hidden_channels, out_channels)])
        self.convs = nn.ModuleList(
            GCN2Layer(hidden_channels, alpha, theta, layer, normalize=False) for layer in range(1, num_layers + 1)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """Logits of the nodes `[N, classes]`."""
        x = first = self.lins[0](x).relu()
        for conv in self.convs:
            x = conv(self.dropout(x), first, edges).relu()
        return self.lins[1](self.dropout(x))


class ACMLayer(nn.Module):
    """Low-pass, high-pass and identity channels, which every node mixes by its own gates, `[N, d_in] -> [N, d_out]`.

    Channels `relu(P x W_1)`, `relu((I - P) x W_2)` and `relu(x W_3)`; gates `softmax(sigmoid(scores) mix / 3)`, where a
    channel's score is its product with a vector. The bias is ours: without it no answer could start at the prior.

    Attributes:
        weight: the channels' maps, one below the other, `[3 d_out, d_in]`.
        bias: added to the mix, `[d_out]`.
        score: each channel's vector `[3, d_out]`.
        mix: `[3, 3]`.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        maps = [nn.init.xavier_uniform_(torch.empty(out_width, in_width)) for _ in range(CHANNELS)]
        self.weight = nn.Parameter(torch.cat(maps))
        self.bias = nn.Parameter(torch.zeros(out_width))
        self.score = nn.Parameter(nn.init.xavier_uniform_(torch.empty(CHANNELS, out_width)))
        self.mix = nn.Parameter(nn.init.xavier_uniform_(torch.empty(CHANNELS, CHANNELS)))

    def channels(self, x: Tensor, edges: Spread) -> Tensor:
        """The channels' states `[N, 3, d_out]`."""
        low, high, own = F.linear(x, self.weight).chunk(CHANNELS, dim=1)
        smooth, smoothed = (edges @ torch.cat([low, high], dim=1)).chunk(2, dim=1)
        return torch.stack([smooth, high - smoothed, own], dim=1).relu()

    def gates(self, states: Tensor) -> Tensor:
        """How every node mixes its channels `[N, 3, d_out]`: `[N, 3]`, rows sum to 1."""
        scores = (states * self.score).sum(2).sigmoid()
        return (scores @ self.mix / CHANNELS).softmax(1)

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """States of the nodes `[N, d_out]`."""
        states = self.channels(x, edges)
        return (self.gates(states).unsqueeze(2) * states).sum(1) + self.bias


class ACM(nn.Module):
    """A stack of `ACMLayer`s (Luan et al., "Revisiting Heterophily For Graph Neural Networks", NeurIPS 2022).

    As in the paper, the last layer's channels end in a ReLU too, so that no answer lies below its bias. Channels
    without it score lower, on validation as well (Cora, Chameleon); a regression would do better with them (ESOL).
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        self.convs = nn.ModuleList(ACMLayer(*pair) for pair in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """Logits of the nodes `[N, classes]`."""
        for conv in self.convs[:-1]:
            x = self.dropout(conv(x, edges))
        return self.convs[-1](x, edges)
