"""Links predicted from the walks between their ends: NBFNet, without the states that no queried pair reads.

Zhu et al., "Neural Bellman-Ford Networks: A General Graph Neural Network Framework for Link Prediction" (NeurIPS 2021).
A dense pass has a state for every head and node, `[H, N, d]`. Layers here map zero to zero, so that a node has a state
only if a walk from the head has reached it, and only those states count from which a walk of the remaining steps
reaches a tail: the same numbers from thousands of times fewer states.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.models import MLP
from torch_geometric.utils.sparse import index2ptr

from stemlib.baselines.networks import network_input
from stemlib.data.graph import Graph, plain
from stemlib.data.sampling import spans
from stemlib.data.tasks import Kind
from stemlib.devices import device_of
from stemlib.model.layers import Dropout
from stemlib.model.network import Network, Output
from study.rivals.common_neighbours import require_links
from study.rivals.settings import NBFNetConfig

CHUNK = 2048  # pairs whose walks are looked for at once


class Walks(NamedTuple):
    """The edges of all walks from heads to their tails, each in its head's copy of the graph.

    Attributes:
        nodes: how many nodes of copies there are, `S`.
        edges: positions in `edge_index`, `[e]`.
        source, target: of the edges, numbers below `S`, `[e]`.
        heads: where the walks begin, `[H]`.
        tails: the tail of every pair, `[M]`; `S` if no walk reaches it.
    """

    nodes: int
    edges: Tensor
    source: Tensor
    target: Tensor
    heads: Tensor
    tails: Tensor


class Routes:
    """A graph in which walks are looked for; on the CPU.

    Args:
        graph: `edge_index` `[2, E]`.
        hub: a node that more edges leave is on walks only as their head or end.
    """

    def __init__(self, graph: Graph, hub: int) -> None:
        self.nodes, self.ends = graph.num_nodes, plain(graph.edge_index).cpu()
        self.order = [end.argsort(stable=True) for end in self.ends]  # the edges that leave a node, that end in it
        sorted_ends = [end[order] for end, order in zip(self.ends, self.order, strict=True)]
        self.first = [index2ptr(end, self.nodes) for end in sorted_ends]
        self.passes = self.first[0].diff() <= hub

    def walks(self, pairs: Tensor, steps: int) -> Walks:
        """All walks of at most `steps` steps from the head to the tail of each of the `pairs` `[M, 2]`.

        Each end searches half of the steps. From where the searches met, the edges that were found are traced back for
        as many steps: an edge is kept if what it leads to was kept in the step before, and if it was found soon enough
        to be taken that early in a walk.
        """
        heads, copy = pairs[:, 0].unique(return_inverse=True)
        begin = torch.arange(len(heads)) * self.nodes + heads
        end = copy * self.nodes + pairs[:, 1]
        halves = (
            self._search(heads, begin, (steps + 1) // 2, along=0),
            self._search(heads, end.unique(), steps // 2, along=1),
        )
        met = halves[0][0][torch.isin(halves[0][0], halves[1][0], assume_unique=True)]
        kept = []
        for _, found in halves:
            reached = met
            for last in range(len(found), 0, -1):
                edges, near, far = (torch.cat(parts) for parts in zip(*found[:last], strict=True))
                useful = torch.isin(far, reached)
                kept.append(near[useful] // self.nodes * self.ends.size(1) + edges[useful])
                reached = torch.cat([reached, near[useful]]).unique()
        copies = torch.cat(kept).unique()
        copy_start, edges = copies // self.ends.size(1) * self.nodes, copies % self.ends.size(1)
        states, place = torch.cat([begin, *(copy_start + node[edges] for node in self.ends)]).unique(
            return_inverse=True
        )
        of_heads, source, target = place.split([len(begin), len(edges), len(edges)])
        tails = torch.searchsorted(states, end).clamp(max=len(states) - 1)
        tails[states[tails] != end] = len(states)
        return Walks(len(states), edges, source, target, of_heads, tails)

    def _search(self, heads: Tensor, start: Tensor, steps: int, along: int) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Breadth first from `start`, along edges (0) or against them (1).

        Returns:
            The nodes reached, as `copy N + node`, and for each step the edges taken: which, from where, to where.
        """
        seen = frontier = start
        found = []
        for _ in range(steps):
            if along == 0:
                frontier = frontier[self._passing(heads, frontier)]
            node = frontier % self.nodes
            places, owner = spans(self.first[along][node], self.first[along].diff()[node])
            edges, near = self.order[along][places], frontier[owner]
            far = near - near % self.nodes + self.ends[1 - along][edges]
            if along == 1:
                passing = self._passing(heads, far)
                edges, near, far = edges[passing], near[passing], far[passing]
            found.append((edges, near, far))
            frontier = far.unique()
            frontier = frontier[~torch.isin(frontier, seen, assume_unique=True)]
            seen = torch.cat([seen, frontier])
        return seen, found

    def _passing(self, heads: Tensor, states: Tensor) -> Tensor:
        node = states % self.nodes
        return self.passes[node] | (node == heads[states // self.nodes])


class Round(nn.Module):
    """One round of generalised Bellman-Ford: messages `h_x * w_r` along edges, summed with the boundary, and mapped.

    `h + relu(norm([h ; sum] W))`, like the authors', but zero where no walk came: no bias, and a norm without a mean.

    Args:
        width: of the states.
        edge_width: of edge features, of which `w_r` is a linear map; None: one `w` is learnt.
    """

    def __init__(self, width: int, edge_width: int | None) -> None:
        super().__init__()
        self.relation = nn.Parameter(torch.ones(1, width)) if edge_width is None else nn.Linear(edge_width, width)
        self.update = nn.Sequential(nn.Linear(2 * width, width, bias=False), nn.RMSNorm(width, eps=1e-5), nn.ReLU())

    def forward(self, h: Tensor, boundary: Tensor, graph: Graph, walks: Walks) -> Tensor:
        """States `[S, d]` from those of the round before."""
        if graph.edge_attr is None:
            messages = h[walks.source] * self.relation
        else:
            rows = walks.edges if graph.edge_type is None else graph.edge_type[walks.edges]
            messages = h[walks.source] * self.relation(graph.edge_attr)[rows]
        return h + self.update(torch.cat([h, boundary.index_add(0, walks.target, messages)], 1))


class BellmanFord(Network):
    """An MLP that reads the tail's state, after some rounds from the head, and both ends' features.

    What differs: relations are predicted, so that walks start from one learnt vector, not from the relation's; the sum
    takes the place of principal neighbourhood aggregation; the ends' features are read as well, by `network_input`, for
    all other networks have them; walks do not pass through nodes with more than `hub` edges, which bounds the cost.

    Args:
        config: how many rounds, how wide.
        in_width, classes, kind, edge_width: see `Network`.

    Raises:
        ValueError: a task that is not about links.
    """

    def __init__(
        self, config: NBFNetConfig, in_width: int, classes: int, kind: Kind = "link", edge_width: int | None = None
    ) -> None:
        require_links(kind, "NBFNet")
        super().__init__(config, in_width, classes, kind, edge_width)
        self.start = nn.Parameter(torch.ones(config.width))
        self.rounds = nn.ModuleList(Round(config.width, edge_width) for _ in range(config.rounds))
        self.input_dropout = Dropout(config.input_dropout)
        width = config.width + 2 * (in_width + (edge_width or 0))
        self.head = MLP([width, config.hidden, classes], dropout=config.dropout, norm=None)

    @property
    def last_maps(self) -> list[nn.Module]:
        """The last layer of the head."""
        return [self.head.lins[-1]]

    def walked(self, graph: Graph, pairs: Tensor) -> Tensor:
        """What walks from head to tail say about the `pairs` `[M, 2]`, `[M, d]`; zero where there is none."""
        hub, steps, device = self.config.hub, self.config.rounds, device_of(self)
        routes = graph.derived(("routes", hub), lambda: Routes(graph, hub), graph.edge_index)
        order = pairs[:, 0].cpu().argsort(stable=True)  # brings the pairs of a head together
        parts = []
        for some in pairs.cpu()[order].split(CHUNK):
            found = routes.walks(some, steps)
            walks = Walks(*(value.to(device) if isinstance(value, Tensor) else value for value in found))
            boundary = self.start.new_zeros(walks.nodes, len(self.start)).index_add(
                0, walks.heads, self.start.expand(len(walks.heads), -1)
            )
            h = boundary
            for one in self.rounds:
                h = one(h, boundary, graph, walks)
            parts.append(torch.cat([h, h.new_zeros(1, h.size(1))])[walks.tails])
        return torch.cat(parts)[order.argsort()]

    def forward(self, graph: Graph | Data, instances: Tensor) -> Output:
        """Logits and states of pairs of nodes `[M, 2]`."""
        graph = Graph.of(graph).on(device_of(self))
        x = self.input_dropout(network_input(graph, self.edge_width))
        states = torch.cat([self.walked(graph, instances), x[instances].flatten(1)], 1)
        return Output(self.head(states), states)
