"""Different networks, each trained by itself, whose logits are mixed by one weight each that validation finds.

Stacked generalisation (Wolpert, 1992) with weights on the simplex, as `stemlib.model.mixture` has them. There the
networks share settings and the best epoch; here each has its own, and what one rival alone would have been given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from stemlib.baselines.networks import Baseline
from stemlib.data.graph import Graph
from stemlib.data.tasks import Kind
from stemlib.model.mixture import validated_gate
from stemlib.model.network import Network, Output
from stemlib.presets import BaselineConfig, StackedConfig


class Stacked(Network):
    """`K` networks that were trained apart; logits `sum_k g_k z_k`, see `stemlib.model.mixture.Mixture`.

    Args:
        config: which networks, how large.
        in_width, classes, kind, edge_width: see `Network`.
    """

    def __init__(
        self, config: StackedConfig, in_width: int, classes: int, kind: Kind = "node", edge_width: int | None = None
    ) -> None:
        super().__init__(config, in_width, classes, kind, edge_width)
        shape = (in_width, classes, kind, edge_width)
        kinds = config.networks.split()
        sizes = {"hidden": config.hidden, "layers": config.layers, "pool": config.pool}
        self.networks = nn.ModuleList(Baseline(BaselineConfig(each, **sizes), *shape) for each in kinds)
        self.register_buffer("gate", torch.full((len(kinds),), 1 / len(kinds)))

    @property
    def last_maps(self) -> list[nn.Module]:
        """Those of all networks."""
        return [last for network in self.networks for last in network.last_maps]

    @torch.no_grad()
    def take(self, trained: Sequence[Baseline]) -> None:
        """Have the weights of networks that were trained, in the order of `config.networks`.

        Raises:
            RuntimeError: one of another shape.
        """
        for own, other in zip(self.networks, trained, strict=True):
            own.load_state_dict(other.state_dict())
        self.unit.copy_(trained[0].unit)

    def forward(self, graph: Graph | Data, instances: Tensor | None) -> Output:
        """Logits of nodes `[M]`, pairs of nodes `[M, 2]`, or all graphs (None): the networks' own, and mixed."""
        parts = torch.stack([network(graph, instances).logits for network in self.networks], dim=1)
        mixed = self.mixed(parts)
        return Output(mixed, mixed, parts=parts)

    def mixed(self, parts: Tensor) -> Tensor:
        """`sum_k g_k z_k`, `[M, classes]`, of the networks' own logits `[M, K, classes]`."""
        return parts.transpose(1, 2) @ self.gate.to(parts)

    def settled(self, answers: Tensor, labels: Tensor, regression: bool = False) -> Tensor:
        """Weigh the networks by validation's answers, the first of `answers` `[M, K, classes]`; then mix all."""
        self.gate.copy_(validated_gate(answers[: len(labels)], labels, regression, self.config.gate_counts))
        return self.mixed(answers)
