"""Routers that use only some of the experts, or trust themselves only where they are sure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemlib.model.routers.base import Router, Seen, logs, only
from stemlib.presets import ModelConfig


class TopK(Router):
    """`pi = softmax(W h)` over the `active` experts of largest logit; the others are out of use.

    Source: Robust QA by MoE (Switch), with its load-balance term. It should lower selection.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        if config.active == 1 < experts:
            raise ValueError(
                "router='topk' with active=1 learns nothing, as the gate of a single expert is 1: set active=2 or "
                "more, or router='top1', which is trained softly"
            )
        self.gate, self.active = nn.Linear(width, experts), min(config.active, experts)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        logits = self.gate(own)
        return only(ranks(logits) < self.active, logits)


class Dynamic(Router):
    """`pi = softmax(W h)` over the fewest experts with at least a share `mass` of the gates, up to a layer's capacity.

    Over the layers, capacity falls evenly from all experts to two (`descending`), rises (`ascending`), or rises to the
    middle layer and falls again (`pyramid`). Source: DynaMoE. It should lower coverage per cost.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate, self.mass = nn.Linear(width, experts), config.mass
        last = config.layers - 1 if config.routed == "all" else 0
        place = level / last if last else 1.0
        pyramid = 1 - abs(2 * place - 1) if last > 1 else 1.0  # neither of two layers is the middle one
        share = {"all": 1.0, "descending": 1 - place if last else 1.0, "ascending": place, "pyramid": pyramid}
        self.capacity = round(min(2, experts) + share[config.capacity] * (experts - min(2, experts)))

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        logits = self.gate(own)
        shares, rank = logits.softmax(-1), ranks(logits)
        largest = torch.zeros_like(shares).scatter(1, rank, shares)
        before = (largest.cumsum(1) - largest).gather(1, rank)  # the mass of those with larger gates
        return only((rank == 0) | ((before < self.mass) & (rank < self.capacity)), logits)


class Norm(Router):
    """`pi = softmax(s a)` over the experts with `a_k >= 0`, where `a = W h / ||W h||` and the scale `s` is learnt.

    If all of `a` are negative, the largest stays. Source: UniPool's NormRouter. It should lower amplification: the
    length of a state no longer counts.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate = nn.Linear(width, experts, bias=False)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        unit = nn.functional.normalize(self.gate(own), dim=1)
        return only(unit >= unit.amax(1, keepdim=True).clamp(max=0), self.scale * unit)


class Margin(Router):
    """`pi' = m pi + (1 - m) e_K` with `m = pi_(1) - pi_(2)`: unsure nodes take the last expert, which all share.

    `pi = softmax(W h)` is over the `K - 1` others. Sources: LLaVA-DyMoE; MoBiLE. It should lower amplification.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        if experts == 2:
            raise ValueError(
                "router='margin' with experts=2 has one expert beside the shared one, and always takes it: "
                "set experts=3 or more"
            )
        self.gate = nn.Linear(width, experts - 1) if experts > 1 else None

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        if self.gate is None:
            return own.new_zeros(len(own), 1)
        gates = self.gate(own).to(own.dtype).softmax(-1)
        first, second = gates.topk(2).values.split(1, dim=1)
        sure = first - second
        return logs(torch.cat([sure * gates, 1 - sure], dim=1))


def ranks(logits: Tensor) -> Tensor:
    """How many logits of a row `[T, K]` are larger than each, `[T, K]`; among equals the earlier counts as larger."""
    return logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
