"""Routers that learn little or nothing: does learning where to send a node matter at all?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stemlib.model.routers.base import OUT, Linear, Router, Seen, only
from stemlib.presets import ModelConfig


class Hash(Router):
    """Sends every node to one expert, by a random hash of its input features; each layer has its own hash.

    Source: a control in Equifinality in Mixture of Experts. It should lower nothing: nodes alike in all but one feature
    are sent anywhere.
    """

    noisy = False

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.register_buffer("keys", torch.randint(2**61, (features,)) * 2 + 1)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]`, 0 or `-OUT`, from features `[T, d_0]`."""
        # Integers overflow the same way on every machine, in any order of addition: no rounding moves a node.
        mixed = ((seen.features.to_dense() * 1024).round().long() * self.keys).sum(1)
        chosen = ((mixed ^ (mixed >> 29)) * self.keys[0] >> 33) % self.experts
        return own.new_full((len(own), self.experts), -OUT).scatter_(1, chosen.unsqueeze(1), 0)


class Frozen(Router):
    """`pi = softmax(W h)` with a random `W` that is never trained; noise in training as in `linear`.

    Source: a control in Equifinality in Mixture of Experts. It should lower nothing.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        start = nn.Linear(width, experts)
        self.register_buffer("weight", start.weight.detach())
        self.register_buffer("bias", start.bias.detach())

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        return linear(own, self.weight, self.bias)


class Uniform(Router):
    """`pi_k = 1 / K`: no node is sent anywhere, not even in training.

    The null of all comparisons: its amplification is 0.
    """

    own_state, noisy = True, False

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]`, all 0."""
        return own.new_zeros(len(own), self.experts)


class Top1(Linear):
    """In evaluation `pi` is one-hot at the largest of `W h`; trained as `linear`, since a one-hot gate has no gradient.

    Source: a control in Equifinality in Mixture of Experts. Compared with `linear` it shows what soft mixing is worth.
    """

    def forward(self, own: Tensor, seen: Seen | None = None) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        logits = super().forward(own)
        if self.training:
            return logits
        chosen = nn.functional.one_hot(logits.argmax(-1), logits.size(-1)).bool()
        return only(chosen, logits)
