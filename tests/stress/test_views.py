from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, random_graph

from stemlib.data.graph import Graph, plain, sorted_by_target
from stemlib.data.sampling import neighbourhood
from stemlib.stress.views import view


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
