"""Neighbourhood means: by definition, the fast path equal to the plain one, and independent of numbering."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import EXACT, few, graphs, random_graph, renumbered
from torch import Tensor
from torch_geometric import EdgeIndex

from stemlib.data.graph import Graph, node_features, plain, sorted_by_target
from stemlib.model.messages import edge_mean, message_mean, neighbour_mean


def by_definition(messages: Tensor, target: Tensor, nodes: int) -> Tensor:
    """The mean of the messages `[E, d]` that reach each node, one node after the other."""
    rows = [messages[target == node] for node in range(nodes)]
    return torch.stack([row.mean(0) if len(row) else messages.new_zeros(messages.size(1)) for row in rows])


def spelled_out(graph: Graph) -> Tensor:
    """Edge features one row per edge."""
    return graph.edge_attr if graph.edge_type is None else graph.edge_attr[graph.edge_type]


def test_a_path_of_three_nodes_by_hand() -> None:
    """0 -> 1 -> 2 <- 0, and a self-loop at 2 twice."""
    x = torch.tensor([[2.0], [4.0], [9.0]])
    edges = torch.tensor([[0, 1, 0, 2, 2], [1, 2, 2, 2, 2]])
    assert neighbour_mean(x, edges).tolist() == [[0.0], [2.0], [6.0]]


@few
@given(graphs)
def test_means_are_what_they_are_defined_as(graph: Graph) -> None:
    source, target = graph.edge_index
    torch.testing.assert_close(
        neighbour_mean(graph.x, graph.edge_index), by_definition(graph.x[source], target, len(graph.x))
    )
    torch.testing.assert_close(
        message_mean(graph.x, graph, None), by_definition(graph.x[source].relu(), target, len(graph.x))
    )
    if graph.edge_attr is None:
        return
    rows = spelled_out(graph)
    torch.testing.assert_close(edge_mean(graph, graph.edge_attr), by_definition(rows, target, len(graph.x)), **EXACT)
    table = torch.randn(len(graph.edge_attr), graph.x.size(1), dtype=torch.double)
    features = table if graph.edge_type is None else table[graph.edge_type]
    torch.testing.assert_close(
        message_mean(graph.x, graph, table),
        by_definition((graph.x[source] + features).relu(), target, len(graph.x)),
        **EXACT,
    )


@few
@given(graphs, st.integers(0, 2**31))
def test_the_sparse_path_equals_the_plain_path_in_value_and_gradient(graph: Graph, seed: int) -> None:
    fast = sorted_by_target(graph)
    weight = torch.randn(graph.x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    results = []
    for form in (graph, fast):
        x = graph.x.clone().requires_grad_()
        table = None
        if graph.edge_attr is not None:
            table = form.edge_attr.repeat(1, 2).requires_grad_()
        out = (neighbour_mean(x, form.edge_index) + message_mean(x, form, table)) * weight
        if table is not None:
            out = out + edge_mean(form, table) * weight
        out.sum().backward()
        results.append((out, x.grad))
    torch.testing.assert_close(*(out for out, _ in results), **EXACT)
    torch.testing.assert_close(*(gradient for _, gradient in results), **EXACT)


@few
@given(graphs)
def test_sorting_keeps_the_graph_the_same_graph(graph: Graph) -> None:
    def edges(form: Graph) -> list[tuple[float, ...]]:
        rows = plain(form.edge_index).T.double()
        if form.edge_attr is not None:
            rows = torch.cat([rows, spelled_out(form)], 1)
        return sorted(map(tuple, rows.tolist()))

    before = {name: value.clone() for name, value in vars(graph).items() if isinstance(value, torch.Tensor)}
    fast = sorted_by_target(graph)
    assert (plain(fast.edge_index)[1].diff() >= 0).all()
    assert edges(fast) == edges(graph)
    assert sorted_by_target(fast) is fast
    for name, value in before.items():  # the graph that was given is left alone
        assert torch.equal(getattr(graph, name), value)
        assert not isinstance(getattr(graph, name), EdgeIndex)


def test_an_edge_index_in_another_order_is_sorted_too() -> None:
    graph = random_graph(edge_features="rows")
    size = (graph.num_nodes, graph.num_nodes)
    expected = edge_mean(graph, graph.edge_attr)
    by_source, order = EdgeIndex(graph.edge_index, sparse_size=size).sort_by("row")
    for index, rows in ((by_source, graph.edge_attr[order]), (EdgeIndex(graph.edge_index), graph.edge_attr)):
        fast = sorted_by_target(Graph(x=graph.x, edge_index=index, edge_attr=rows))
        torch.testing.assert_close(neighbour_mean(graph.x, fast.edge_index), neighbour_mean(graph.x, plain(index)))
        torch.testing.assert_close(edge_mean(fast, fast.edge_attr), expected)


@few
@given(graphs, st.randoms(use_true_random=False))
def test_means_do_not_depend_on_how_nodes_and_edges_are_numbered(graph: Graph, random: object) -> None:
    order, edge_order = list(range(graph.num_nodes)), list(range(graph.num_edges))
    random.shuffle(order)
    random.shuffle(edge_order)
    other = renumbered(graph, torch.tensor(order), torch.tensor(edge_order, dtype=torch.long))
    torch.testing.assert_close(
        neighbour_mean(other.x, other.edge_index), neighbour_mean(graph.x, graph.edge_index)[order], **EXACT
    )
    if graph.edge_attr is not None:
        torch.testing.assert_close(edge_mean(other, other.edge_attr), edge_mean(graph, graph.edge_attr)[order], **EXACT)


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "sorted"])
def test_without_edges_every_mean_is_zero(fast: bool) -> None:
    graph = random_graph(nodes=3, edges=0, edge_features="types")
    graph = sorted_by_target(graph) if fast else graph
    assert neighbour_mean(graph.x, graph.edge_index).eq(0).all()
    assert edge_mean(graph, graph.edge_attr).eq(0).all()
    assert message_mean(graph.x, graph, None).eq(0).all()


def test_node_features_may_be_a_table_of_types() -> None:
    graph = Graph(x=torch.tensor([[1.0], [2.0], [3.0]]))
    assert node_features(graph) is graph.x
    assert node_features(graph, torch.tensor([2, 0])).tolist() == [[3], [1]]
    graph.node_type = torch.tensor([1, 1, 0, 2])
    assert node_features(graph).tolist() == [[2], [2], [1], [3]]
    assert node_features(graph, torch.tensor([3, 1])).tolist() == [[3], [2]]
