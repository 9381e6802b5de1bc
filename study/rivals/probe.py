"""A frozen encoder under a linear head: how self-supervised encoders are usually judged."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GATConv

from stemlib.baselines.networks import GCNLayer, adjacency, network_input
from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind, read_out
from stemlib.devices import device_of
from stemlib.model.layers import Dropout
from stemlib.model.network import Network, Output
from study.rivals.settings import ProbeConfig

INITIAL_GAIN = math.sqrt(2)  # of a GAT's weights, for the ReLU that comes after
READ = ("x", "node_type", "edge_index", "edge_attr", "edge_type")  # of a graph, by the encoder


class PReLU(nn.PReLU):
    """PyTorch's with one weight, whose own gradient takes twice as long as this on a CPU: a tenth of a step of BGRL."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` above 0, the learnt weight times `x` below."""
        return _PReLU.apply(x, self.weight)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(grad, x, 0)
        of_weight = torch.dot(grad.flatten(), x.clamp(max=0).flatten())
        return torch.addcmul(above, grad - above, weight), of_weight.view_as(weight)


class GAT(GATConv):
    """PyG's layer, with initial weights that are normal and larger than PyG's, as in GraphMAE's code.

    From PyG's own start GraphMAE is six points behind on Cora's public split after 500 steps (feature rows that add up
    to 1).
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew, at their initial scale."""
        super().reset_parameters()
        for weight in (self.lin.weight, self.att_src, self.att_dst):
            nn.init.xavier_normal_(weight, INITIAL_GAIN)


def convolution(kind: str, in_width: int, out_width: int, heads: int = 1, attention_dropout: float = 0.0) -> nn.Module:
    """One of PyG's convolutions, for edges as `stemlib.baselines.networks.adjacency` gives them.

    Raises:
        ValueError: the heads of a GAT do not share the units evenly.
    """
    if kind == "gcn":
        return GCNLayer(in_width, out_width, normalize=False)
    if out_width % heads:
        raise ValueError(f"hidden={out_width} cannot be shared evenly by heads={heads}; change one of them")
    return GAT(in_width, out_width // heads, heads, dropout=attention_dropout)


class GraphEncoder(nn.Module):
    """Layers of dropout, convolution, batch norm (where there is one) and PReLU, `[N, d_in] -> [N, d]`.

    After training, `standardise` centres the embeddings and scales them to a norm of 1: the papers' heads read them as
    they are, but norms differ up to thirtyfold between objectives, so that no head's learning rate would suit all.

    Args:
        config: which convolution, how many, how wide.
        in_width: `d_in`.
        dropout: before every layer, in training.
        attention_dropout: of a GAT's attention, in training.
    """

    def __init__(
        self, config: ProbeConfig, in_width: int, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = pairwise([in_width, *[config.hidden] * config.layers])
        self.dropout = Dropout(dropout)
        self.convolutions = nn.ModuleList(
            convolution(config.encoder, *width, config.heads, attention_dropout) for width in widths
        )
        batch = config.norm == "batch"
        self.norms = nn.ModuleList(nn.BatchNorm1d(config.hidden) if batch else nn.Identity() for _ in self.convolutions)
        self.activations = nn.ModuleList(PReLU() for _ in self.convolutions)
        self.register_buffer("centre", torch.zeros(config.hidden))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Embeddings `[N, hidden]` of features `[N, d]`, standardised once `standardise` was called."""
        for convolve, norm, activate in zip(self.convolutions, self.norms, self.activations, strict=True):
            x = activate(norm(convolve(self.dropout(x), edges)))
        return (x - self.centre) / self.scale

    @torch.no_grad()
    def standardise(self, z: Tensor) -> None:
        """Give embeddings `z` `[N, d]`, not standardised yet, mean 0 and a mean square norm of 1."""
        self.centre.copy_(z.mean(0))
        size = (z - self.centre).square().sum(1).mean().sqrt()
        self.scale.copy_(size if size else torch.ones(()))


class Probe(Network):
    """The encoder, which stays as it is and in evaluation mode, and a linear head on the instances' embeddings.

    A link's embedding is the mean of its ends', a graph's is pooled. `embedding_norm` regularises: on Cora, at one
    learning rate, a head does up to three points better with 1 than with 11 from twenty labels per class, and one point
    worse from half of all nodes. The encoder reads whatever graph it is given; embeddings of the last graphs are kept
    as long as these and the encoder's weights are unchanged.

    Args:
        config: the encoder, and what the head reads of it.
        in_width, classes, kind, edge_width: see `Network`.
    """

    def __init__(
        self, config: ProbeConfig, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.encoder = GraphEncoder(config, in_width + (edge_width or 0)).requires_grad_(False).eval()
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, classes)

    @property
    def last_maps(self) -> list[nn.Module]:
        """The head."""
        return [self.head]

    def train(self, mode: bool = True) -> Probe:
        """Training mode for the head alone: the encoder stays in evaluation."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(self, graph: Graph) -> Tensor:
        """Embeddings of all nodes, `[N, d]`."""

        def embeddings() -> Tensor:
            x = network_input(graph, self.edge_width)
            return self.encoder(x, adjacency(self.config.encoder, graph, x.dtype))

        if graph.x.requires_grad:
            return embeddings()
        read = [value for name in READ if (value := getattr(graph, name)) is not None]
        return graph.derived("embeddings", embeddings, *read, *self.encoder.parameters(), *self.encoder.buffers())

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits and embeddings of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None)."""
        graph = Graph.of(graph).on(device_of(self))
        z = self.config.embedding_norm * self.encode(graph)
        embedding = read_out(z, graph, instances, self.kind, self.config.pool)
        return Output(self.head(self.dropout(embedding)), embedding)
