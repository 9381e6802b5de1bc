"""The common part of the kinds of experts that are not maps of `[mean ; own]` alone."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from stemlib.data.graph import Graph
from stemlib.presets import ModelConfig


class Kind(nn.Module):
    """Base class of such kinds: one routed layer's experts.

    Args:
        in_width: width `d` of the states.
        out_width: width `d'` of the outputs.
        config: the architecture, with the kind's own settings.

    Attributes:
        whole, side_by_side: see `stemlib.model.kinds`.
    """

    whole: ClassVar[bool] = False
    side_by_side: ClassVar[bool] = False

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__()
        self.experts, self.residual = config.experts, in_width == out_width

    def gather(self, mean: Tensor, x: Tensor, graph: Graph) -> Tensor:
        """What is read from other nodes: the mean `[T, d]`."""
        return mean

    def expert_outputs(self, gathered: Tensor, own: Tensor) -> Tensor:
        """Every expert's output `[T, K, d']` from what was gathered and own states `[T, d]`."""
        outputs = self.changes(gathered, own)
        return outputs + own.unsqueeze(1) if self.residual else outputs

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`expert_outputs` without the residual."""
        raise NotImplementedError
