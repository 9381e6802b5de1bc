"""Buckets: who is evaluated. Equality with the reference is held in `test_parity.py`."""

from __future__ import annotations

import itertools
import math
from copy import copy

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import few, graph_task, graphs, link_task, node_task
from torch.nn import functional as F

from stemlib.data.graph import Graph, sorted_by_target
from stemlib.data.tasks import Task
from stemlib.stress import shifts
from stemlib.stress.shifts import (
    NODE_COVARIATES,
    Buckets,
    alignment_buckets,
    concentration,
    covariates,
    feature_homophily,
    instance_covariate,
    node_degree,
    tail_buckets,
)

numbers = st.lists(st.integers(-5, 5), min_size=10, max_size=60).map(
    lambda values: torch.tensor(values, dtype=torch.double)  # whole numbers, so that there are ties
)


def test_covariates_by_hand() -> None:
    """0 - 1 in both directions, 1 -> 2 in one, a self-loop at 2, node 3 alone."""
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [1.0, 1.0]])
    graph = Graph(x=x, edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 2]]))
    assert node_degree(graph).tolist() == [1, 2, 2, 0]
    torch.testing.assert_close(feature_homophily(graph), torch.tensor([0, 0.5**1.5, 0.5**0.5, 0]))


def test_homophily_does_not_depend_on_how_many_edges_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = node_task().graph
    whole = feature_homophily(graph)
    monkeypatch.setattr(shifts, "VALUES_AT_ONCE", 20)
    assert torch.equal(feature_homophily(graph), whole)


@few
@given(graphs)
def test_covariates_are_what_they_are_defined_as(graph: Graph) -> None:
    neighbours = {node: set() for node in range(graph.num_nodes)}
    for source, target in graph.edge_index.T.tolist():
        neighbours[source].add(target)
        neighbours[target].add(source)
    assert node_degree(graph).tolist() == [len(around) for around in neighbours.values()]
    expected = []
    for node, around in neighbours.items():
        others = [F.cosine_similarity(graph.x[node], graph.x[other], dim=0) for other in around - {node}]
        expected.append(torch.stack(others).mean() if others else graph.x.new_zeros(()))
    torch.testing.assert_close(feature_homophily(graph), torch.stack(expected))
    fast = sorted_by_target(graph)
    assert torch.equal(node_degree(fast), node_degree(graph))
    torch.testing.assert_close(feature_homophily(fast), feature_homophily(graph))


@few
@given(graphs)
def test_concentration_is_the_mean_jaccard_index_of_neighbours(graph: Graph) -> None:
    whole = nx.Graph()
    whole.add_nodes_from(range(graph.num_nodes))
    whole.add_edges_from((i, j) for i, j in graph.edge_index.T.tolist() if i != j)
    expected = torch.zeros(graph.num_nodes)
    for node, around in whole.adjacency():
        indices = [index for *_, index in nx.jaccard_coefficient(whole, [(node, other) for other in around])]
        expected[node] = sum(indices) / max(1, len(indices))
    torch.testing.assert_close(concentration(graph), expected)


def test_concentration_does_not_depend_on_how_many_rows_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = node_task().graph
    whole = concentration(graph)
    assert whole.unique().numel() > 20
    monkeypatch.setattr(shifts, "ROWS_AT_ONCE", 7)
    assert torch.equal(concentration(graph), whole)


def test_concentration_is_of_links_alone() -> None:
    task = link_task()
    assert covariates(task) == ["degree", "homophily", "concentration"]
    expected = concentration(task.graph)[task.pairs].mean(1)
    torch.testing.assert_close(instance_covariate(task, "concentration"), expected)
    for other in (node_task(), graph_task()):
        with pytest.raises(ValueError, match=f"no covariate 'concentration' for the {other.kind} task"):
            instance_covariate(other, "concentration")


@pytest.mark.parametrize("name", NODE_COVARIATES)
def test_links_take_the_mean_of_their_ends_and_graphs_of_their_nodes(name: str) -> None:
    nodes, links, graphs_ = node_task(), link_task(), graph_task()
    assert torch.equal(instance_covariate(nodes, name), NODE_COVARIATES[name](nodes.graph))
    of_node = NODE_COVARIATES[name](links.graph)
    torch.testing.assert_close(instance_covariate(links, name), of_node[links.pairs].mean(1))
    of_node = NODE_COVARIATES[name](graphs_.graph)
    expected = torch.stack([of_node[graphs_.graph.batch == i].mean() for i in range(graphs_.instances)])
    torch.testing.assert_close(instance_covariate(graphs_, name), expected)


def test_every_task_can_be_shifted(task: Task) -> None:
    assert covariates(task)[:2] == ["degree", "homophily"]
    for name in covariates(task):
        buckets = tail_buckets(instance_covariate(task, name))
        assert sum(buckets.counts.values()) == task.instances


def test_graphs_have_sizes_and_molecules_have_scaffolds() -> None:
    task = graph_task()
    assert covariates(task) == ["degree", "homophily", "size"]
    assert instance_covariate(task, "size").tolist() == task.graph.batch.bincount().tolist()
    molecules = copy(task.graph)
    molecules.scaffold = torch.arange(task.instances).clamp(max=29)  # the last three share one
    task = task.with_graph(molecules)
    assert covariates(task) == ["degree", "homophily", "size", "scaffold"]
    assert instance_covariate(task, "scaffold").tolist() == [1.0] * 29 + [3.0] * 3


@few
@given(numbers, st.sampled_from([0.05, 0.15, 0.3, 0.45]))
def test_tails_are_the_lowest_and_highest_and_the_rest_is_inside(covariate: torch.Tensor, tail: float) -> None:
    buckets = tail_buckets(covariate, tail)
    low, inside, high = (buckets.members[name] for name in ("OOD-low", "ID", "OOD-high"))
    assert torch.cat([low, inside, high]).sort().values.tolist() == list(range(len(covariate)))
    outer = max(1, math.floor(len(covariate) * tail))
    assert buckets.counts == {"ID": len(covariate) - 2 * outer, "OOD-low": outer, "OOD-high": outer}
    assert covariate[low].max() <= covariate[inside].min()
    assert covariate[inside].max() <= covariate[high].min()
    assert buckets.borders == (covariate[low].max(), covariate[high].min())
    assert buckets.covariate is covariate


def test_overlap_is_the_share_of_the_inside_that_ties_with_a_tail() -> None:
    buckets = tail_buckets(torch.tensor([1.0, 1, 1, 1, 2, 3, 4, 5, 9, 9]), 0.2)
    assert buckets.overlap == {"OOD-low": 2 / 6, "OOD-high": 0.0}
    assert tail_buckets(torch.ones(10)).overlap == {"OOD-low": 1.0, "OOD-high": 1.0}
    other = {"ID": torch.tensor([1, 2]), "of another covariate": torch.tensor([0, 1, 2, 3])}
    assert Buckets(torch.arange(4.0), (), other).overlap == {"of another covariate": 0.0}


@few
@given(numbers)
def test_alignment_buckets_are_tenths_and_a_band(covariate: torch.Tensor) -> None:
    buckets = alignment_buckets(covariate)
    groups = [buckets.members[name] for name in ("OOD3", "OOD2", "OOD1", "ID")]
    borders = [math.floor(len(covariate) * share) for share in (0, 0.1, 0.2, 0.3, 0.8)]
    assert [len(group) for group in groups] == [b - a for a, b in itertools.pairwise(borders)]
    assert torch.cat(groups).unique().numel() == borders[-1]
    for lower, higher in itertools.pairwise(groups):
        assert covariate[lower].max() <= covariate[higher].min()


@pytest.mark.parametrize(
    ("covariate", "message"),
    [
        (torch.tensor([1.0, 2.0]), r"at least 3 instances, got \(2,\)"),
        (torch.ones(12, 1), r"one value for each .*, got \(12, 1\)"),
        (torch.tensor([float("nan")] * 2 + [1.0] * 10), "NaN or infinite for 2 instances"),
        (torch.tensor([float("inf")] + [1.0] * 10), "NaN or infinite for 1 instances"),
    ],
)
def test_a_covariate_that_cannot_be_sorted_is_refused(covariate: torch.Tensor, message: str) -> None:
    for buckets in (tail_buckets, alignment_buckets):
        with pytest.raises(ValueError, match=message):
            buckets(covariate)


@pytest.mark.parametrize("tail", [0.0, -0.1, 0.5, 0.8])
def test_tails_that_leave_no_middle_are_refused(tail: float) -> None:
    with pytest.raises(ValueError, match=f"two tails of {tail:g} leave no middle of 10 instances"):
        tail_buckets(torch.arange(10.0), tail)


def test_too_few_instances_for_tenths_are_refused() -> None:
    with pytest.raises(ValueError, match="need 10 instances, got 9"):
        alignment_buckets(torch.arange(9.0))


@pytest.mark.parametrize("name", ["age", "scaffold"])
def test_an_unknown_covariate_is_refused(task: Task, name: str) -> None:
    with pytest.raises(ValueError, match=f"no covariate '{name}' for the {task.kind} task .*; there are degree, homo"):
        instance_covariate(task, name)
