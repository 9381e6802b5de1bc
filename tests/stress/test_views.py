from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, random_graph

from stemlib.data.graph import Graph, plain, sorted_by_target
from stemlib.data.sampling import neighbourhood
from stemlib.stress.views import drop_edges, view


def typed(nodes: int = 12, edges: int = 60, seed: int = 0) -> Graph:
    """A graph whose edge types name their edges."""
    graph = random_graph(nodes, edges, seed=seed)
    graph.edge_attr, graph.edge_type = torch.randn(edges, 3), torch.arange(edges)
    return sorted_by_target(graph)


def facts(graph: Graph) -> dict[int, tuple[int, int]]:
    """Ends by type."""
    return dict(zip(graph.edge_type.tolist(), map(tuple, plain(graph.edge_index).T.tolist()), strict=True))


@few
@given(st.integers(1, 8), st.integers(0, 40), st.integers(0, 2**31))
def test_both_directions_share_one_fate_and_edges_keep_what_is_theirs(nodes: int, edges: int, seed: int) -> None:
    graph = typed(nodes, edges, seed)
    torch.manual_seed(seed)
    seen = view(graph, 0.0, 0.5)
    before, after = facts(graph), facts(seen)
    assert after.items() <= before.items()
    lost = {frozenset(before[number]) for number in before.keys() - after.keys()}
    assert not lost & {frozenset(ends) for ends in after.values()}
    assert facts(graph) == before


def test_the_rates_are_the_ones_asked_for() -> None:
    graph = sorted_by_target(random_graph(200, 4000, width=2000))
    seen = view(graph, 0.2, 0.3)
    hidden = (seen.x == 0).all(0)
    assert hidden.double().mean() == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 2000) ** 0.5)
    assert seen.num_edges / 4000 == pytest.approx(0.7, abs=4 * (0.21 / 3900) ** 0.5)


def test_features_are_hidden_by_columns_and_otherwise_kept() -> None:
    graph = sorted_by_target(random_graph(30, 60, width=40))
    x = view(graph, 0.5, 0.0).x
    hidden = (x == 0).all(0)
    assert 0 < hidden.sum() < 40
    assert torch.equal(x[:, ~hidden], graph.x[:, ~hidden])
    assert graph.x.all()


def test_nothing_is_hidden_at_rate_zero() -> None:
    graph = typed()
    seen = view(graph, 0.0, 0.0)
    assert torch.equal(seen.x, graph.x)
    assert facts(seen) == facts(graph)


def test_a_directed_graph_gains_no_edge() -> None:
    """Higher to lower numbers only: PyG's undirected dropout would lose all of these."""
    graph = sorted_by_target(Graph(x=torch.ones(9, 2), edge_index=torch.tensor([[8] * 8, list(range(8))])))
    seen = view(graph, 0.0, 0.5)
    assert 0 < seen.num_edges < 8
    assert (seen.edge_index[0] == 8).all()


def test_an_edge_has_one_fate_in_all_hops() -> None:
    graph = typed(10, 80)
    part = neighbourhood(graph, torch.tensor([1, 4, 7]), (None, None))
    seen = view(part, 0.0, 0.5)
    first, second = (facts(hop) for hop in seen.hops)
    all_first, all_second = (facts(hop) for hop in part.hops)
    assert second.items() <= first.items() <= all_first.items()
    assert second.keys() == first.keys() & all_second.keys()
    assert 0 < len(first) < len(all_first)
    assert [hop.edge_index.sparse_size() for hop in seen.hops] == [hop.edge_index.sparse_size() for hop in part.hops]


def test_a_graph_without_edges_is_fine() -> None:
    graph = sorted_by_target(Graph(x=torch.ones(3, 2), edge_index=torch.empty(2, 0, dtype=torch.long)))
    assert view(graph, 0.5, 0.5).num_edges == 0


@pytest.mark.parametrize("stored", ["rows", "types"])
def test_dropped_edges_take_what_belongs_to_them_along(stored: str) -> None:
    graph = sorted_by_target(random_graph(50, 4000, edge_features=stored))
    thin = drop_edges(graph, 0.3)
    assert thin.num_edges == pytest.approx(0.7 * 4000, rel=0.05)
    assert graph.num_edges == 4000
    name = "edge_attr" if stored == "rows" else "edge_type"
    whole = {(*edge, *told) for edge, told in _told(graph, name)}
    assert all((*edge, *told) in whole for edge, told in _told(thin, name))


def _told(graph: Graph, name: str) -> list[tuple[list[int], list[float]]]:
    rows = getattr(graph, name).view(graph.num_edges, -1).tolist()
    return list(zip(plain(graph.edge_index).T.tolist(), rows, strict=True))


def test_every_hop_loses_the_same_edges() -> None:
    graph = typed(30, 300)
    part = neighbourhood(graph, torch.arange(5), (None, None))
    thin = drop_edges(part, 0.4)
    first, last = ({*facts(hop)} for hop in thin.hops)
    assert last == first & {*facts(part.hops[1])}
    assert 0 < len(first) < part.hops[0].num_edges
    assert thin.hops[0].mean is None


def test_what_was_made_of_the_nodes_alone_outlives_dropped_edges_and_nothing_else_does() -> None:
    graph = typed()
    of_nodes = graph.derived("nodes", lambda: object(), graph.x)
    of_edges = graph.derived("edges", lambda: object(), graph.edge_index)
    thin = drop_edges(graph, 0.5)
    assert thin.derived("nodes", lambda: object(), thin.x) is of_nodes
    assert thin.derived("edges", lambda: object(), thin.edge_index) is not of_edges
    assert graph.derived("edges", lambda: object(), graph.edge_index) is of_edges
