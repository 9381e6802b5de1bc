"""What all networks have in common: their shape, and what they say of a task's instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stemlib.data.tasks import Kind
from stemlib.model.encoder import Encoding
from stemlib.model.tokens import Tokens
from stemlib.presets import TrainConfig


@dataclass
class Output:
    """What the model says of `M` instances.

    Attributes:
        logits: `[M, classes]`.
        embedding: the instances before the tokens, `[M, d]`.
        tokens: their tokens; None without a token interface.
        encoding: the encoder's pass over all nodes, gates included; None for models without one.
    """

    logits: Tensor
    embedding: Tensor
    tokens: Tokens | None = None
    encoding: Encoding | None = None


class Network(nn.Module):
    """A network that answers for nodes, links or graphs; called with a graph and its instances it gives an `Output`.

    Args:
        config: its settings.
        in_width: width of node features.
        classes: number of logits.
        kind: what an instance is.
        edge_width: width of edge features; None where the graph has none.
    """

    def __init__(
        self, config: Any, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__()
        self.config, self.in_width, self.classes = config, in_width, classes
        self.kind, self.edge_width = kind, edge_width

    def penalty(self, output: Output, train: TrainConfig) -> Tensor:
        """What training adds to the loss, weighted, a scalar: zero here; `StemGNN` overrides it."""
        return torch.zeros(())
