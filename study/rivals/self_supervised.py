"""Objectives that train an encoder without labels: Deep Graph Infomax, BGRL and GraphMAE.

Each is a module with an `encoder` that is kept and parts that are thrown away; called with a graph it gives the loss of
one step. What the encoder reads is `network_input` of `stemlib.baselines.networks`: "features" below are these, edge
means included. All draws come from PyTorch's global generator.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import DeepGraphInfomax
from torch_geometric.nn.models import MLP
from torch_geometric.utils import add_self_loops, remove_self_loops, scatter, softmax

from stemlib.baselines.networks import adjacency, network_input
from stemlib.data.graph import Graph
from stemlib.model.layers import Dropout
from stemlib.stress.views import view
from study.rivals.probe import GAT, GraphEncoder, PReLU, convolution
from study.rivals.settings import BGRLConfig, DGIConfig, GraphMAEConfig, PretextConfig, ProbeConfig


def shuffled_rows(x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """DGI's corruption: the features `[N, d]` dealt out to other nodes, the edges as they are."""
    return x[torch.randperm(x.size(0), device=x.device)], edges


def mean_summary(z: Tensor, x: Tensor, edges: Tensor) -> Tensor:
    """DGI's summary `[d]` of embeddings `[N, d]`: the sigmoid of their mean."""
    return z.mean(0).sigmoid()


class Infomax(DeepGraphInfomax):
    """PyG's Deep Graph Infomax (Velickovic et al., ICLR 2019).

    A graph task's batch has one summary, like the paper's batches of a large graph. Training has a fixed length; the
    paper stops early on its own loss.
    """

    def __init__(self, config: DGIConfig, model: ProbeConfig, width: int, edge_width: int | None) -> None:
        encoder = GraphEncoder(model, width)
        super().__init__(model.hidden, encoder, summary=mean_summary, corruption=shuffled_rows)
        self.kind, self.edge_width = model.encoder, edge_width

    def forward(self, graph: Graph) -> Tensor:
        """The loss, a scalar."""
        x = network_input(graph, self.edge_width)
        return self.loss(*super().forward(x, adjacency(self.kind, graph, x.dtype)))


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of `1 - cos` over rows `[N, d]`; no gradient to the target."""
    return (1 - F.cosine_similarity(prediction, target.detach(), dim=-1)).mean()


def momentum(start: float, progress: float) -> float:
    """The share of itself that BGRL's target keeps: from `start` along a cosine to 1 as `progress` goes from 0 to 1."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


class Bootstrap(nn.Module):
    """BGRL (Thakoor et al., ICLR 2022): from one view's embedding, predict the other view's by a slow target.

    Views are those of `stemlib.stress.views`: feature columns and undirected edges are hidden; the authors' code drops
    each direction of an edge on its own. The loss is the sum of both directions, 0 where all predictions are right.
    """

    def __init__(self, config: BGRLConfig, model: ProbeConfig, width: int, edge_width: int | None) -> None:
        super().__init__()
        self.config, self.kind, self.edge_width = config, model.encoder, edge_width
        self.encoder = GraphEncoder(model, width)
        self.target = deepcopy(self.encoder).requires_grad_(False)
        self.predictor = MLP([model.hidden, config.predictor, model.hidden], act=PReLU(), norm=None)

    def forward(self, graph: Graph) -> Tensor:
        """The loss of two drawn views, a scalar."""
        config, read = self.config, []
        for dropouts in (
            (config.first_feature_dropout, config.first_edge_dropout),
            (config.second_feature_dropout, config.second_edge_dropout),
        ):
            seen = view(graph, *dropouts)
            x = network_input(seen, self.edge_width)
            read.append((x, adjacency(self.kind, seen, x.dtype)))
        predictions = [self.predictor(self.encoder(*one)) for one in read]
        with torch.no_grad():
            targets = [self.target(*one) for one in read]
        return cosine_distance(predictions[0], targets[1]) + cosine_distance(predictions[1], targets[0])

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """After a step: `target = m target + (1 - m) encoder`, `m` as `momentum` gives it."""
        share = momentum(self.config.momentum, progress)
        for mine, theirs in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
            mine.lerp_(theirs, 1 - share)


def scaled_cosine_error(reconstruction: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Mean of `(1 - cos)^gamma` over rows `[M, d]`: a large `gamma` lets easy rows count little."""
    return (1 - F.cosine_similarity(reconstruction, x, dim=-1)).pow(gamma).mean()


def masked_nodes(
    nodes: int, rate: float, replace_rate: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Which nodes get the mask, and which get another node's features: two disjoint random sets.

    Args:
        nodes: how many there are.
        rate: share of them in the two sets together, rounded down, but at least one node.
        replace_rate: share of the second set in both, rounded down.
        device: where they are drawn.
    """
    hidden = torch.randperm(nodes, device=device)[: max(1, int(rate * nodes))]
    replaced = int(replace_rate * hidden.numel())
    return hidden[replaced:], hidden[:replaced]


class SingleHeadGAT(GAT):
    """The layer for one head and a wide output: neighbours' narrow inputs are averaged, and only then mapped."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """States `[N, d_out]`; the same numbers as `GAT`'s."""
        source, target = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=x.size(0))[0]
        weight = self.lin.weight  # [d_out, d_in]
        of_source, of_target = (x @ (weight.T @ vector.flatten()) for vector in (self.att_src, self.att_dst))
        score = F.leaky_relu(of_source[source] + of_target[target], self.negative_slope)
        share = softmax(score, target, num_nodes=x.size(0))
        share = F.dropout(share, self.dropout, self.training)
        mean = scatter(share.unsqueeze(1) * x[source], target, dim_size=x.size(0))
        return mean @ weight.T + self.bias


class MaskedAutoencoder(nn.Module):
    """GraphMAE (Hou et al., KDD 2022): reconstruct the features of masked nodes.

    Masked nodes show a learnt token to the encoder; their codes are zero for the decoder, a single layer of the
    encoder's kind with one head, so that their features are predicted from their neighbours alone.
    """

    def __init__(self, config: GraphMAEConfig, model: ProbeConfig, width: int, edge_width: int | None) -> None:
        super().__init__()
        self.config, self.kind, self.edge_width = config, model.encoder, edge_width
        self.encoder = GraphEncoder(model, width, config.dropout, config.attention_dropout)
        self.token = nn.Parameter(torch.zeros(width))
        self.to_decoder = nn.Linear(model.hidden, model.hidden, bias=False)
        self.dropout = Dropout(config.dropout)
        if model.encoder == "gat":
            self.decoder: nn.Module = SingleHeadGAT(model.hidden, width, dropout=config.attention_dropout)
        else:
            self.decoder = convolution(model.encoder, model.hidden, width)

    def forward(self, graph: Graph) -> Tensor:
        """The loss of one drawn mask, a scalar."""
        x = network_input(graph, self.edge_width)
        edges = adjacency(self.kind, graph, x.dtype)
        masked, replaced = masked_nodes(x.size(0), self.config.mask_rate, self.config.replace_rate, x.device)
        hidden = torch.cat([masked, replaced])
        code = self.masked_code(self.shown(x, masked, replaced), edges, hidden)
        reconstruction = self.decoder(self.dropout(code), edges)
        return scaled_cosine_error(reconstruction[hidden], x[hidden], self.config.gamma)

    def shown(self, x: Tensor, masked: Tensor, replaced: Tensor) -> Tensor:
        """The features `[N, d]` with the token at `masked` nodes and random nodes' features at `replaced` ones."""
        others = torch.randperm(x.size(0), device=x.device)[: replaced.numel()]
        return x.index_copy(0, replaced, x[others]).index_put((masked,), self.token.to(x.dtype))

    def masked_code(self, shown: Tensor, edges: Tensor, hidden: Tensor) -> Tensor:
        """What the decoder reads, `[N, d]`: zero at the nodes whose features it is to predict."""
        return self.to_decoder(self.encoder(shown, edges)).index_fill(0, hidden, 0.0)


OBJECTIVES: dict[str, type[Infomax | Bootstrap | MaskedAutoencoder]] = {
    "dgi": Infomax,
    "bgrl": Bootstrap,
    "graphmae": MaskedAutoencoder,
}


def objective(config: PretextConfig, model: ProbeConfig, width: int, edge_width: int | None) -> nn.Module:
    """A fresh objective, its encoder included.

    Args:
        config: which one.
        model: the encoder.
        width: of node features.
        edge_width: of edge features; None without.
    """
    return OBJECTIVES[config.objective](config, model, width + (edge_width or 0), edge_width)
