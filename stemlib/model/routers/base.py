"""What a router is: a map from a layer's nodes to logits whose softmax gives the gates."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from stemlib.data.graph import Graph
from stemlib.presets import ModelConfig

OUT = 1e4  # so far below another logit, the gate of an expert is exactly 0


@dataclass
class Seen:
    """What a router may read besides its nodes' own states: `T` nodes are routed, `S` send messages to them.

    Attributes:
        x: states of the senders `[S, d]`, the first `T` of which are the routed nodes' own.
        graph: edges from the senders to the routed nodes; the whole graph for a router that is `whole`.
        features: input features of the routed nodes `[T, d_0]`, without dropout.
        memory: what routers of earlier layers left in this pass for later ones. A later layer may route fewer nodes:
            the first rows of what an earlier one left are theirs.
    """

    x: Tensor
    graph: Graph
    features: Tensor
    memory: dict[Hashable, Tensor] = field(default_factory=dict)


class Router(nn.Module):
    """Base class of all routers, one per routed layer.

    A router gives each node `K` logits; the gates are their softmax, in training with Gumbel noise. An expert that must
    not be used has a logit lower than the others by `OUT`.

    Args:
        width: width `d` of the states.
        experts: number of experts `K`.
        config: the architecture, with the router's own settings.
        level: which of the routed layers this is, from 0.
        features: width of the input features `d_0`.

    Attributes:
        own_state: whether logits depend on a node's own state alone.
        whole: whether it reads more of the graph than the edges that end in its nodes.
        noisy: whether training adds noise.
    """

    own_state: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    noisy: ClassVar[bool] = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__()
        self.width, self.experts, self.level = width, experts, level

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` of the nodes whose own states `[T, d]` are given."""
        raise NotImplementedError


class Linear(nn.Linear):
    """`pi = softmax(W h)`: the paper's own.

    It is not meant to lower anything: the others are compared with it.
    """

    own_state, whole, noisy = True, False, True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts)

    def forward(self, own: Tensor, seen: Seen | None = None) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        return super().forward(own)


def only(chosen: Tensor, logits: Tensor) -> Tensor:
    """The logits `[T, K]`, with experts that are not `chosen` `[T, K]` put out of use."""
    return torch.where(chosen, logits, logits.detach().amin(-1, keepdim=True) - OUT)


def logs(shares: Tensor) -> Tensor:
    """Logits `[T, K]` whose softmax gives known gates `[T, K]`; finite where a gate is 0."""
    return shares.clamp(min=1e-20).log()
