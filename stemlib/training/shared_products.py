"""The first layer's expert products, computed once for an evaluation and the training step that follows it.

Between the two no weight changes; nor, without dropout on the features, does the first layer's input. So
`[mean_i ; x_i] W_k` is the same, and the step only needs its gradient: a fifth of the work at the reference's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stemlib.data.graph import Graph
from stemlib.model.encoder import Encoder
from stemlib.model.experts import RoutedSAGE, side_by_side
from stemlib.model.messages import neighbour_mean

MOST_VALUES = 2**28  # that are kept: 1 GB


class SharedProducts:
    """`[mean ; x] W_k` of some nodes, computed once and again after `forget`, always in the same place.

    Args:
        layer: the first layer.
        inputs: `[mean ; x]` `[n, 2 d_in]`.
    """

    def __init__(self, layer: RoutedSAGE, inputs: Tensor) -> None:
        self.layer, self.inputs = layer, inputs
        self._version: int | None = None  # of the weights; loading some changes it, a fused optimiser's step does not
        self._products = inputs.new_empty(len(inputs), layer.weight[:, 0].numel())

    def forget(self) -> None:
        """To be called after an optimiser's step."""
        self._version = None

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The products `[n, K d_out]`, without gradient."""
        weight = self.layer.weight
        if self._version != weight._version:
            torch.mm(self.inputs, side_by_side(weight), out=self._products)
            self._version = weight._version
        return self._products


class CachedProducts:
    """A batch's products: `rows`, positions `[T]` among the nodes of `shared`, or a slice (no copy is made)."""

    def __init__(self, shared: SharedProducts, rows: Tensor | slice) -> None:
        self.shared, self.rows, self.inputs = shared, rows, shared.inputs[rows]

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Inputs `[T, 2 d_in]` and products `[T, K d_out]`; neither has a gradient."""
        return self.inputs, self.shared()[self.rows]


def share_first_products(encoder: Encoder, graph: Graph, parts: Sequence[Graph]) -> SharedProducts | None:
    """Let some neighbourhoods of one graph share the first layer's products, where that layer's input is fixed.

    Args:
        encoder: nothing is done if its first layer is too large or not as published, reads edge features or drops any.
        graph: the whole graph, edges sorted by target, on any device.
        parts: `stemlib.data.sampling.neighbourhood`s of it with all neighbours; their first hop gets `products`.

    Returns:
        The shared products, to be forgotten after every step of an optimiser; or None.
    """
    plain = encoder.is_routed[0] and encoder.as_published and not encoder.config.input_dropout
    if not plain or graph.edge_attr is not None:
        return None
    graph = graph.on(parts[0].nodes.device)
    computed = [part.nodes[: part.hops[0].num_nodes] for part in parts]
    largest = max(computed, key=len)
    seen = torch.zeros(graph.num_nodes, dtype=torch.bool, device=largest.device)
    seen[torch.cat(computed)] = True
    needed = torch.cat([largest, seen.index_fill_(0, largest, False).nonzero().flatten()])
    layer = encoder.layers[0]
    if needed.numel() * layer.weight[:, 0].numel() > MOST_VALUES:
        return None
    mean = neighbour_mean(graph.x, graph.edge_index)[needed]
    shared = SharedProducts(layer, torch.cat([mean, graph.x[needed]], dim=1))
    position = torch.full_like(seen, -1, dtype=torch.long)
    position[needed] = torch.arange(needed.numel(), device=needed.device)
    for part, nodes in zip(parts, computed, strict=True):
        part.hops[0].products = CachedProducts(shared, slice(len(nodes)) if nodes is largest else position[nodes])
    return shared
