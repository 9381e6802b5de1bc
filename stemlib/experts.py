"""The routed encoder: GraphSAGE-mean experts, a linear router per layer, and gates as data.

One routed layer computes, for node `i` with neighbours `j -> i`,

    out_i = sum_k g_ik ([mean_j m_ij ; x_i] W_k) + x_i        (the residual where widths match)

with gates `g_i` on the simplex: `softmax(router(x_i))` in evaluation, a Gumbel-softmax in training.
Gates are returned by every pass and can be given to it, which is all that the theory needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv, GINConv

from stemlib.messages import edge_mean, message_mean, neighbour_mean
from stemlib.presets import ModelConfig

Gates = list[Tensor]  # one [N, K] per routed layer, rows on the simplex


@dataclass
class Encoding:
    """What one pass of the encoder leaves behind.

    Attributes:
        z: node embeddings `[N, d]`.
        gates: the gates that were used, `[N, K]` per routed layer.
        gate_logits: the router's logits, `[N, K]` per routed layer (also where gates were forced).
        inputs: each layer's input, `[N, d_l]` for every layer.
    """

    z: Tensor
    gates: Gates
    gate_logits: list[Tensor]
    inputs: list[Tensor]


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
        return self.weight.size(0)

    def expert_outputs(self, mean: Tensor, x: Tensor) -> Tensor:
        """Every expert's output `[N, K, d_out]` from neighbourhood means and own states `[N, d_in]`."""
        # One product with the experts side by side: `[N, 2 d_in] @ [2 d_in, K d_out]`.
        side_by_side = self.weight.transpose(0, 1).flatten(1)
        outputs = (torch.cat([mean, x], dim=-1) @ side_by_side).unflatten(-1, (self.experts, -1))
        return outputs + x.unsqueeze(1) if self.residual else outputs

    def forward(self, mean: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """The experts' outputs mixed by `gates` `[N, K]`, `[N, d_out]`."""
        return torch.einsum("nk,nko->no", gates, self.expert_outputs(mean, x))


class DenseSAGE(nn.Module):
    """`W_l mean_j relu(x_j + e_ij) + W_r x_i`: the reference's dense layer, `[N, d_in] -> [N, d_out]`."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.lin_l = nn.Linear(in_width, out_width)
        self.lin_r = nn.Linear(in_width, out_width, bias=False)

    def forward(self, x: Tensor, graph: Data, edge_table: Tensor | None) -> Tensor:
        return self.lin_l(message_mean(x, graph, edge_table)) + self.lin_r(x)


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

    def forward(self, x: Tensor, graph: Data, edge_table: Tensor | None) -> Tensor:
        return self.conv(x, graph.edge_index)


def routing_regulariser(gates: Gates, gate_logits: list[Tensor]) -> Tensor:
    """Mean over layers and nodes of `sum_k g_k log softmax(logits)_k` (reference: the lower, the more uniform).

    Returns a scalar; 0 where no layer is routed.
    """
    terms = [
        (g * torch.log_softmax(a, dim=-1)).sum(-1).mean() for g, a in zip(gates, gate_logits, strict=True)
    ]
    return torch.stack(terms).mean() if terms else torch.zeros(())


def path_gates(path: Sequence[int], nodes: int, experts: int, like: Tensor | None = None) -> Gates:
    """The gates that force every node onto one path.

    Args:
        path: one expert per routed layer.
        nodes: number of nodes `N`.
        experts: number of experts `K`.
        like: takes its dtype and device.

    Returns:
        One-hot gates, `[N, K]` per routed layer.
    """
    if any(not 0 <= k < experts for k in path):
        raise ValueError(f"path {tuple(path)} names an expert outside 0..{experts - 1}")
    eye = torch.eye(experts, dtype=like.dtype, device=like.device) if like is not None else torch.eye(experts)
    return [eye[k].expand(nodes, experts) for k in path]


class Encoder(nn.Module):
    """A stack of routed and dense layers, `[N, in_width] -> [N, hidden]`.

    Args:
        config: the architecture.
        in_width: width of node features.
        edge_width: width of edge features; None where the graph has none.
    """

    def __init__(self, config: ModelConfig, in_width: int, edge_width: int | None = None) -> None:
        super().__init__()
        self.config, self.in_width, self.edge_width = config, in_width, edge_width
        widths = [in_width] + [config.hidden] * config.layers
        first_routed = {"none": config.layers, "last": config.layers - 1, "all": 0}[config.routed]
        self.is_routed = [index >= first_routed for index in range(config.layers)]
        self.layers = nn.ModuleList()
        self.routers = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.edge_projections = nn.ModuleList()
        for routed, a, b in zip(self.is_routed, widths[:-1], widths[1:], strict=True):
            reads_edges = edge_width is not None and (
                config.routed_edge_features if routed else config.backbone == "sage"
            )
            project = reads_edges and edge_width != a
            self.edge_projections.append(nn.Linear(edge_width, a, bias=False) if project else nn.Identity())
            if routed:
                self.layers.append(RoutedSAGE(a, b, config.experts, config.expert_init))
                self.routers.append(nn.Linear(a, config.experts))
            else:
                sage = config.backbone == "sage"
                self.layers.append(DenseSAGE(a, b) if sage else DenseConv(config.backbone, a, b))
            self.norms.append(
                {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[config.norm](b)
            )
        self.activation = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}[config.activation]()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def routed_layers(self) -> int:
        """Number of routed layers `L`, the length of a path."""
        return sum(self.is_routed)

    def route(self, logits: Tensor) -> Tensor:
        """Gates `[N, K]` from the router's logits: Gumbel-softmax in training, softmax in evaluation."""
        if not self.training:
            return torch.softmax(logits, dim=-1)
        return torch.softmax((logits + gumbel_noise(logits)) / self.config.temperature, dim=-1)

    def layer_mean(self, index: int, x: Tensor, graph: Data) -> Tensor:
        """The neighbourhood mean `[N, d_l]` that routed layer `index` reads, edge features included."""
        mean = neighbour_mean(x, graph.edge_index)
        if self.config.routed_edge_features and graph.get("edge_attr") is not None:
            mean = mean + edge_mean(graph, self.edge_projections[index](graph.edge_attr))
        return mean

    def finish_layer(self, index: int, h: Tensor) -> Tensor:
        """Norm, and between layers activation and dropout; acts on the last dimension of `[..., d]`."""
        norm = self.norms[index]
        h = norm(h.flatten(0, -2)).view_as(h) if self.config.norm == "batch" else norm(h)
        return h if index == self.config.layers - 1 else self.dropout(self.activation(h))

    def forward(self, graph: Data, gates: Sequence[Tensor | None] | None = None) -> Encoding:
        """Encode every node.

        Args:
            graph: `x` `[N, d]`, `edge_index` `[2, E]` (source, target), optionally `edge_attr` `[E, d_e]`
                or, with `edge_type` `[E]`, a table `[T, d_e]` that it indexes.
            gates: gates to replay or force, one entry per routed layer: `[N, K]`, or None for 'as routed'.

        Raises:
            ValueError: a wrong number or shape of gates, or features of another width than the model's.
        """
        self._check_widths(graph)
        given = list(gates) if gates is not None else [None] * self.routed_layers
        if len(given) != self.routed_layers:
            raise ValueError(f"expected gates for {self.routed_layers} routed layers, got {len(given)}")
        encoding = Encoding(graph.x, [], [], [])
        x = self.input_dropout(graph.x)
        for index, layer in enumerate(self.layers):
            encoding.inputs.append(x)
            if self.is_routed[index]:
                logits = self.routers[len(encoding.gates)](x)
                forced = given[len(encoding.gates)]
                if forced is not None and forced.shape != logits.shape:
                    raise ValueError(
                        f"gates of a layer must be {tuple(logits.shape)}, got {tuple(forced.shape)}"
                    )
                encoding.gates.append(self.route(logits) if forced is None else forced)
                encoding.gate_logits.append(logits)
                x = layer(self.layer_mean(index, x, graph), x, encoding.gates[-1])
            else:
                edges = graph.get("edge_attr")
                x = layer(x, graph, None if edges is None else self.edge_projections[index](edges))
            x = self.finish_layer(index, x)
        encoding.z = x
        return encoding

    def _check_widths(self, graph: Data) -> None:
        edges = graph.get("edge_attr")
        widths = (graph.x.size(-1), None if edges is None else edges.size(-1))
        if widths[0] != self.in_width or widths[1] not in (None, self.edge_width):
            raise ValueError(
                f"the model reads node features of width {self.in_width} and edge features of width "
                f"{self.edge_width}; the graph has {widths[0]} and {widths[1]}"
            )


def gumbel_noise(like: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape of `like`."""
    return -torch.empty_like(like).exponential_().log()
