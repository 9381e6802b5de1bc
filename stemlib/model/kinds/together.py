"""Experts that do not answer alone: beside one that is always on, or after reading each other's outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from stemlib.model.experts import drawn, products_of
from stemlib.model.kinds.base import Kind
from stemlib.presets import ModelConfig

SPACE = 16  # width in which experts read each other


class Condenser(Kind):
    """`out_k = u_k + s(h) u_K` for `k < K`, `out_K = s(h) u_K`: the last expert is always on, with its own gate `s`.

    Source: Preserving Long-Tailed Expert Information. `s` is a sigmoid of a linear map of the own state, so that any
    router's mixture contains `s u_K` in full, and for a node sent to the last expert no other answers. It is meant to
    lower amplification.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        self.maps = drawn(config.experts, in_width, out_width, config.expert_init)
        self.gate = nn.Linear(in_width, 1)

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`u_k + s u_K`, `[T, K, d']`."""
        routed, last = products_of(self.maps, gathered, own).split([self.experts - 1, 1], dim=1)
        always = torch.sigmoid(self.gate(own)).unsqueeze(1) * last
        return torch.cat([routed + always, always], dim=1)


class Collaborating(Kind):
    """`out_k = u_k + (softmax(Q K^T / sqrt(r)) V)_k B`: every expert's output reads all experts' in a small space.

    Source: Mixture of Thoughts. Queries, keys and values are maps of the outputs `u` into `r = 16` units. It is meant
    to lower selection.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        self.maps = drawn(config.experts, in_width, out_width, config.expert_init)
        self.read = nn.Linear(out_width, 3 * SPACE, bias=False)
        self.back = nn.Linear(SPACE, out_width, bias=False)

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`u_k` plus what it reads, `[T, K, d']`."""
        outputs = products_of(self.maps, gathered, own)
        return outputs + self.back(scaled_dot_product_attention(*self.read(outputs).chunk(3, dim=-1)))
