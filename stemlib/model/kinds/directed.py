"""Filters that tell the two ends of an edge apart: ADPA's directed patterns, as further filters of an expert.

Edges lead from source to target, and messages follow them: `mean` reads the nodes that send to a node, `out` those that
it sends to, along the reversed edges. Of two hops the first word is the nearer one: `in_out` reads the nodes that a
node's senders send to, `out_in` those that send to its receivers; twice `in` is `two`. On an undirected graph `out` is
`mean`, and the others are `two`. All are means; edge features count if the last step is `in`. A walk that comes back
counts the node itself among the others.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch_geometric import EdgeIndex

from stemlib.data.graph import Graph, plain
from stemlib.model.messages import Spread, mean_over, neighbour_mean


def receivers(x: Tensor, graph: Graph) -> Tensor:
    """The mean over the nodes that each node of a whole graph sends to, `[N, d]`; zero for one that sends nothing."""

    def turned() -> Spread:
        size = (graph.num_nodes, graph.num_nodes)
        return mean_over(EdgeIndex(plain(graph.edge_index).flip(0), sparse_size=size).sort_by("col").values, x.dtype)

    return graph.derived(("receivers", x.dtype), turned, graph.edge_index) @ x


# From means `[T, d]`, the senders' states `[S, d]` and the edges, as every filter: see `stemlib.model.kinds.filters`.
DIRECTED: dict[str, Callable[[Tensor, Tensor, Graph], tuple[Tensor, float]]] = {
    "out": lambda mean, x, graph: (receivers(x, graph), 0.0),
    "in_out": lambda mean, x, graph: (neighbour_mean(receivers(x, graph), graph.edge_index), 0.0),
    "out_in": lambda mean, x, graph: (receivers(mean, graph), 0.0),
    "out_out": lambda mean, x, graph: (receivers(receivers(x, graph), graph), 0.0),
}
