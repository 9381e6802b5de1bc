"""Plain networks from PyTorch Geometric under the same interface and protocol as STEM-GNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.models import GAT, GCN, GIN, MLP, GraphSAGE

from stemlib.messages import plain
from stemlib.model import Output
from stemlib.presets import BaselineConfig, TrainConfig
from stemlib.tasks import Kind, read_out

NETWORKS = {"mlp": MLP, "gcn": GCN, "sage": GraphSAGE, "gat": GAT, "gin": GIN}


class Baseline(nn.Module):
    """A PyG network; link and graph tasks read out the mean (or pool) of its node logits.

    Args:
        config: which network, how large.
        in_width: width of node features.
        classes: number of logits.
        kind: what an instance is.
        edge_width: accepted for the common interface; these networks read no edge features.
    """

    def __init__(
        self,
        config: BaselineConfig,
        in_width: int,
        classes: int,
        kind: Kind = "node",
        edge_width: int | None = None,
    ) -> None:
        super().__init__()
        self.config, self.in_width, self.classes = config, in_width, classes
        self.kind, self.edge_width = kind, edge_width
        self.input_dropout = nn.Dropout(config.input_dropout)
        sizes = {"hidden_channels": config.hidden, "out_channels": classes, "num_layers": config.layers}
        norm = {"norm": None} if config.kind == "mlp" else {}
        self.network = NETWORKS[config.kind](in_width, **sizes, **norm, dropout=config.dropout)

    def forward(self, graph: Data, instances: Tensor | None) -> Output:
        x = self.input_dropout(graph.x)
        arguments = () if self.config.kind == "mlp" else (plain(graph.edge_index),)
        logits = read_out(self.network(x, *arguments), graph, instances, self.kind, self.config.pool)
        return Output(logits, logits)

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """Baselines are regularised by dropout and weight decay alone."""
        return torch.zeros(())
