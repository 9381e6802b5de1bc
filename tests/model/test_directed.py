"""Directed filters: each against its matrix, entry by entry."""

from __future__ import annotations

import pytest
import torch
from samples import EXACT, random_graph

from stemlib.data.graph import Graph, plain, sorted_by_target
from stemlib.model.kinds.directed import DIRECTED
from stemlib.model.kinds.filters import FILTERS
from stemlib.model.messages import neighbour_mean


def read(name: str, graph: Graph, x: torch.Tensor | None = None) -> torch.Tensor:
    x = graph.x if x is None else x
    others, share = FILTERS[name](neighbour_mean(x, graph.edge_index), x, graph)
    assert share == 0
    return others


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_pattern_is_the_product_of_its_steps(name: str, is_sorted: bool) -> None:
    """Loops, repeated edges, nodes that none sends to and nodes that send to none are among them."""
    graph = random_graph(nodes=14, edges=30)
    counts = torch.zeros(14, 14, dtype=torch.double)
    for source, target in plain(graph.edge_index).T.tolist():
        counts[target, source] += 1
    assert (counts.sum(0) == 0).any()
    assert (counts.sum(1) == 0).any()
    steps = {"in": counts, "out": counts.T}
    expected = graph.x
    for step in reversed(name.split("_")):
        expected = steps[step] / steps[step].sum(1, keepdim=True).clamp(min=1) @ expected
    graph = sorted_by_target(graph) if is_sorted else graph
    torch.testing.assert_close(read(name, graph), expected, **EXACT)
    x = graph.x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: read(name, graph, x), x)


def test_a_path_is_read_from_its_two_ends() -> None:
    graph = Graph(torch.eye(3), torch.tensor([[0, 1], [1, 2]]))  # 0 -> 1 -> 2
    nobody = [0.0, 0.0, 0.0]
    assert read("mean", graph).tolist() == [nobody, [1, 0, 0], [0, 1, 0]]
    assert read("out", graph).tolist() == [[0, 1, 0], [0, 0, 1], nobody]
    assert read("two", graph).tolist() == [nobody, nobody, [1, 0, 0]]
    assert read("out_out", graph).tolist() == [[0, 0, 1], nobody, nobody]


def test_on_an_undirected_graph_directions_are_one() -> None:
    graph = random_graph(nodes=10, edges=25)
    graph = sorted_by_target(Graph(graph.x, torch.cat([graph.edge_index, graph.edge_index.flip(0)], 1)))
    torch.testing.assert_close(read("mean", graph), read("out", graph), **EXACT)
    for name in ("in_out", "out_in", "out_out"):
        torch.testing.assert_close(read(name, graph), read("two", graph), **EXACT)


def test_the_edges_turned_round_are_made_once_and_anew_for_other_edges() -> None:
    graph = random_graph()
    before, kept = read("out", graph), graph._derived["receivers", torch.double]
    assert torch.equal(read("out", graph), before)
    assert graph._derived["receivers", torch.double] is kept
    graph.edge_index = graph.edge_index.flip(0)
    torch.testing.assert_close(read("out", graph), read("mean", Graph(graph.x, graph.edge_index.flip(0))), **EXACT)
