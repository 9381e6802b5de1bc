"""Plain networks from PyTorch Geometric, and robust ones of the same form, under STEM-GNN's interface and protocol."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, GINConv, SAGEConv
from torch_geometric.nn.models import GAT, GCN, GIN, MLP, GraphSAGE

from stemlib.baselines.deep import ACM, PlainAPPNP, PlainGCNII
from stemlib.baselines.robust import SoftMedianGCN
from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.data.tasks import Kind, read_out
from stemlib.devices import device_of
from stemlib.model.layers import Dropout
from stemlib.model.messages import Gathered, Spread, edge_mean, means, normalised
from stemlib.model.network import Network, Output
from stemlib.model.sparse_features import compacted, is_sparse
from stemlib.presets import BaselineConfig


class GCNLayer(GCNConv):
    """PyG's layer over a `Spread`."""

    def forward(self, x: Tensor, edges: Spread, edge_weight: None = None) -> Tensor:
        """States of the targets `[T, d_out]`."""
        return edges @ self.lin(x) + self.bias


class SAGELayer(SAGEConv):
    """PyG's layer over a `Spread`; wide or sparse features are mapped before they are averaged."""

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """States of the targets `[T, d_out]`."""
        if is_sparse(x) or self.out_channels < x.size(1):
            return edges @ F.linear(x, self.lin_l.weight) + self.lin_l.bias + self.lin_r(x)
        return self.lin_l(edges @ x) + self.lin_r(x)


class GINLayer(GINConv):
    """PyG's layer over a `Spread`."""

    def forward(self, x: Tensor, edges: Spread) -> Tensor:
        """States of the targets `[T, d_out]`."""
        return self.nn(edges @ x + (1 + self.eps) * x)


class PlainGCN(GCN):
    """PyG's GCN with `GCNLayer`s; the edges are normalised beforehand."""

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> nn.Module:
        """One layer, as PyG asks for it."""
        return GCNLayer(in_channels, out_channels, normalize=False, **kwargs)


class PlainSAGE(GraphSAGE):
    """PyG's GraphSAGE with `SAGELayer`s."""

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> nn.Module:
        """One layer, as PyG asks for it."""
        return SAGELayer(in_channels, out_channels, **kwargs)


class PlainGIN(GIN):
    """PyG's GIN with `GINLayer`s."""

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> nn.Module:
        """One layer, as PyG asks for it."""
        return GINLayer(super().init_conv(in_channels, out_channels).nn, **kwargs)


# Networks that can map features before they read edges: with sparse features that is a sparse product.
MAPS_FIRST = ("mlp", "gcn", "sage", "gat", "softmedian", "appnp", "gcnii", "acm")
NETWORKS = {
    "mlp": MLP,
    "gcn": PlainGCN,
    "sage": PlainSAGE,
    "gat": GAT,
    "gin": PlainGIN,
    "softmedian": SoftMedianGCN,
    "appnp": PlainAPPNP,
    "gcnii": PlainGCNII,
    "acm": ACM,
}


def adjacency(kind: str, graph: Graph, dtype: torch.dtype) -> Spread | Tensor:
    """The form of a graph's edges that gives the numbers of PyG's convolution of that kind fastest; made once.

    All but GAT multiply by a sparse matrix, which spares the `[E, d]` messages; row `i` has the edges that end in `i`.
    GraphSAGE's holds means, GIN's ones; the others' is normalised.

    Args:
        kind: of the network.
        graph: `edge_index` `[2, E]`.
        dtype: of the features.

    Returns:
        A `Spread` of `[N, N]`; the plain `edge_index` `[2, E]` for GAT, whose weights are its own.
    """
    if kind == "gat":
        return plain(graph.edge_index)
    if kind == "sage":
        return means(graph, dtype)
    if kind == "gin":
        if torch.compiler.is_exporting():
            return Gathered(graph.edge_index, torch.ones_like(graph.edge_index[1], dtype=dtype), graph.num_nodes)
        return graph.derived(("adjacency", dtype), lambda: Spread(_matrix(graph, dtype)), graph.edge_index)
    return normalised(graph, dtype)


def _matrix(graph: Graph, dtype: torch.dtype) -> Tensor:
    index = sorted_by_target(graph).edge_index
    weights = torch.ones(index.size(1), dtype=dtype, device=index.device)
    return index.to_sparse_csc(weights).t()


def network_input(graph: Graph, edge_width: int | None) -> Tensor:
    """What a network that cannot read edge features reads instead, `[N, d_x + d_e]`.

    If edges have features, the mean over the edges that end in a node is appended to the node's own: such a network
    reads all that STEM-GNN reads.
    """
    x = node_features(graph)
    return x if edge_width is None else torch.cat([x, edge_mean(graph, graph.edge_attr)], dim=-1)


class Baseline(Network):
    """A network that reads `network_input`; link and graph tasks read out the mean (or pool) of its node logits.

    The MLP reads no edges, only nodes' own features.

    Args:
        config: which network, how large.
        in_width, classes, kind, edge_width: see `Network`.
    """

    def __init__(
        self, config: BaselineConfig, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        self.input_dropout = Dropout(config.input_dropout)
        width = in_width + (edge_width or 0) * (config.kind != "mlp")
        sizes = {"hidden_channels": config.hidden, "out_channels": classes, "num_layers": config.layers}
        special = {
            "mlp": {"norm": None},
            "gat": {"heads": config.heads},
            "softmedian": {"temperature": config.temperature},
        }
        self.network = NETWORKS[config.kind](width, **sizes, **special.get(config.kind, {}), dropout=config.dropout)
        if not isinstance(self.network, MLP):
            self.network.dropout = Dropout(config.dropout)  # PyTorch's takes three times as long on a CPU

    @property
    def last_maps(self) -> list[nn.Module]:
        """The last layer; in a GIN, that of the MLP in which it ends."""
        if hasattr(self.network, "lins"):
            return [self.network.lins[-1]]
        last = self.network.convs[-1]
        return [last.nn.lins[-1] if self.config.kind == "gin" else last]

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits and embeddings of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None)."""
        graph = Graph.of(graph).on(device_of(self))
        if self.config.kind == "mlp":
            x, edges = node_features(graph), ()
        else:
            x = network_input(graph, self.edge_width)
            edges = (adjacency(self.config.kind, graph, x.dtype),)
        if x is graph.x and self.config.kind in MAPS_FIRST:
            x = compacted(graph)
        logits = read_out(self.network(self.input_dropout(x), *edges), graph, instances, self.kind, self.config.pool)
        return Output(logits, logits)
