"""Routers that read the graph: neighbours' votes, and descriptors of where a node lies."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter, softmax

from stemlib.data.graph import plain
from stemlib.model.messages import neighbour_mean
from stemlib.model.routers.base import Router, Seen, logs
from stemlib.model.routers.descriptors import DESCRIPTORS, degrees, descriptors
from stemlib.model.routers.states import far_apart
from stemlib.presets import ModelConfig


class Smoothed(Router):
    """`pi~ = S pi` with `pi = softmax(W h)`: neighbours vote, `S_ij = 1 / (d_i + 1)` for the node and each edge to it.

    Source: Improving Routing in Sparse MoE with Graph of Tokens, its graph form. It should lower amplification under
    masked features; where edges are lost, votes go with them.
    """

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate = nn.Linear(width, experts)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]`, `log(S pi)`, from senders' states `[S, d]`."""
        votes = self.gate(seen.x).to(own.dtype).softmax(-1)
        degree = degrees(seen.graph, own).unsqueeze(1)
        mean = neighbour_mean(votes, seen.graph.edge_index)
        return logs((degree * mean + votes[: len(own)]) / (degree + 1))


class Similar(Smoothed):
    """`smoothed` with `S_ij` proportional to `exp(h_i . h_j / (t sqrt(d)))` over the node and the edges to it.

    Source: Improving Routing in Sparse MoE with Graph of Tokens, its similarity form, scaled as attention is. It should
    lower amplification under masked features; losing an edge between unlike nodes matters less.
    """

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.temperature = config.router_temperature * width**0.5

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]`, `log(S pi)`, from senders' states `[S, d]`."""
        votes = self.gate(seen.x).to(own.dtype).softmax(-1)
        itself = torch.arange(len(own), device=own.device)
        source, target = torch.cat([plain(seen.graph.edge_index), itself.expand(2, -1)], dim=1)
        alike = (own[target] * seen.x[source]).sum(1) / self.temperature
        shares = softmax(alike, target, num_nodes=len(own)).unsqueeze(1)
        return logs(scatter(shares * votes[source], target, dim_size=len(own), reduce="sum"))


class Anchored(Router):
    """`pi = softmax(W h)`, with a prior `q = softmax(V a)` from what deployment can measure of a node.

    `a` are `stemlib.model.routers.descriptors`. The prior acts through the training term `KL(q, pi)`; without that the
    router is `linear` and `V` learns nothing. Source: AME-TS. It should lower selection under shift.
    """

    whole = True

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.gate = nn.Linear(width, experts)
        self.prior = nn.Linear(len(DESCRIPTORS), experts)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]`; leaves the prior's logarithms `[T, K]` as `("prior", level)`."""
        read = descriptors(seen.graph).to(own)
        seen.memory["prior", self.level] = self.prior(read).log_softmax(-1)
        return self.gate(own)


class Bilevel(Router):
    """`pi = sum_r rho_r pi_r`: a node's degree chooses among `regimes` routers, `rho = softmax(V log(1 + degree))`.

    Each chosen router sends to experts, `pi_r = softmax(W_r h)`. Degrees are those that the layer reads: if training
    draws neighbours, the drawn ones. Source: CaRE. It should lower selection on a pool of data sets.
    """

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.regimes = config.regimes
        self.choice, self.gates = nn.Linear(1, self.regimes), nn.Linear(width, self.regimes * experts)

    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from own states `[T, d]` and degrees."""
        regime = self.choice(degrees(seen.graph, own).log1p().unsqueeze(1)).to(own.dtype).softmax(-1)
        gates = self.gates(own).to(own.dtype).unflatten(1, (self.regimes, -1)).softmax(-1)
        return logs((regime.unsqueeze(2) * gates).sum(1))


class Fuzzy(Router):
    """`pi_k` proportional to `||a - c_k||^(-2 / t)`, in all layers: memberships by fuzzy C-means, fuzzifier `1 + t`.

    `a` are the `K` first principal components of `[features ; mean of the neighbours' features]`: with many columns all
    distances are alike, and all centres move to the mean. Components and centres are fitted to the first nodes that
    training shows, and fixed from then on. Source: GENNAPE. It should lower selection and amplification.
    """

    whole, noisy = True, False
    rounds = 50  # of fuzzy C-means

    def __init__(self, width: int, experts: int, config: ModelConfig, level: int, features: int) -> None:
        super().__init__(width, experts, config, level, features)
        self.temperature = config.router_temperature
        if level == 0:
            components = min(experts, 2 * features)
            self.register_buffer("basis", torch.eye(2 * features, components))
            self.register_buffer("centres", torch.randn(experts, components))
            self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def forward(self, own: Tensor, seen: Seen) -> Tensor:
        """Logits `[T, K]` from features and edges; the first layer leaves them as `("fuzzy", 0)`."""
        if self.level == 0:
            features = seen.features.to_dense()
            around = torch.cat([features, neighbour_mean(features, seen.graph.edge_index)], dim=1)
            if self.training and not self.fitted:
                _, _, basis = torch.svd_lowrank(around.double() - around.double().mean(0), self.basis.size(1), niter=4)
                self.basis.copy_(basis)
                self.centres.copy_(self._fit(around @ self.basis.to(around.dtype)))
                self.fitted.fill_(True)
            seen.memory["fuzzy", 0] = self._memberships(
                around @ self.basis.to(around.dtype), self.centres.to(around.dtype)
            )
        return seen.memory["fuzzy", 0][: len(own)]

    def _memberships(self, around: Tensor, centres: Tensor) -> Tensor:
        """Logits `[T, K]` of the memberships of descriptions `[T, a]` in clusters with these centres `[K, a]`."""
        exact = "donot_use_mm_for_euclid_dist"  # the other form cannot tell small distances from 0
        distance = torch.cdist(around, centres, compute_mode=exact)
        return -2 / self.temperature * distance.clamp(min=1e-6).log()

    def _fit(self, around: Tensor) -> Tensor:
        """Centres `[K, a]` of descriptions `[T, a]`."""
        centres = far_apart(around, self.experts)
        for _ in range(self.rounds):
            weight = self._memberships(around, centres).softmax(-1) ** (1 + self.temperature)
            centres = weight.T @ around / weight.sum(0).unsqueeze(1)
        return centres
