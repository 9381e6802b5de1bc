"""Routers that read a node's own state or features, and what routers said of it in earlier layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, normalize

from stemlib.model.routers.base import Router, Seen
from stemlib.presets import ModelConfig


class Cosine(Router):
    """`pi = softmax(cos(A h, c_k) / t)`: directions in a small space, with learnt centroids `c_k`.

    Source: Equifinality in Mixture of Experts. It should lower amplification: the length of a state no longer counts.
    """

    own_state = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.temperature = config.router_temperature
        self.project = nn.Linear(width, config.router_width, bias=False)
        self.centroids = nn.Parameter(torch.randn(experts, config.router_width))

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        return cosines(self.project(own), self.centroids) / self.temperature


class KMeans(Router):
    """`pi = softmax(cos(h, c_k) / t)` without gradient: `c_k` is the running mean of the states sent to `k`.

    The centroids start from states that lie far apart among the first that training shows. Source: Routers Learn the
    Geometry of Their Experts. It should lower amplification and selection.
    """

    own_state, noisy = True, False
    decay = 0.99

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.temperature = config.router_temperature
        self.register_buffer("centroids", torch.randn(experts, width))
        self.register_buffer("started", torch.tensor(False))

    @torch.no_grad()
    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`; in training the centroids then move."""
        if self.training and not self.started:
            self.centroids.copy_(far_apart(own, self.experts))
            self.started.fill_(True)
        logits = cosines(own, self.centroids) / self.temperature
        if self.training:
            sent = nn.functional.one_hot(logits.argmax(-1), self.experts).to(own.dtype)
            count = sent.sum(0).unsqueeze(1)
            mean = sent.T @ own / count.clamp(min=1)
            moved = self.decay * self.centroids + (1 - self.decay) * mean
            self.centroids.copy_(torch.where(count > 0, moved, self.centroids))
        return logits


class Recurrent(Router):
    """`s_l = GRU(A h_l, s_{l-1})`, `pi_l = softmax(W s_l)`: the router's state passes from layer to layer, from zero.

    Each layer has its own GRU, since widths differ. Source: Layerwise Recurrent Router. It should lower selection.
    """

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.project = nn.Linear(width, config.router_width)
        self.cell = nn.GRUCell(config.router_width, config.router_width)
        self.gate = nn.Linear(config.router_width, experts)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`; leaves the state `("state", level)` `[T, w]`."""
        read, before = self.project(own), seen.memory.get(("state", self.level - 1))
        before = torch.zeros_like(read) if before is None else before[: len(read)]
        state = seen.memory["state", self.level] = self.cell(read, before)
        return self.gate(state)


class Pregate(Router):
    """`pi = softmax(W x)` from the input features, in all layers; in training each layer has its own noise.

    Source: Read-ME. It should lower amplification, since no layer's states move it, and may raise coverage.
    """

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate = nn.Linear(features, experts) if level == 0 else None

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from features `[T, d_0]`; the first layer leaves them as `("pregate", 0)`."""
        if self.gate is not None:
            seen.memory["pregate", 0] = self.gate(seen.features.to_dense())
        return seen.memory["pregate", 0][: len(own)]


class Uncertain(Router):
    """`pi = softmax(mu / (1 + v))` with the mean and the variance of the logits `W (m_t h)` over `draws` dropout masks.

    That is the average of the draws and of a prior at 0 with variance 1, each weighted by its inverse variance: a logit
    that depends on a few entries of the state counts less. The masks are drawn once; training has one random mask.
    Source: MoFME's uncertainty-aware router. It should lower amplification.
    """

    own_state = True
    draws, share = 8, 0.2  # masks, and the share of entries that each drops

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate = nn.Linear(width, experts)
        self.register_buffer("masks", dropout(torch.ones(self.draws, width), self.share))

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`."""
        if self.training:
            return self.gate(dropout(own, self.share))
        masked = self.gate.weight * self.masks.unsqueeze(1)  # [draws, K, d]: weights are masked, for they are few
        drawn = linear(own, masked.flatten(0, 1), self.gate.bias.repeat(self.draws)).unflatten(1, (self.draws, -1))
        return drawn.mean(1) / (1 + drawn.var(1, correction=0))


def cosines(states: Tensor, centroids: Tensor) -> Tensor:
    """Cosines `[T, K]` of states `[T, d]` and centroids `[K, d]`; 0 where a state is 0."""
    return normalize(states, dim=1) @ normalize(centroids, dim=1).to(states.dtype).T


def far_apart(states: Tensor, count: int) -> Tensor:
    """Some of the states `[T, d]`, `[count, d]`: each the farthest from those before, the first from their mean."""
    chosen = states.mean(0, keepdim=True)
    for number in range(count):
        nearest = torch.cdist(states, chosen).amin(1)
        farthest = states[nearest.argmax()].unsqueeze(0)
        chosen = farthest if number == 0 else torch.cat([chosen, farthest])
    return chosen
