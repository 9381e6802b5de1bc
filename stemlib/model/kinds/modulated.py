"""One shared expert in `K` cheap variants."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemlib.model.experts import drawn, products_of
from stemlib.model.kinds.base import Kind
from stemlib.presets import ModelConfig


class Modulated(Kind):
    """`out_k = gamma_k * u + beta_k`, with the one shared expert `u = [mean ; own] W`.

    Sources: MoFME; compressed experts. At the start `gamma_k` is drawn around 1, so that experts differ. It is meant to
    lower coverage at equal parameters.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        self.shared = drawn(1, in_width, out_width, config.expert_init)
        self.scale = nn.Parameter(nn.init.normal_(torch.empty(config.experts, out_width), 1, 0.5))
        self.shift = nn.Parameter(torch.zeros(config.experts, out_width))

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`gamma_k * u + beta_k`, `[T, K, d']`."""
        return self.scale * products_of(self.shared, gathered, own) + self.shift


class Prompted(Kind):
    """`out_k = [mean + p_k ; own + p_k] W`: one shared expert, and a prompt `p_k` that is added to what it reads.

    Source: GMoPE. Keeping prompts apart is left to a training term. It is meant to lower selection in transfer.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        self.shared = drawn(1, in_width, out_width, config.expert_init)
        self.prompts = nn.Parameter(nn.init.normal_(torch.empty(config.experts, in_width), 0, 0.5))

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`[mean + p_k ; own + p_k] W`, `[T, K, d']`."""
        of_prompts = products_of(self.shared, self.prompts, self.prompts).squeeze(1)  # [K, d']
        return products_of(self.shared, gathered, own) + of_prompts
