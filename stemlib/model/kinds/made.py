"""Experts that are maps of `[mean ; own]` like the paper's, with weights made from fewer numbers in every pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from stemlib.model.experts import RoutedSAGE, drawn
from stemlib.presets import ModelConfig


class Made(RoutedSAGE):
    """Base class: a `RoutedSAGE` whose `weight` `[K, 2 d, d']` is computed whenever it is read."""

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        nn.Module.__init__(self)  # not RoutedSAGE's, whose weight is a parameter
        self.count, self.residual = config.experts, in_width == out_width

    @property
    def experts(self) -> int:
        """Number of experts `K`."""
        return self.count

    @property
    def weight(self) -> Tensor:
        """The experts' weights `[K, 2 d, d']`."""
        raise NotImplementedError


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` in the factors' own precision, under autocast too: weights are rounded once, where they are used."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


class BigLittle(Made):
    """The last expert is small, `W_K = A B` with an eighth of the rank; the others are the paper's.

    Sources: Mowst; MoBiLE. It is meant to lower base sensitivity and cost: parameters of `K - 1` experts and a fifth.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        rank = max(1, out_width // 8)
        self.big = drawn(config.experts - 1, in_width, out_width, config.expert_init)
        self.down = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * in_width, rank)))
        self.up = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rank, out_width)))

    @property
    def weight(self) -> Tensor:
        """The experts' weights `[K, 2 d, d']`, the small one last."""
        return torch.cat([self.big, exact_product(self.down, self.up).unsqueeze(0)])


class Hyper(Made):
    """`W_k = (W_0 + a_1 W_1 + a_2 W_2) / sqrt(2)`, with `a` of length 1 from a small network that reads the index.

    Sources: Magnitude Invariant Parametrizations; infinity-MoE. The indices `t_k` are evenly spaced in [0, 1]; the
    network reads `(cos, sin)(t_k pi / 2)`, whose length is 1 for all. It has as many parameters as three experts,
    however many there are. It is meant to lower coverage.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        angle = torch.linspace(0, 1, config.experts, dtype=torch.double) * math.pi / 2
        self.register_buffer("index", torch.stack([angle.cos(), angle.sin()], 1).to(torch.get_default_dtype()))
        self.network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
        self.bases = drawn(3, in_width, out_width, config.expert_init)

    @property
    def weight(self) -> Tensor:
        """The experts' weights `[K, 2 d, d']`."""
        with torch.autocast(self.bases.device.type, enabled=False):
            turned = normalize(self.index + self.network(self.index), dim=1)
            return (self.bases[0] + torch.tensordot(turned, self.bases[1:], 1)) / math.sqrt(2)
