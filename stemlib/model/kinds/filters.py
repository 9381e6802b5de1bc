"""Experts that are different graph filters."""

from __future__ import annotations

import torch
from torch import Tensor

from stemlib.data.graph import Graph, plain
from stemlib.model.experts import drawn, mixture, side_by_side
from stemlib.model.kinds.base import Kind
from stemlib.model.kinds.directed import DIRECTED
from stemlib.model.messages import neighbour_mean, normalised
from stemlib.presets import ModelConfig

STEPS, RESTART = 8, 0.1  # of `ppr`

# Every filter is `others + share * h_i`: what a node reads from others, and how much of its own state stays in place.
Filtered = tuple[Tensor, Tensor | float]


def own_state(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """`h_i`: no edge is read."""
    return torch.zeros_like(x), 1.0


def low(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """`D^-1/2 (A + I) D^-1/2 h`, as in a GCN: low pass. Edge features are not read."""
    share = loop_share(graph, x)
    return normalised(graph, x.dtype) @ x - share * x, share


def neighbours(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """`mean_j h_j`, edge features included: the paper's own."""
    return mean, 0.0


def high(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """`h_i - mean_j h_j`, edge features included: high pass."""
    return -mean, 1.0


def two(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """The mean of the neighbours' means: two hops, edge features of the farther one included."""
    return neighbour_mean(mean, graph.edge_index), 0.0


def ppr(mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
    """Eight steps of `z = 0.9 P z + 0.1 h` from `h`, with the `P` of `low`: personalised PageRank. No edge features."""
    spread, loop = normalised(graph, x.dtype), loop_share(graph, x)
    z, share = x, torch.ones_like(loop)
    for _ in range(STEPS):
        z = (1 - RESTART) * (spread @ z) + RESTART * x
        share = (1 - RESTART) * loop * share + RESTART  # of walks that never leave the node
    return z - share * x, share


FILTERS = {"self": own_state, "low": low, "mean": neighbours, "high": high, "two": two, "ppr": ppr} | DIRECTED
WHOLE = ("low", "two", "ppr", *DIRECTED)  # they read more than the edges that end in a node


def loop_share(graph: Graph, x: Tensor) -> Tensor:
    """The diagonal of `normalised(graph)`, `[N, 1]`: one over the number of edges from others plus the loop."""

    def shares() -> Tensor:
        source, target = plain(graph.edge_index)
        degree = x.new_ones(graph.num_nodes).index_add_(0, target, (source != target).to(x.dtype))
        return degree.reciprocal().unsqueeze(1)

    return graph.derived(("loop share", x.dtype), shares, graph.edge_index)


class Filters(Kind):
    """`out_k = [(F_k h)_i ; h_i] W_k`: the experts are different filters `F_k`, taken in turn from `filters`.

    Our own; the paper's theorem splits low and high frequency. If there are more experts, the filters start again; if
    there are more filters, the last are not used. It is meant to lower coverage.

    Raises:
        ValueError: a filter that does not exist, or none.
    """

    def __init__(self, in_width: int, out_width: int, config: ModelConfig) -> None:
        super().__init__(in_width, out_width, config)
        names = config.filters.split()
        if not names or not set(names) <= FILTERS.keys():
            known = ", ".join(FILTERS)
            raise ValueError(f"filters must be some of {known}, separated by spaces; got {config.filters!r}")
        turns = [names[k % len(names)] for k in range(config.experts)]
        self.names = list(dict.fromkeys(turns))
        self.places = [self.names.index(name) for name in turns]
        self.maps = drawn(config.experts, in_width, out_width, config.expert_init)

    @property
    def whole(self) -> bool:
        """Whether a filter reads more than the edges that end in a node: degrees of senders, or farther nodes."""
        return any(name in WHOLE for name in self.names)

    def gather(self, mean: Tensor, x: Tensor, graph: Graph) -> Tensor:
        """For every filter what is read from others, and the own state's share, `[T, F, d + 1]`."""
        found = [self._filtered(name, mean, x, graph) for name in self.names]
        return torch.stack([torch.cat([others, _column(share, others)], 1) for others, share in found], 1)

    def _filtered(self, name: str, mean: Tensor, x: Tensor, graph: Graph) -> Filtered:
        return FILTERS[name](mean, x if name in WHOLE else x[: len(mean)], graph)

    def changes(self, gathered: Tensor, own: Tensor) -> Tensor:
        """`[(F_k h)_i ; h_i] W_k`, `[T, K, d']`."""
        of_read, of_own = self.maps.chunk(2, dim=1)
        read = [torch.addcmul(rows[:, :-1], rows[:, -1:], own) for rows in gathered.unbind(1)]
        changes = torch.stack([read[place] @ weight for place, weight in zip(self.places, of_read, strict=True)], 1)
        return changes.add_((own @ side_by_side(of_own)).unflatten(-1, (self.experts, -1)))

    def projected(self, x: Tensor, graph: Graph) -> Tensor:
        """`changes` from states `[S, d]`, full or sparse, mapped before neighbours' are read; no edge features."""
        of_read, of_own = (side_by_side(part).chunk(self.experts, 1) for part in self.maps.chunk(2, dim=1))
        mapped = (x @ torch.cat([*of_read, *of_own], dim=1)).chunk(2 * self.experts, dim=1)
        outputs = [own[: graph.num_nodes] for own in mapped[self.experts :]]
        for k, place in enumerate(self.places):
            states = mapped[k]
            others, share = self._filtered(self.names[place], neighbour_mean(states, graph.edge_index), states, graph)
            outputs[k] = outputs[k] + others + share * states[: graph.num_nodes]
        return torch.stack(outputs, 1)

    def mix(self, products: Tensor, x: Tensor, gates: Tensor) -> Tensor:
        """The layer's output `[T, d']` from the `projected` ones of its experts."""
        mixed = mixture(gates, products)
        return mixed + x.to_dense() if self.residual else mixed


def _column(share: Tensor | float, like: Tensor) -> Tensor:
    return share if isinstance(share, Tensor) else like.new_full((len(like), 1), share)
