"""The routed encoder: experts, a router per layer, and gates as data.

One routed layer computes, for node `i` with neighbours `j -> i`,

    out_i = sum_k g_ik ([mean_j m_ij ; x_i] W_k) + x_i        (the residual where widths match)

with gates `g_i` on the simplex: `softmax(router(x_i))` in evaluation, a Gumbel-softmax in training. Every pass returns
its gates and can be given others, which is all that the theory needs. Two registries say what experts compute and how
they are chosen: `stemlib.model.kinds` and `stemlib.model.routers`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import compress

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.data.graph import Graph, Hop, node_features
from stemlib.devices import device_of
from stemlib.model.experts import mixture
from stemlib.model.kinds import EXPERTS, join
from stemlib.model.layers import DenseConv, DenseSAGE, Dropout
from stemlib.model.messages import edge_mean, neighbour_mean
from stemlib.model.routers import ROUTERS, Seen
from stemlib.model.sparse_features import compacted, first_rows, is_sparse
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
        outputs: every expert's output, `[N, K, d_l]` per routed layer, if asked for.
        memory: what routers left, see `stemlib.model.routers.base.Seen`.
    """

    z: Tensor
    gates: Gates
    gate_logits: list[Tensor]
    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    memory: dict[Hashable, Tensor] = field(default_factory=dict)


def path_gates(path: Sequence[int], nodes: int, experts: int, like: Tensor | None = None) -> Gates:
    """The gates that force every node onto one path.

    Args:
        path: one expert per routed layer.
        nodes: number of nodes `N`.
        experts: number of experts `K`.
        like: a tensor whose dtype and device they take.

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
        edge_width: width of edge features; None if the graph has none.
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
                self.layers.append(EXPERTS[config.expert](a, b, config))
                self.routers.append(ROUTERS[config.router](a, config.experts, config, len(self.routers), in_width))
            else:
                sage = config.backbone == "sage"
                self.layers.append(DenseSAGE(a, b) if sage else DenseConv(config.backbone, a, b))
            self.norms.append({"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[config.norm](b))
        join(config.expert, compress(self.layers, self.is_routed))
        self.activation = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}[config.activation]()
        self.input_dropout = Dropout(config.input_dropout)
        self.dropout = Dropout(config.dropout)

    @property
    def routed_layers(self) -> int:
        """Number of routed layers `L`, the length of a path."""
        return sum(self.is_routed)

    @property
    def reach(self) -> int:
        """How many hops give a node the embedding that it has in the whole graph; 0 if all nodes are needed.

        Batch norm reads every node, PyG's dense convolutions are given whole graphs, and some experts and routers read
        more than the edges that end in a node.
        """
        routed = [*self.routers, *compress(self.layers, self.is_routed)]
        local = self.config.norm != "batch" and (all(self.is_routed) or self.config.backbone == "sage")
        return self.config.layers if local and not any(part.whole for part in routed) else 0

    @property
    def as_published(self) -> bool:
        """Whether every routed layer has the paper's experts and router, for which there are shortcuts."""
        return (self.config.expert, self.config.router) == ("mean", "linear")

    def route(self, logits: Tensor, noisy: bool = True) -> Tensor:
        """Gates `[N, K]` from the router's logits: Gumbel-softmax in training if `noisy`, otherwise softmax."""
        if self.training and noisy:
            logits = (logits + gumbel_noise(logits)) / self.config.temperature
        return torch.softmax(logits.T.contiguous(), dim=0).T  # five times faster on a CPU than along such short rows

    def layer_mean(self, index: int, x: Tensor, graph: Graph) -> Tensor:
        """The neighbourhood mean `[N, d_l]` that routed layer `index` reads, edge features included."""
        mean = graph.mean if self.may_use_cache(graph) else None
        if mean is None:
            mean = neighbour_mean(x, graph.edge_index)
        if self.config.routed_edge_features and graph.edge_attr is not None:
            mean = mean + edge_mean(graph, self.edge_projections[index](graph.edge_attr))
        return mean

    def expert_outputs(self, index: int, x: Tensor, graph: Graph) -> Tensor:
        """Every expert's output `[N, K, d']` in routed layer `index` from the states of all nodes `[N, d]`."""
        return self.layers[index].expert_outputs(self.gathered(index, x, graph), first_rows(x, graph.num_nodes))

    def gathered(self, index: int, x: Tensor, graph: Graph) -> Tensor:
        """What the experts of routed layer `index` read from others, `[N, ...]`: the mean, or what they make of it."""
        return self.layers[index].gather(self.layer_mean(index, x, graph), x, graph)

    def may_use_cache(self, graph: Graph) -> bool:
        """Whether a hop's cached mean and products are valid: not if dropout changes its input."""
        return isinstance(graph, Hop) and not (self.training and self.config.input_dropout)

    def finish_layer(self, index: int, h: Tensor) -> Tensor:
        """Norm, and between layers activation and dropout; acts on the last dimension of `[..., d]`."""
        norm = self.norms[index]
        h = norm(h.flatten(0, -2)).view_as(h) if self.config.norm == "batch" else norm(h)
        return h if index == self.config.layers - 1 else self.dropout(self.activation(h))

    def forward(
        self, graph: Graph | Data, gates: Sequence[Tensor | None] | None = None, *, keep_outputs: bool = False
    ) -> Encoding:
        """Encode every node; the paper's encoder, a mixture of GraphSAGE-mean experts in every routed layer.

        Args:
            graph: `x` `[N, d]`, `edge_index` `[2, E]` (source, target), optionally `edge_attr` `[E, d_e]`
                or, with `edge_type` `[E]`, a table `[T, d_e]` that it indexes. With `hops` (see
                `stemlib.data.sampling.neighbourhood`) every layer computes only the nodes that the next one reads.
            gates: gates to replay or force, one entry per routed layer: `[N, K]`, or None for 'as routed'.
            keep_outputs: whether to keep every expert's outputs.

        Raises:
            ValueError: a wrong number or shape of gates, or features of another width than the model's.

        Example:
            >>> graph = Data(x=torch.randn(4, 8), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]))
            >>> encoder = Encoder(ModelConfig(hidden=16, layers=2, experts=3), in_width=8).eval()
            >>> encoder(graph).z.shape
            torch.Size([4, 16])
            >>> forced = encoder(graph, path_gates([0, 2], nodes=4, experts=3))  # expert 0, then expert 2
            >>> forced.gates[1][0].tolist()
            [0.0, 0.0, 1.0]
        """
        graph = Graph.of(graph).on(device_of(self))
        self._check_widths(graph)
        given = list(gates) if gates is not None else [None] * self.routed_layers
        if len(given) != self.routed_layers:
            raise ValueError(f"expected gates for {self.routed_layers} routed layers, got {len(given)}")
        # The paper's own network gets sparse features only from training: the theory needs them full.
        maps_first = hasattr(self.layers[0], "projected") and graph.edge_attr is None
        features = compacted(graph) if maps_first and not self.as_published else node_features(graph)
        encoding = Encoding(features, [], [], [])
        hops = graph.hops or [graph] * len(self.layers)
        x = self.input_dropout(features)
        if keep_outputs or not (maps_first or self.as_published) or torch.is_autocast_enabled(x.device.type):
            x = x.to_dense()
        for index, (layer, hop) in enumerate(zip(self.layers, hops, strict=True)):
            encoding.inputs.append(x)
            if self.is_routed[index]:
                own, router = first_rows(x, hop.num_nodes), self.routers[len(encoding.gates)]
                # Not sliced twice from the same states: gradients would be added in another order.
                full, whole = (own, x) if self.as_published else (own.to_dense(), x.to_dense())
                seen = Seen(whole, hop, first_rows(features, hop.num_nodes), encoding.memory)
                logits = router(full, seen).to(features.dtype)
                forced = given[len(encoding.gates)]
                if forced is not None and forced.shape != logits.shape:
                    raise ValueError(f"gates of a layer must be {tuple(logits.shape)}, got {tuple(forced.shape)}")
                encoding.gates.append(self.route(logits, router.noisy) if forced is None else forced)
                encoding.gate_logits.append(logits)
                gate = encoding.gates[-1]
                if self.may_use_cache(hop) and hop.products is not None and not keep_outputs:
                    x = layer.mix_known(*hop.products(), own, gate)
                elif is_sparse(x):
                    x = layer.mix(layer.projected(x, hop), own, gate)
                elif keep_outputs or not layer.side_by_side:
                    outputs = self.expert_outputs(index, x, hop)
                    if keep_outputs:
                        encoding.outputs.append(outputs)
                    x = mixture(gate, outputs)
                else:
                    x = layer(self.layer_mean(index, x, hop), own, gate)
            else:
                edges = hop.edge_attr
                x = layer(x, hop, None if edges is None else self.edge_projections[index](edges))
            # Under autocast products are in bf16; gates, states and the means over them keep their precision.
            x = self.finish_layer(index, x).to(features.dtype)
        encoding.z = x
        return encoding

    def _check_widths(self, graph: Graph) -> None:
        edges = graph.edge_attr
        widths = (graph.x.size(-1), None if edges is None else edges.size(-1))
        if widths[0] != self.in_width or widths[1] not in (None, self.edge_width):
            raise ValueError(
                f"the model reads node features of width {self.in_width} and edge features of width "
                f"{self.edge_width}; the graph has {widths[0]} and {widths[1]}"
            )


def gumbel_noise(like: Tensor) -> Tensor:
    """Standard Gumbel noise in the shape of `like`."""
    return -torch.empty_like(like).exponential_().log()
