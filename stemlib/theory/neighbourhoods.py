"""Which neighbours a node can lose, and what its mean can then become: Statement 3.12 of docs/theory.md.

All edges between two nodes share one fate, as in `stemlib.stress.corruptions.delete_edges`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from stemlib.data.graph import Graph, plain
from stemlib.model.experts import mixture

NUMBERS = 2**22  # held for edges at once


class Neighbourhoods:
    """The distinct neighbours that each node hears, `[E]` in all, and how often.

    Attributes:
        nodes: their number `N`.
        heard: how often, as a matrix `[N, N]`.
        degree: edges that end in each node, `[N]`.
        distinct: distinct neighbours of each node, `[N]`.
    """

    def __init__(self, graph: Graph) -> None:
        source, target = plain(graph.edge_index)
        self.nodes = graph.num_nodes
        pairs, times = (target * self.nodes + source).unique(return_counts=True)  # in the order of targets
        self.target, self.source = pairs // self.nodes, pairs % self.nodes
        self.times = times.double()
        self.distinct = self.target.bincount(minlength=self.nodes)
        self.degree = torch.zeros(self.nodes).double().index_add_(0, self.target, self.times)
        size = (self.nodes, self.nodes)
        self.heard = torch.sparse_coo_tensor(torch.stack([self.target, self.source]), self.times, size).to_sparse_csr()
        self.loops = torch.zeros(self.nodes).double()
        loop = self.source == self.target
        self.loops[self.target[loop]] = self.times[loop]

    def total(self, values: Tensor) -> Tensor:
        """Sums over neighbours of what nodes have, `[N, ...]`, each counted as often as it is heard."""
        return _total(self.heard, values)

    def mean(self, values: Tensor) -> Tensor:
        """Means over neighbours, `[N, ...]`; 0 for a node that hears none."""
        return _mean(self.heard, self.degree, values)

    def mean_among(self, nodes: Tensor) -> Callable[[Tensor], Tensor]:
        """`mean` for some nodes `[n]` of what they have, `[n, ...]`; their other neighbours have zeros."""
        place = torch.full((self.nodes,), -1).index_put((nodes,), torch.arange(len(nodes)))
        pairs = place[torch.stack([self.target, self.source])]
        inside = (pairs >= 0).all(0)
        size = (len(nodes), len(nodes))
        heard = torch.sparse_coo_tensor(pairs[:, inside], self.times[inside], size).to_sparse_csr()
        return partial(_mean, heard, self.degree[nodes])

    def largest(self, values: Tensor, count: int) -> Tensor:
        """The `count` largest of each node's neighbours' values `[E]`, the largest first, then zeros: `[count, N]`."""
        order = values.argsort(descending=True)
        order = order[self.target[order].argsort(stable=True)]
        rank = torch.arange(len(order)) - (self.distinct.cumsum(0) - self.distinct)[self.target]
        top = values.new_zeros(count, self.nodes)
        kept = rank < count
        top[rank[kept], self.target[kept]] = values[order][kept]
        return top

    def left(self, count: int) -> Tensor:
        """The fewest edges that a node keeps when `0, ..., count` neighbours, not all, are lost: `[count + 1, N]`."""
        lost = torch.cat([self.degree.new_zeros(1, self.nodes), self.largest(self.times, count).cumsum(0)])
        return (self.degree - lost).clamp(min=1)

    def missing(self, states: Tensor, count: int, maps: Tensor | None = None, gates: Tensor | None = None) -> Tensor:
        """How far the mean over neighbours moves at most when up to `0, ..., count` of them are lost.

        Args:
            states: of all nodes, `[N, d]`, unchanged.
            count: at most.
            maps: to read the move through, `[K, d, e]`; None: as it is.
            gates: to mix the maps, `[N, K]`.

        Returns:
            `[count + 1, N]`.
        """
        images = states.unsqueeze(1) if maps is None else torch.einsum("nd,kde->nke", states, maps)
        gates = states.new_ones(len(states), 1) if gates is None else gates
        mean = self.mean(images)
        size = max(NUMBERS // images[0].numel(), 1)
        sizes = [
            torch.linalg.vector_norm(mixture(gates[target], images[source] - mean[target]), dim=-1)
            for source, target in zip(self.source.split(size), self.target.split(size), strict=True)
        ]
        found = states.new_zeros(count + 1, self.nodes)
        away = torch.cat(sizes)  # of each neighbour from the mean; the new mean is no further than the furthest
        found[1:] = self.largest(away * self.times, count).cumsum(0) / self.left(count)[1:]
        found = torch.minimum(found, self.largest(away, 1))
        lost = torch.arange(count + 1).unsqueeze(1)
        whole = torch.linalg.vector_norm(mixture(gates, mean), dim=-1)
        found = torch.where(lost < self.distinct, found, torch.where(lost == self.distinct, whole, 0.0))
        return found.cummax(0).values

    def kept(self, moves: Tensor, own: int, others: int) -> Tensor:
        """How far the mean over first-layer outputs moves by the neighbours' own moves when `own` of them are lost.

        `others` edges may be missing elsewhere. Each is heard at two nodes at most, and the neighbours kept have lost
        none of their edges to this node.

        Args:
            moves: of nodes that lost `0, 1, ...` edges, `[count + 1, N]`.
            own: lost here.
            others: missing elsewhere.
        """
        left = self.left(own)[own]
        found = self.total(moves[0]) + self.loops * (moves[own] - moves[0])
        if others:
            number = torch.arange(1, others + 1).unsqueeze(1)
            rate = ((moves[1 : others + 1] - moves[0]) / number).amax(0)
            found = found + others * self.largest(rate[self.source] * self.times, 2).sum(0)
        furthest = self.largest(moves[others][self.source], 1)[0]
        return torch.minimum(found / left, torch.maximum(furthest, moves[own] * (self.loops > 0)))

    def kept_all(self, moves: Tensor, own: int) -> Tensor:
        """The same if every neighbour may move as far as it can, `[N]`."""
        return self.total(moves) / self.left(own)[own]


def _total(heard: Tensor, values: Tensor) -> Tensor:
    return (heard @ values.flatten(1)).view_as(values) if values.dim() > 1 else heard @ values


def _mean(heard: Tensor, degree: Tensor, values: Tensor) -> Tensor:
    return _total(heard, values) / degree.clamp(min=1).view(-1, *[1] * (values.dim() - 1))
