"""Experts that layers share: maps of `[mean ; own]`, all of the encoder's width.

A layer whose input has another width, as the first layer's usually has, projects it to `hidden` first; the projection
`P` is the layer's own, and a map of `[mean P ; own P]` is one of `[mean ; own]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemlib.model.experts import drawn
from stemlib.model.kinds.made import Made, exact_product
from stemlib.presets import ModelConfig


class _Pooled(Made):
    """Base class: a layer with or without a pool of maps `[n, 2 d', d']`, and a layer that lends it more."""

    def __init__(self, in_width: int, out_width: int, config: ModelConfig, maps: int) -> None:
        super().__init__(in_width, out_width, config)
        self.project = None if in_width == out_width else nn.Linear(in_width, out_width, bias=False)
        if self.project is not None:
            nn.init.xavier_uniform_(self.project.weight)
        self.pool = drawn(maps, out_width, out_width, config.expert_init)
        self.lender: tuple[_Pooled, ...] = ()  # at most one; inside a tuple it is not a submodule, and so saved once

    @property
    def weight(self) -> Tensor:
        """The experts' weights `[K, 2 d, d']`: the pool's, then the first of the lender's."""
        pools = [layer.pool for layer in (self, *self.lender) if layer.pool is not None]
        maps = torch.cat(pools)[: self.count]
        if self.project is None:
            return maps
        return torch.cat([exact_product(self.project.weight.T, half) for half in maps.chunk(2, dim=1)], dim=1)


class SharedPool(_Pooled):
    """`out_k = [mean ; own] W_k` with the same `W_1 .. W_K` in every routed layer.

    Source: UniPool. Every layer has a router of its own. It is meant to lower coverage at equal parameters.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config, config.experts)


class Reuse(_Pooled):
    """`W_1 .. W_K` are half the layer's own experts and half the next routed layer's; the last borrows from the first.

    Source: ReXMoE. A layer owns `K / 2` experts, rounded up. It is meant to lower coverage at equal parameters.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config, (config.experts + 1) // 2)


def share(layers: Sequence[SharedPool]) -> None:
    """All layers use the first one's pool."""
    for layer in layers[1:]:
        layer.pool, layer.lender = None, (layers[0],)


def lend(layers: Sequence[Reuse]) -> None:
    """Every layer lends to the one before it, the first one to the last.

    Raises:
        ValueError: a single layer of several experts, which has none to borrow from.
    """
    if len(layers) == 1 and layers[0].experts > 1:
        raise ValueError("expert='reuse' needs two routed layers; this encoder has one: use routed='all', layers=2")
    for layer, other in zip(layers, [*layers[1:], *layers[:1]], strict=True):
        layer.lender = (other,)
